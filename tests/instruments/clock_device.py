"""A device's day in short: a cloud that answers, one that is silent, a pause and its end.

    python tests/instruments/clock_device.py CLOUD_URL BUNDLE

Prints what became of every request, and which wall-clock hours it saw, as JSON.
"""

import json
import socket
import sys
import time
from pathlib import Path

import numpy as np

from device_client.bundle import Bundle
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.session import Session

CANDIDATES = np.arange(1, 60)
PATIENT = Budget(tolerance_ms=20_000, request_timeout_s=20)
HASTY = Budget(tolerance_ms=20, request_timeout_s=0.2)


def main() -> None:
    url, folder = sys.argv[1:]
    bundle = Bundle.open(Path(folder))
    begun, seen = time.time() - time.monotonic(), set()
    answered, silent, again = [], [], []
    with Session(bundle, CorrectionLink.to(url, bundle, budget=PATIENT), PATIENT) as session:
        for item in range(1, 31):
            session.click_row(item)
            answered.append(session.rerank_rows(CANDIDATES).outcome)
            time.sleep(0.02)
            seen.add(round((time.time() - time.monotonic() - begun) / 3600))
    with socket.create_server(("127.0.0.1", 0)) as listener:  # connects, and says nothing
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
        link = CorrectionLink.to(nobody, bundle, budget=HASTY)
        with Session(bundle, link, HASTY) as session:
            for item in range(1, 6):  # three that nobody answers, two that are not sent
                session.click_row(item)
                silent.append(session.settle(60).outcome)
                assert len(session.rerank_rows(CANDIDATES).order) == len(CANDIDATES)
            while link.breaker.open:  # 1 s
                time.sleep(0.01)
            session.click_row(7)
            again.append(session.settle(60).outcome)
    print(json.dumps({"answered": answered, "silent": silent, "again": again, "hours": len(seen)}))


if __name__ == "__main__":
    main()
