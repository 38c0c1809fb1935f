"""The laboratory: models compared, devices simulated, parity checked."""
