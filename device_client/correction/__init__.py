"""The correction's way on the device: the link to the cloud and its budget."""
