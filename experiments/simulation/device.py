"""One simulated device: its session, its link over a simulated network, its measurements."""

import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.correction.received import Received, cloud_times
from device_client.correction.sockets import Connect, SocketLike, tcp_connect
from device_client.ranking import Ranking
from device_client.scn import Graphs
from device_client.session import Session
from experiments.simulation.measure import Measurement, Rerank
from experiments.simulation.network import NetworkProfile
from experiments.simulation.pauses import Think
from experiments.simulation.requests import Request, place_of
from experiments.simulation.shaping import CountedSocket, ShapedSocket, shaped
from shared.outcomes import Outcome
from shared.wire import FORMS, Form, Wire

PATIENCE_S = 0.1
"""A timed-out request is recorded within this time after its timeout, in seconds."""

Tick = Callable[[bool], None]
"""Called after each request; with whether its last rerank was served corrected."""


@dataclass(frozen=True)
class Load:
    """How the devices behave. `rate` is in clicks per second, of all devices together."""

    devices: int
    rate: float
    think: Think
    budget: Budget
    form: Form
    seed: int


@dataclass(slots=True)
class Event:
    """One request and its time, in seconds from the start."""

    due: float
    request: Request
    earlier: list[int] | None
    """The history of a new user, at the first request of a visit; else None."""
    user: int
    pause_s: float | None = None
    device: int = 0
    until: float = math.inf
    """When the device's next click is due."""


class Punctuality:
    """Computes how much of a device's lateness the simulator itself caused.

    A click may have to wait for its device, which still processes the previous click: for the
    user's pause, and for a correction, at most one budget. Any further delay was caused by the
    simulator, which had no time for this device.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget_s = budget.tolerance_ms / 1e3
        self._excused = 0.0

    def simulator_delay(self, late: float, was_free: bool) -> float:
        """The simulator's share of `late`, the delay of a click, in seconds. `was_free`: the
        device was idle when the click was due."""
        if was_free:
            self._excused = 0.0
        return max(late - self._excused, 0.0)

    def waited(self, seconds: float) -> None:
        """Adds the `seconds` that a rerank of that click waited for its correction."""
        self._excused += min(max(seconds, 0.0), self._budget_s)

    def paused(self, seconds: float) -> None:
        """Adds the `seconds` that the user paused."""
        self._excused += seconds


class _Meter:
    """Counts the bytes that crossed one device's sockets, by exchange."""

    def __init__(self, url: str, profile: NetworkProfile, seed: int) -> None:
        if urlsplit(url).scheme != "http":
            raise ValueError("networks are simulated over http:// only")
        self._open: Connect = tcp_connect(url)
        self._profile, self._rng = profile, np.random.default_rng(seed)
        self._socket: ShapedSocket | CountedSocket | None = None
        self._counted = (0, 0)
        self.answers: dict[int, tuple[Received, float, int, int]] = {}

    def connect(self, timeout: float) -> SocketLike:
        plain = self._open(timeout)
        assert isinstance(plain, socket.socket)
        self._socket, self._counted = shaped(plain, self._profile, self._rng), (0, 0)
        return self._socket

    def watch(self, received: Received) -> None:
        """Called by the link after each exchange, in the thread that made it."""
        up, down, arrived = 0, 0, 0.0
        if self._socket is not None:
            arrived = self._socket.answer_arrived
            byte_counts = self._socket.sent_bytes, self._socket.received_bytes
            up, down = byte_counts[0] - self._counted[0], byte_counts[1] - self._counted[1]
            self._counted = byte_counts
        self.answers[received.ticket] = received, arrived, up, down


@dataclass(slots=True)
class _Done:
    """One simulated click: its event, its ticket at the link, its reranks."""

    event: Event
    late: float
    simulator_delay: float
    ticket: int = 0
    at_once: Ranking | None = None
    after_pause: Ranking | None = None

    @property
    def last_ranking(self) -> Ranking:
        """The last rerank, which the user saw."""
        ranking = self.after_pause or self.at_once
        assert ranking is not None
        return ranking


