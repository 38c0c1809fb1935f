"""Real processes for tests: started, waited for, and always ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours until the block ends; its output goes to `log`."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("CLOUD_")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=outside | environment,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address a cloud says it listens on, once it answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        for line in log.read_text().splitlines():
            if "running on http://" in line:
                url = line.split("running on ")[1].split()[0]
                if httpx.get(f"{url}/health").status_code == httpx.codes.OK:
                    return url
        time.sleep(0.05)
    raise AssertionError(log.read_text())
