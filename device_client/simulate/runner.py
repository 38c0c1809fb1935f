"""Many devices at once, each a session of its own, clicking in open loop over one network.

Clicks come at random times that were drawn beforehand and do not wait for answers; how late each
one started is recorded, and how much of that is the simulator's own doing, so that the report can
say when it, and not the cloud, was what limited the run. There are as many threads as devices that
are busy at once, not as many as devices: an interpreter that hands itself on to a thousand threads
does nothing else.
"""

import math
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from urllib.parse import urlsplit

import numpy as np

from device_client.budget import Budget
from device_client.link import CorrectionLink, Received, cloud_times
from device_client.ranking import Ranking
from device_client.scn import Graphs
from device_client.session import Session
from device_client.simulate.measure import Measurement, Ranks, Recorder
from device_client.simulate.network import NetworkProfile
from device_client.simulate.requests import Request, Visit, place_of
from device_client.simulate.shaping import CountedSocket, ShapedSocket, shaped, wait_until
from device_client.sockets import Connect, SocketLike, tcp_connect
from shared.outcomes import Outcome
from shared.report import ProfileResult
from shared.wire import FORMS, Form, Wire

SWITCH_S = 0.0002


@dataclass(frozen=True)
class Load:
    """How the devices behave. `rate` is clicks a second over all devices."""

    devices: int
    rate: float
    think_s: float
    budget: Budget
    form: Form
    seed: int


@dataclass(slots=True)
class _Event:
    """One request with its moment, seconds from the start."""

    due: float
    request: Request
    earlier: list[int] | None
    """Not None at the first request of a visit: the history the new user brings."""
    device: int = 0
    until: float = math.inf
    """When the device clicks again."""


class Punctuality:
    """How much of a device's lateness is the simulator's own.

    A click may have to wait for its device, which is still at the click before: for the user's
    think time, and for a correction, a budget at most. What is later than that, the simulator
    made late: it had no time for this device.
    """

    def __init__(self, load: Load) -> None:
        self._think_s, self._budget_s = load.think_s, load.budget.tolerance_ms / 1e3
        self._excused = 0.0

    def own(self, late: float, was_free: bool) -> float:
        """Of a click that began `late`, the simulator's part; seconds. `was_free`: its device had
        nothing to do when it was due."""
        if was_free:
            self._excused = 0.0
        return max(late - self._excused, 0.0)

    def waited(self, seconds: float) -> None:
        """The rerank of that click waited so long for a correction."""
        self._excused += self._think_s + min(max(seconds, 0.0), self._budget_s)


class _Meter:
    """What crossed one device's sockets, exchange by exchange."""

    def __init__(self, url: str, profile: NetworkProfile, seed: int) -> None:
        if urlsplit(url).scheme != "http":
            raise ValueError("networks are simulated over http:// only")
        self._open: Connect = tcp_connect(url)
        self._profile, self._rng = profile, np.random.default_rng(seed)
        self._socket: ShapedSocket | CountedSocket | None = None
        self._seen = (0, 0)
        self.answers: dict[int, tuple[Received, float, int, int]] = {}

    def connect(self, timeout: float) -> SocketLike:
        plain = self._open(timeout)
        assert isinstance(plain, socket.socket)
        self._socket, self._seen = shaped(plain, self._profile, self._rng), (0, 0)
        return self._socket

    def watch(self, received: Received) -> None:
        """Called by the link after each exchange, in the thread that made it."""
        up, down, arrived = 0, 0, 0.0
        if self._socket is not None:
            arrived = self._socket.answer_arrived
            now = self._socket.sent_bytes, self._socket.received_bytes
            up, down = now[0] - self._seen[0], now[1] - self._seen[1]
            self._seen = now
        self.answers[received.ticket] = received, arrived, up, down


