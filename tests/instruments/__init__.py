"""Instruments that tests and benchmarks share: processes, sockets, clocks, faults."""
