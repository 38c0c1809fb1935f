"""A disk that fails when a test says so."""

import os


class FaultyDisk:
    """Lets a function of `os` fail with an error of the system, until `error` is None."""

    def __init__(self, monkeypatch):
        self.error, self.calls, self._monkeypatch = None, 0, monkeypatch

    def break_(self, name, error):
        original = getattr(os, name)

        def call(*arguments, **options):
            if self.error is not None:
                self.calls += 1
                raise OSError(self.error, os.strerror(self.error))
            return original(*arguments, **options)

        self.error = error
        self._monkeypatch.setattr(os, name, call)
