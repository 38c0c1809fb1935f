"""One process of devices: sessions that begin and end, every request and every ranking noted.

    python -m benchmarks.soak.device NUMBER DEVICES CLOUD_URL PROXY_URL STORE FOLDER SEED

Ends at SIGTERM. Leaves FOLDER/requests-N-M (a line a request that was sent), FOLDER/rankings-N-M
(a line a ranking) and FOLDER/ledger-N.json.
"""

import gc
import itertools
import json
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import numpy as np

from cloud_service.correction.corrector_cache import GRAPHS, Corrector
from device_client.bundle import Bundle
from device_client.cloud import Cloud, CloudError
from device_client.correction.breaker import Breaker
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.correction.received import Received
from device_client.ranking import Ranking
from device_client.scn import DeviceSCN, Graphs
from device_client.session import Session
from shared.bundle import read_manifest
from shared.errors import RecommendationError
from shared.outcomes import Outcome
from shared.wire import Form, RowCorrection, Wire

TOLERANCES_MS: Final = (4.21, 4.21, 50.0)
TIMEOUT_S: Final = 0.5
LOOK_S: Final = 2.0
"""How often a process asks which version is in production."""
CLOSENESS: Final = 1e-3
"""Corrections computed together differ in the last bits."""
CHECKED: Final = 8
"""Every so many an applied correction is computed again and compared."""


class Counted(socket.socket):
    """A device's socket, which says how many requests were put on it."""

    sent: Callable[[], None]

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Sends, and counts what was taken whole."""
        count = super().send(data, flags)
        if count == len(data):
            self.sent()
        return count

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """The same for a call that does not end before."""
        super().sendall(data, flags)
        self.sent()


class RecordingBreaker(Breaker):
    """A breaker that says whether it has just kept a request back."""

    kept_back = False

    @property
    def open(self) -> bool:
        """Whether calls are paused at this moment; asked once for every H."""
        self.kept_back = super().open
        return self.kept_back


class Models:
    """The versions a process has open: the one in production, and those its sessions use."""

    def __init__(self, url: str, store: Path, folder: Path) -> None:
        self._cloud, self._store, self._folder = Cloud(url), store, folder
        self._lock = threading.Lock()
        self.one_at_a_time = threading.Lock()
        """A corrector has one buffer, as the cloud's one loop needs."""
        self._open: dict[str, tuple[Graphs, Corrector]] = {}
        self._looked, self.current = float("-inf"), ""

    def take(self) -> tuple[Graphs, Corrector]:
        """The newest version that could be had; waits for the first."""
        with self._lock:
            while not self._open or time.monotonic() - self._looked > LOOK_S:
                self._looked = time.monotonic()
                try:
                    self._pull()
                except (CloudError, RecommendationError):
                    if self._open:
                        break
                    time.sleep(0.2)
            return self._open[self.current]

    def _pull(self) -> None:
        version = self._cloud.production()
        if version not in self._open:
            graphs = Graphs(Bundle.open(self._cloud.pull(self._folder, version)))
            folder = self._store / "versions" / version
            paths = [folder / name for name in GRAPHS]
            corrector = Corrector(paths, version, read_manifest(folder))
            self._open = {version: (graphs, corrector)}
        self.current = version


