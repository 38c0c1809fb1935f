"""A device that asks for samples without a pause until it is stopped: `URL BUNDLE TOKEN`.

It is a process of its own, so that it holds up no other device. Prints how many it has got.
"""

import signal
import sys
from pathlib import Path

import numpy as np

from device_client.bundle import Bundle
from device_client.learning.samples import SamplesUnavailable, fetch_samples
from shared.samples import Query


def main() -> None:
    """Asks until SIGTERM."""
    url, folder, token = sys.argv[1:]
    bundle = Bundle.open(Path(folder))
    states = np.random.default_rng(1).standard_normal((4, bundle.manifest.model.dim), np.float32)
    count, is_stopped = 0, False

    def stop(*_: object) -> None:
        nonlocal is_stopped
        is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    print("asking", flush=True)
    while not is_stopped:
        try:
            fetch_samples(url, bundle, token, Query(states=states))
            count += 1
        except SamplesUnavailable:
            continue
    print(count, flush=True)


if __name__ == "__main__":
    main()
