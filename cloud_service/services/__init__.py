"""Functions of the cloud without HTTP: candidates, jobs, model versions."""
