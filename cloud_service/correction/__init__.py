"""Computes one correction: from the bytes of the request to the bytes of the response."""
