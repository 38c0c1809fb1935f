"""What the cloud can do, without HTTP."""
