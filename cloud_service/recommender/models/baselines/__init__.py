"""Published recommenders to compare with, each in a file of its own."""
