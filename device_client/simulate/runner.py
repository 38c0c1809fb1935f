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
from dataclasses import dataclass
from itertools import zip_longest
from urllib.parse import urlsplit

import numpy as np

from device_client.budget import Budget
from device_client.link import CorrectionLink, Received, cloud_times
from device_client.ranking import Ranking
from device_client.scn import Graphs
from device_client.session import Session
from device_client.simulate.measure import Measurement, Rerank, Taken
from device_client.simulate.network import NetworkProfile
from device_client.simulate.pauses import Think
from device_client.simulate.requests import Request, Visit, place_of
from device_client.simulate.shaping import CountedSocket, ShapedSocket, shaped, wait_until
from device_client.sockets import Connect, SocketLike, tcp_connect
from shared.outcomes import Outcome
from shared.wire import FORMS, Form, Wire

SWITCH_S = 0.0002
PATIENCE_S = 0.1
"""A request that is given up is known to be within this after its timeout."""

Tick = Callable[[bool], None]
"""Called after each request; with whether its last rerank was served corrected."""


@dataclass(frozen=True)
class Load:
    """How the devices behave. `rate` is clicks a second over all devices."""

    devices: int
    rate: float
    think: Think
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
    user: int
    pause_s: float | None = None
    device: int = 0
    until: float = math.inf
    """When the device clicks again."""


class Punctuality:
    """How much of a device's lateness is the simulator's own.

    A click may have to wait for its device, which is still at the click before: for the user's
    pause, and for a correction, a budget at most. What is later than that, the simulator made
    late: it had no time for this device.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget_s = budget.tolerance_ms / 1e3
        self._excused = 0.0

    def own(self, late: float, was_free: bool) -> float:
        """Of a click that began `late`, the simulator's part; seconds. `was_free`: its device had
        nothing to do when it was due."""
        if was_free:
            self._excused = 0.0
        return max(late - self._excused, 0.0)

    def waited(self, seconds: float) -> None:
        """A rerank of that click waited so long for its correction."""
        self._excused += min(max(seconds, 0.0), self._budget_s)

    def paused(self, seconds: float) -> None:
        """Its user paused so long."""
        self._excused += seconds


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


@dataclass(slots=True)
class _Done:
    """One click that was played: its request, its number at the link, its reranks."""

    event: _Event
    ticket: int
    late: float
    own: float
    at_once: Ranking | None = None
    after_pause: Ranking | None = None

    @property
    def last(self) -> Ranking:
        """The rerank that the user saw last."""
        ranking = self.after_pause or self.at_once
        assert ranking is not None
        return ranking


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
        self._punctuality = Punctuality(load.budget)
        self._done: list[_Done] = []
        self._backlog: deque[_Event] = deque()
        self._busy = False
        self._free_at = 0.0
        self._turn = threading.Lock()

    @property
    def last_began(self) -> float:
        """When the device's last click began, in seconds from the start."""
        return max((done.event.due + done.late for done in self._done), default=0.0)

    def take(self, event: _Event, start: float, tick: Tick) -> None:
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
            tick(self._play(event, start + event.due, start + event.until))

    def _play(self, event: _Event, due: float, until: float) -> bool:
        """Clicks and reranks: at once, after the pause, or both. Whether the last was corrected."""
        if event.earlier is not None:
            self._session = Session(self._graphs, self._link, self._load.budget)
            self._session.preload_rows(event.earlier, ask=False)
        clicked = time.perf_counter()
        late = clicked - due
        own = self._punctuality.own(late, self._free_at <= due)
        self._session.click_row(event.request.click)
        done = _Done(event, self._session.ticket, late, own)
        if self._load.think.at_once:
            done.at_once = self._rerank(event.request)
        if event.pause_s is not None:
            self._pause(done.ticket, clicked, event.pause_s)
            done.after_pause = self._rerank(event.request)
        self._done.append(done)
        late_at_last = done.last.outcome is Outcome.LATE
        if late_at_last and not self._shaped:
            # Nobody reads a late answer before the next click: read here, to know when it came.
            last = min(until, time.perf_counter() + self._load.budget.request_timeout_s)
            self._link.wait(done.ticket, int(last * 1e9))
        self._free_at = time.perf_counter()
        return done.last.outcome is Outcome.APPLIED

    def _rerank(self, request: Request) -> Ranking:
        ranking = self._session.rerank_rows(request.candidates)
        self._punctuality.waited((ranking.timeline.applied_ns - ranking.timeline.reranked_ns) / 1e9)
        return ranking

    def _pause(self, ticket: int, clicked: float, seconds: float) -> None:
        """Waits until the user is back, `seconds` after he clicked, but no longer than for the
        answer: what he will be served is settled then. No answer is on its way longer than a
        request may take."""
        begun = time.perf_counter()
        back = clicked + min(seconds, self._load.budget.request_timeout_s + PATIENCE_S)
        self._link.wait(ticket, int(back * 1e9))
        self._punctuality.paused(max(min(time.perf_counter(), back) - begun, 0.0))

    def finish(self) -> list[Measurement]:
        """Waits for what is still on its way, and hands in the measurements."""
        self._session.settle(self._load.budget.request_timeout_s)
        self._link.close()
        form = self._load.form
        wire = Wire(self._graphs.bundle.manifest.model, half=FORMS[form].half)
        measurements = []
        for done in self._done:
            measured = _measure(done)
            answer = self._meter.answers.get(done.ticket)
            if answer is not None:
                received, arrived, up, down = answer
                whole = received.correction is not None
                hidden_ns = done.last.timeline.hidden_ns
                measured = _with_legs(measured, hidden_ns, received, arrived)._replace(
                    payload_up=wire.hidden_bytes if up else 0,
                    payload_down=wire.answer_bytes(form) if whole else 0,
                    sent_up=up,
                    sent_down=down,
                )
            measurements.append(measured)
        return measurements


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
        tick: Tick,
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
    tick: Tick,
) -> Taken:
    """Plays every visit once over `profile`, and gives all that was measured."""
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
    try:
        _Threads(devices, events, start, tick).run()
    finally:
        sys.setswitchinterval(usual)
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    began = max(device.last_began for device in devices)
    return Taken(
        form=load.form,
        # Of the moments drawn: a short draw may miss the rate that was asked for by more than a
        # simulator that does not keep up.
        intended_per_s=len(events) / events[-1].due,
        achieved_per_s=len(events) / began,
        cpu_share=used / elapsed,
        measurements=[measured for device in devices for measured in device.finish()],
    )