class Device:
    """One simulated device: plays its events in order and keeps their results."""

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
        self._backlog: deque[Event] = deque()
        self._busy = False
        self._free_at = 0.0
        self._turn = threading.Lock()

    @property
    def last_began(self) -> float:
        """Start of the device's last click, in seconds from the start of the run."""
        return max((done.event.due + done.late for done in self._done), default=0.0)

    def take(self, event: Event, start: float, tick: Tick) -> None:
        """Plays the due event and those that arrive meanwhile. If another thread is playing an
        event of this device, that thread plays this one afterwards."""
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

    def _play(self, event: Event, due: float, until: float) -> bool:
        """Clicks and reranks: at once, after the pause, or both. True if the last was corrected."""
        if event.earlier is not None:
            self._session = Session(self._graphs, self._link, self._load.budget)
            self._session.preload_rows(event.earlier, ask=False)
        clicked = time.perf_counter()
        late = clicked - due
        simulator_delay = self._punctuality.simulator_delay(late, self._free_at <= due)
        self._session.click_row(event.request.click)
        done = _Done(event, late, simulator_delay)
        if self._load.think.at_once:
            done.at_once = self._rerank(event.request)
        if event.pause_s is not None:
            self._pause(clicked, event.pause_s)
            done.after_pause = self._rerank(event.request)
        done.ticket = self._session.ticket  # that of the latest request, where one was repeated
        self._done.append(done)
        late_at_last = done.last_ranking.outcome is Outcome.LATE
        if late_at_last and not self._shaped:
            # A late answer is normally read at the next click; read it now to time it.
            last_moment = min(until, time.perf_counter() + self._load.budget.request_timeout_s)
            self._link.wait(done.ticket, int(last_moment * 1e9))
        self._free_at = time.perf_counter()
        return done.last_ranking.outcome is Outcome.APPLIED

    def _rerank(self, request: Request) -> Ranking:
        ranking = self._session.rerank_rows(request.candidates)
        self._punctuality.waited((ranking.timeline.applied_ns - ranking.timeline.reranked_ns) / 1e9)
        return ranking

    def _pause(self, clicked: float, seconds: float) -> None:
        """Waits until the user is back, `seconds` after he clicked, but no longer than for the
        answer: what he will be served is settled then. No answer is on its way longer than a
        request may take."""
        begun = time.perf_counter()
        back = clicked + min(seconds, self._load.budget.request_timeout_s + PATIENCE_S)
        self._link.wait(self._session.ticket, int(back * 1e9))
        self._punctuality.paused(max(min(time.perf_counter(), back) - begun, 0.0))

    def finish(self) -> list[Measurement]:
        """Waits for requests in flight and returns the measurements."""
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
                is_corrected = received.correction is not None
                hidden_ns = done.last_ranking.timeline.hidden_ns
                measured = _with_legs(measured, hidden_ns, received, arrived)._replace(
                    payload_up=wire.hidden_bytes if up else 0,
                    payload_down=wire.answer_bytes(form) if is_corrected else 0,
                    sent_up=up,
                    sent_down=down,
                )
            measurements.append(measured)
        return measurements


def _measure(done: _Done) -> Measurement:
    event, timeline = done.event, done.last_ranking.timeline
    return Measurement(
        user=event.user,
        local=event.request.local,
        at_once=_rerank_of(event.request, done.at_once),
        after_pause=_rerank_of(event.request, done.after_pause),
        pause_s=event.pause_s,
        hidden_s=(timeline.hidden_ns - timeline.clicked_ns) / 1e9,
        local_s=(timeline.ranked_ns - timeline.applied_ns) / 1e9,
        start_delay_s=max(done.late, 0.0),
        own_delay_s=done.simulator_delay,
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
    """Adds the times of the reply, even a late one. Without a correction nothing is added.

    `arrived` is when the first byte left the cloud, before the simulated network delayed it: the
    delay belongs to the download, not to the cloud.
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