class Device:
    """One device after another on one address: clicks, rankings, and what became of them."""

    def __init__(
        self, models: Models, proxy: str, numbering: tuple[int, int], folder: Path, seed: int
    ) -> None:
        address = urlsplit(proxy)
        self._models, self._proxy, self._to = models, proxy, (address.hostname, address.port)
        index, device = numbering
        self._host = f"127.0.{index + 1}.{device + 1}"
        self._random = np.random.default_rng([seed, index, device])
        name = f"{index}-{device}"
        self._requests: TextIO = (folder / f"requests-{name}").open("w")
        self._rankings: TextIO = (folder / f"rankings-{name}").open("w")
        self.ledger: Counter[str] = Counter()
        self._times: Counter[int] = Counter()
        self._unanswered: list[str] = []
        self._applied = 0
        self._breaker = RecordingBreaker(time.monotonic)
        self.differ: list[str] = []

    def session(self, ended: threading.Event) -> None:
        """One session, from its first click to its last."""
        graphs, corrector = self._models.take()
        random = self._random
        budget = Budget(float(random.choice(TOLERANCES_MS)), TIMEOUT_S)
        form: Form = "full" if random.random() < 0.3 else "row"
        self._breaker = RecordingBreaker(time.monotonic, pause_s=0.2, longest_s=2.0)
        link = CorrectionLink.to(
            self._proxy,
            graphs.bundle,
            form=form,
            budget=budget,
            connect=self._connect,
            breaker=self._breaker,
        )
        link.watch = self._answered
        alone = DeviceSCN(graphs)
        session = Session(graphs, link, budget)
        try:
            for _ in range(int(random.integers(1, 60))):
                if ended.is_set() or self._wrong_model(session):
                    break
                self._step(session, alone, corrector)
        finally:
            # Tickets are counted from 1: a click asks, and so does a rerank after a failure.
            self.ledger["asked"] += session.ticket
            session.close()
        ledger = self.ledger
        ledger["sessions"] += 1
        ledger["replaced by a newer H"] += link.replaced
        ledger["on its way when its session ended"] += len(self._unanswered)
        self._note("session ended")
        for outcome, count in link.outcomes.items():
            ledger[f"request {outcome}"] += count
        for found, count in session.outcomes.items():
            ledger[f"ranking {found}"] += count

    def close(self) -> None:
        """Closes the ledger."""
        self._requests.close()
        self._rankings.close()

    def _wrong_model(self, session: Session) -> bool:
        """The version was retired: a device would take the newer bundle."""
        return session.outcomes[Outcome.WRONG_MODEL] > 2

    def _step(self, session: Session, alone: DeviceSCN, corrector: Corrector) -> None:
        random, items = self._random, session.bundle.manifest.items
        item = int(random.integers(1, items + 1))
        session.click_row(item)
        alone.click(item)
        alone.prepare()
        for _ in range(int(random.choice((0, 1, 1, 1, 1, 2)))):
            time.sleep(float(random.choice((0.0, 0.0, 0.002, 0.02))))
            candidates = random.integers(1, items + 1, int(random.integers(10, 1001)))
            ranking = session.rerank_rows(candidates)
            self._check(session, alone, corrector, ranking, candidates)
        select.select([], [], [], float(random.exponential(0.02)))
        if random.random() < 0.02:
            self._pause()

    def _check(
        self,
        session: Session,
        alone: DeviceSCN,
        corrector: Corrector,
        ranking: Ranking,
        candidates: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> None:
        begun = time.perf_counter_ns()
        local = alone.scores(candidates, None)
        order = np.argsort(-local, kind="stable")
        local_ns = time.perf_counter_ns() - begun
        times = ranking.timeline
        allowed = max(times.reranked_ns, session.budget.deadline_ns(times.hidden_ns))
        over_us = (times.ranked_ns - allowed - local_ns) / 1e3
        waited_us = (times.applied_ns - allowed) / 1e3
        self._rankings.write(
            f"{ranking.outcome} {len(candidates)} {over_us:.1f} {waited_us:.1f} "
            f"{local_ns / 1e3:.1f}\n"
        )
        self.ledger["rankings"] += 1
        if ranking.outcome is not Outcome.APPLIED:
            is_same = np.array_equal(ranking.scores, local) and np.array_equal(ranking.order, order)
            self.ledger["local rankings"] += 1
            self.ledger["local rankings that differ"] += not is_same
            return
        self._applied += 1
        if self._applied % CHECKED == 0:
            with self._models.one_at_a_time:
                body = corrector.correct_one(alone.hidden.astype("<f4").tobytes(), "row")
            right = RowCorrection(*Wire(session.bundle.manifest.model).decode_row(body))
            expected = alone.scores(candidates, right)
            scale = float(np.abs(expected).max()) or 1.0
            self.ledger["corrected rankings computed again"] += 1
            difference = float(np.abs(ranking.scores - expected).max()) / scale
            self._rankings.write(f"difference 0 {difference * 1e3:.6f} 0 0\n")
            if difference > CLOSENESS:
                self.ledger["corrected rankings that differ"] += 1
                model, times = session.bundle.manifest.model.gcn, ranking.timeline
                self.differ.append(
                    f"{model}, {difference:.2g} of the largest score, {alone.count} clicks, "
                    f"received {times.received_ns - times.hidden_ns} ns after H: {times}"
                )

    def _pause(self) -> None:
        """A wait as long as a budget with nothing to wait for: what the machine adds by itself."""
        begun = time.perf_counter_ns()
        select.select([], [], [], 0.00421)
        self._rankings.write(f"pause 0 {(time.perf_counter_ns() - begun - 4.21e6) / 1e3:.1f} 0 0\n")

    def _connect(self, timeout: float) -> Counted:
        sock = Counted(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.bind((self._host, 0))
            sock.connect(self._to)
        except BaseException:
            sock.close()
            self.ledger["connections refused"] += 1
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ledger["connections"] += 1
        port = sock.getsockname()[1]
        self._times[port] += 1
        # By the socket: the link of a session that has ended may still open one.
        sock.sent = partial(self._sent, f"{port} {self._times[port]}", itertools.count(1))
        return sock

    def _sent(self, connection: str, counter: "itertools.count[int]") -> None:
        """A request is on its way. By whoever has the line, like `_answered`."""
        self.ledger["requests sent"] += 1
        self._unanswered.append(f"{connection} {next(counter)}")

    def _answered(self, received: Received) -> None:
        if self._breaker.kept_back:  # an older request may still be on its way
            self._breaker.kept_back = False
            self.ledger["kept back by the breaker"] += 1
            return
        if not self._unanswered:
            self.ledger[f"not connected, {received.outcome}"] += 1
        self._note(received.outcome)

    def _note(self, outcome: str) -> None:
        """The requests since the last outcome: the last has this one, those before it were asked
        again."""
        for index, request in enumerate(reversed(self._unanswered)):
            ended = outcome.replace(" ", "_") if not index else "asked_again"
            self._requests.write(f"{self._host} {request} {ended}\n")
        self._unanswered.clear()


def main() -> None:
    """Runs the devices of one process until SIGTERM."""
    index, devices, cloud, proxy, store, folder, seed = sys.argv[1:]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    out = Path(folder)
    models = Models(cloud, Path(store), out / f"bundles-{index}")
    made = [
        Device(models, proxy, (int(index), device_number), out, int(seed))
        for device_number in range(int(devices))
    ]
    faults: list[str] = []

    def play(device: Device) -> None:
        try:
            while not ended.is_set():
                device.session(ended)
        except Exception as error:  # the soak says so: nothing here may raise
            faults.append(repr(error))
            raise

    models.take()
    gc.collect()
    threads = [threading.Thread(target=play, args=(device,)) for device in made[1:]]
    for thread in threads:
        thread.start()
    play(made[0])
    for thread in threads:
        thread.join()
    ledger: Counter[str] = Counter()
    differ: list[str] = []
    for device in made:
        device.close()
        ledger.update(device.ledger)
        differ += device.differ
    (out / f"ledger-{index}.json").write_text(
        json.dumps({"ledger": ledger, "faults": faults, "differ": differ})
    )


if __name__ == "__main__":
    main()
