"""One correction: from the request's bytes to the answer's."""
