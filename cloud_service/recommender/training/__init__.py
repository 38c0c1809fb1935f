"""Training: takes a model and data, knows nothing of HTTP."""
