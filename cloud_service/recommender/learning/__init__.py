"""Learning on the device: patches, memory and samples; what the cloud fits, ships and simulates."""