class _Device:
    """One device: it plays its events one after the other, and keeps what came of them."""

    def __init__(
        self, graphs: Graphs, url: str, load: Load, profile: NetworkProfile, seed: int
    ) -> None:
        self._graphs, self._load, self._shaped = graphs, load, profile.shaped
        self._meter = _Meter(url, profile, seed)
        self._link = CorrectionLink.to(
            url, graphs.bundle, form=load.form, budget=load.budget, connect=self._meter.connect
        )
        self._link.watch = self._meter.watch
        self._session = Session(graphs, self._link, load.budget)
        self._punctuality = Punctuality(load)
        self._done: list[tuple[Request, Ranking, int, float, float]] = []
        self._backlog: deque[_Event] = deque()
        self._busy = False
        self._free_at = 0.0
        self._turn = threading.Lock()

    def take(self, event: _Event, start: float, tick: Callable[[], None]) -> None:
        """Plays the event whose moment has come, and others that come meanwhile. A device that
        plays already, in another thread, plays it after that."""
        with self._turn:
            self._backlog.append(event)
            if self._busy:
                return
            self._busy = True
        while True:
            with self._turn:
                if not self._backlog:
                    self._busy = False
                    return
                event = self._backlog.popleft()
            self._play(event, start + event.due, start + event.until)
            tick()

    def _play(self, event: _Event, due: float, until: float) -> None:
        """Clicks and reranks."""
        if event.earlier is not None:
            self._session = Session(self._graphs, self._link, self._load.budget)
            self._session.preload_rows(event.earlier, ask=False)
        late = time.perf_counter() - due
        own = self._punctuality.own(late, self._free_at <= due)
        self._session.click_row(event.request.click)
        if self._load.think_s:
            time.sleep(self._load.think_s)
        ranking = self._session.rerank_rows(event.request.candidates)
        timeline, ticket = ranking.timeline, self._session.ticket
        self._punctuality.waited((timeline.applied_ns - timeline.reranked_ns) / 1e9)
        self._done.append((event.request, ranking, ticket, late, own))
        if ranking.outcome is Outcome.LATE and not self._shaped:
            # Nobody reads a late answer before the next click: read here, to know when it came.
            last = min(until, time.perf_counter() + self._load.budget.request_timeout_s)
            self._link.wait(ticket, int(last * 1e9))
        self._free_at = time.perf_counter()

    def finish(self, recorder: Recorder) -> None:
        """Waits for what is still on its way, and hands in the measurements."""
        self._session.settle(self._load.budget.request_timeout_s)
        self._link.close()
        form = self._load.form
        wire = Wire(self._graphs.bundle.manifest.model, half=FORMS[form].half)
        for request, ranking, ticket, late, own in self._done:
            measured = _measure(request, ranking, late, own)
            found = self._meter.answers.get(ticket)
            if found is not None:
                received, arrived, up, down = found
                whole = received.correction is not None
                measured = replace(
                    _with_legs(measured, ranking.timeline.hidden_ns, received, arrived),
                    payload_up=wire.hidden_bytes if up else 0,
                    payload_down=wire.answer_bytes(form) if whole else 0,
                    sent_up=up,
                    sent_down=down,
                )
            recorder.add(measured)


class _Threads:
    """Plays events at their moments. One thread waits for the next moment and then plays it
    itself, while another waits for the one after: so no event is handed from thread to thread. A
    thread that leaves nobody waiting begins another.
    """

    def __init__(
        self,
        devices: Sequence[_Device],
        events: Sequence[_Event],
        start: float,
        tick: Callable[[], None],
    ) -> None:
        self._devices, self._events, self._start, self._tick = devices, iter(events), start, tick
        self._leading = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._threads: list[threading.Thread] = []
        self._fault: Exception | None = None

    def run(self) -> None:
        """Returns when all events are played, or raises what a device raised."""
        self._begin()
        for thread in self._threads:  # which grows meanwhile
            thread.join()
        if self._fault is not None:
            raise self._fault

    def _begin(self) -> None:
        thread = threading.Thread(target=self._work, daemon=True)
        self._waiting += 1
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._devices[event.device].take(event, self._start, self._tick)
            except Exception as error:
                self._fault = error
            with self._counting:
                self._waiting += 1

    def _next(self) -> _Event | None:
        """The next event, at its moment."""
        with self._leading:
            event = next(self._events, None)
            if event is None or self._fault is not None:
                return None
            wait_until(self._start + event.due)
            with self._counting:
                self._waiting -= 1
                if not self._waiting:
                    self._begin()
            return event


