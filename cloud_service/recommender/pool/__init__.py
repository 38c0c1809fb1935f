"""The pool of samples of a model version, from which devices that learn get some (CoDA)."""
