"""What one new click costs a device, of each model and for ever longer histories."""
