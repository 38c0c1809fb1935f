"""What learning on the device costs: a round, a click in it, a patched rank, memory."""