def run_profile(
    visits: list[Visit],
    graphs: Graphs,
    url: str,
    profile: NetworkProfile,
    load: Load,
    tick: Callable[[], None],
) -> ProfileResult:
    """Plays every visit once over `profile`; `tick` is called after each rerank."""
    events = _schedule(visits, load)
    devices = [
        _Device(graphs, url, load, profile, load.seed * 100_003 + n)
        for n in range(1 + max(event.device for event in events))
    ]
    # Devices share one interpreter here, which on real ones they would not: threads hand it on
    # after 0.2 ms, not after the usual 5, which would outlast the budget.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    start, used = time.perf_counter() + 0.2, time.process_time()
    _Threads(devices, events, start, tick).run()
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    sys.setswitchinterval(usual)
    recorder = Recorder()
    for device in devices:
        device.finish(recorder)
    return recorder.result(
        profile,
        load.form,
        budget_s=load.budget.tolerance_ms / 1e3,
        # Of the moments drawn: a short draw may miss the rate that was asked for by more than a
        # simulator that does not keep up.
        intended_per_s=len(events) / events[-1].due,
        elapsed_s=elapsed,
        cpu_s=used,
    )


def _schedule(visits: list[Visit], load: Load) -> list[_Event]:
    """Deals visits to devices, and draws the arrivals of all of them as one Poisson process.

    Devices take turns, so that nobody clicks twice within a few milliseconds, as nobody does.
    """
    devices = min(load.devices, len(visits))
    shares: list[list[_Event]] = [[] for _ in range(devices)]
    for visit in sorted(visits, key=lambda each: -len(each.requests)):
        least = min(shares, key=len)
        for number, request in enumerate(visit.requests):
            least.append(_Event(0.0, request, visit.earlier if number == 0 else None))
    random = np.random.default_rng(load.seed)
    rounds = zip_longest(*(shares[device] for device in random.permutation(devices)))
    turns = [event for events in rounds for event in events if event is not None]
    moments = np.cumsum(random.exponential(1 / load.rate, len(turns)))
    for event, moment in zip(turns, moments, strict=True):
        event.due = float(moment)
    for number, events in enumerate(shares):
        for event, after in zip_longest(events, events[1:]):
            event.device = number
            event.until = after.due if after else math.inf
    return turns


def _measure(request: Request, ranking: Ranking, late: float, own: float) -> Measurement:
    timeline = ranking.timeline
    served = place_of(request.target, request.candidates, ranking.scores)
    return Measurement(
        outcome=ranking.outcome or Outcome.OFFLINE,
        hidden_s=(timeline.hidden_ns - timeline.clicked_ns) / 1e9,
        rerank_s=(timeline.ranked_ns - timeline.reranked_ns) / 1e9,
        local_s=(timeline.ranked_ns - timeline.applied_ns) / 1e9,
        start_delay_s=max(late, 0.0),
        own_delay_s=own,
        ranks=Ranks(request.corrected, request.local, served),
    )


def _with_legs(
    measured: Measurement, hidden_ns: int, received: Received, arrived: float
) -> Measurement:
    """The way of one answer, late ones too; without a correction there is none.

    `arrived` is when its first byte came out of the cloud, before the network held it back: the
    way back belongs to the download, not to the cloud.
    """
    if received.correction is None:
        return measured
    times = cloud_times(received.server_timing)
    return replace(
        measured,
        upload_s=(received.uploaded_ns - received.sent_ns) / 1e9,
        cloud_s=max(arrived - received.uploaded_ns / 1e9, 0.0),
        download_s=received.received_ns / 1e9 - arrived,
        total_s=(received.received_ns - hidden_ns) / 1e9,
        queue_s=times.get("queue", 0.0) / 1e3,
        compute_s=times.get("gcn", 0.0) / 1e3,
    )
