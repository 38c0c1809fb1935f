"""Plays many devices at once over one network, in open loop, each with its own session.

The times of the clicks are drawn beforehand and do not depend on replies. The start delay of each
click is recorded, and the part that the simulator itself caused: so the report can say if the
simulator, not the cloud, limited the run. There are as many threads as devices that are busy at
the same time: with a thread for each of a thousand devices, the interpreter only switches threads.
"""

import math
import sys
import threading
import time
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from device_client.scn import Graphs
from experiments.simulation.device import Device, Event, Load, Tick
from experiments.simulation.measure import RunMeasurements
from experiments.simulation.network import NetworkProfile
from experiments.simulation.requests import Visit
from experiments.simulation.shaping import wait_until

SWITCH_S = 0.0002


class _Threads:
    """Plays events when they are due. One thread waits for the next event and plays it, while
    another waits for the one after: no event is passed between threads. A thread that stops
    waiting starts another one if none is waiting.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        events: Sequence[Event],
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
        """Plays all events; re-raises the first exception of a device."""
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

    def _next(self) -> Event | None:
        """Waits until the next event is due and returns it; None at the end."""
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
) -> RunMeasurements:
    """Plays every visit once over `profile` and returns the measurements."""
    events = _schedule(visits, load)
    devices = [
        Device(graphs, url, load, profile, load.seed * 100_003 + n)
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
    return RunMeasurements(
        form=load.form,
        # Of the moments drawn: a short draw may miss the rate that was asked for by more than a
        # simulator that does not keep up.
        intended_per_s=len(events) / events[-1].due,
        achieved_per_s=len(events) / began,
        cpu_share=used / elapsed,
        measurements=[measured for device in devices for measured in device.finish()],
    )


def _schedule(visits: list[Visit], load: Load) -> list[Event]:
    """Distributes visits over devices and draws all arrivals as one Poisson process.

    The pauses are drawn too, the same for every network. Devices take turns, so that no user
    clicks twice within a few milliseconds.
    """
    devices = min(load.devices, len(visits))
    shares: list[list[Event]] = [[] for _ in range(devices)]
    for visit in sorted(visits, key=lambda candidate: -len(candidate.requests)):
        least = min(shares, key=len)
        for index, request in enumerate(visit.requests):
            earlier = visit.earlier if index == 0 else None
            least.append(Event(0.0, request, earlier, visit.user))
    random = np.random.default_rng(load.seed)
    rounds = zip_longest(*(shares[device] for device in random.permutation(devices)))
    turns = [event for events in rounds for event in events if event is not None]
    moments = np.cumsum(random.exponential(1 / load.rate, len(turns)))
    for event, moment in zip(turns, moments, strict=True):
        event.due = float(moment)
    if (pauses := load.think.pauses) is not None:
        for event, pause in zip(turns, pauses.draw(len(turns), load.seed), strict=True):
            event.pause_s = float(pause)
    for device, events in enumerate(shares):
        for event, after in zip_longest(events, events[1:]):
            event.device = device
            event.until = after.due if after else math.inf
    return turns
