"""The pool of samples for devices that learn: its speed, and what its samples give away."""