def _schedule(visits: list[Visit], load: Load) -> list[_Event]:
    """Deals visits to devices, and draws the arrivals of all of them as one Poisson process.

    The pauses are drawn too, the same for every network. Devices take turns, so that nobody
    clicks twice within a few milliseconds, as nobody does.
    """
    devices = min(load.devices, len(visits))
    shares: list[list[_Event]] = [[] for _ in range(devices)]
    for visit in sorted(visits, key=lambda each: -len(each.requests)):
        least = min(shares, key=len)
        for number, request in enumerate(visit.requests):
            earlier = visit.earlier if number == 0 else None
            least.append(_Event(0.0, request, earlier, visit.user))
    random = np.random.default_rng(load.seed)
    rounds = zip_longest(*(shares[device] for device in random.permutation(devices)))
    turns = [event for events in rounds for event in events if event is not None]
    moments = np.cumsum(random.exponential(1 / load.rate, len(turns)))
    for event, moment in zip(turns, moments, strict=True):
        event.due = float(moment)
    if (pauses := load.think.pauses) is not None:
        for event, pause in zip(turns, pauses.draw(len(turns), load.seed), strict=True):
            event.pause_s = float(pause)
    for number, events in enumerate(shares):
        for event, after in zip_longest(events, events[1:]):
            event.device = number
            event.until = after.due if after else math.inf
    return turns


def _measure(done: _Done) -> Measurement:
    event, timeline = done.event, done.last.timeline
    return Measurement(
        user=event.user,
        local=event.request.local,
        at_once=_rerank_of(event.request, done.at_once),
        after_pause=_rerank_of(event.request, done.after_pause),
        pause_s=event.pause_s,
        hidden_s=(timeline.hidden_ns - timeline.clicked_ns) / 1e9,
        local_s=(timeline.ranked_ns - timeline.applied_ns) / 1e9,
        start_delay_s=max(done.late, 0.0),
        own_delay_s=done.own,
    )


def _rerank_of(request: Request, ranking: Ranking | None) -> Rerank | None:
    if ranking is None:
        return None
    timeline = ranking.timeline
    return Rerank(
        ranking.outcome or Outcome.OFFLINE,
        (timeline.ranked_ns - timeline.reranked_ns) / 1e9,
        place_of(request.target, request.candidates, ranking.scores),
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
    return measured._replace(
        upload_s=(received.uploaded_ns - received.sent_ns) / 1e9,
        cloud_s=max(arrived - received.uploaded_ns / 1e9, 0.0),
        download_s=received.received_ns / 1e9 - arrived,
        total_s=(received.received_ns - hidden_ns) / 1e9,
        queue_s=times.get("queue", 0.0) / 1e3,
        compute_s=times.get("gcn", 0.0) / 1e3,
    )
