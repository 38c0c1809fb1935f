"""Who plays which click, and when."""

import threading
import time
from collections import deque

import pytest

from device_client.correction.budget import Budget
from experiments.simulation.device import Device, Event, Load
from experiments.simulation.pauses import parse_think
from experiments.simulation.requests import Request, Visit
from experiments.simulation.runner import _schedule, _Threads

REQUEST = Request(click=1, target=2, candidates=[2, 3])


def load(devices: int, rate: float, think: str = "none") -> Load:
    return Load(devices, rate, parse_think(think), Budget(), "row", seed=1)


def visits(count: int, requests: int) -> list[Visit]:
    return [Visit(user, [5], [REQUEST] * requests) for user in range(count)]


class Playing(Device):
    """A device that takes its time, in place of a click and a rerank."""

    def __init__(
        self,
        takes: float = 0.0,
        fails: bool = False,
        meets: threading.Barrier | None = None,
    ) -> None:
        self._backlog: deque[Event] = deque()
        self._busy, self._turn = False, threading.Lock()
        self.takes, self.fails, self.meets = takes, fails, meets
        self.played: list[float] = []
        self.at_once = self.most_at_once = 0

    def _play(self, event: Event, due: float, until: float) -> bool:
        if self.fails:
            raise RuntimeError("a device is broken")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.takes)
        if self.meets is not None:
            self.meets.wait(60)
        self.played.append(event.due)
        self.at_once -= 1
        return True


def play(devices: list[Playing], events: list[Event]) -> tuple[_Threads, int]:
    ticks: list[bool] = []
    threads = _Threads(devices, events, time.perf_counter(), ticks.append)
    threads.run()
    return threads, len(ticks)


def test_moments_are_in_order_and_a_device_knows_when_it_clicks_again() -> None:
    events = _schedule(visits(12, 5), load(4, 1000.0))
    assert [event.due for event in events] == sorted(event.due for event in events)
    assert {event.device for event in events} == set(range(4))
    for device in range(4):
        own = [event for event in events if event.device == device]
        assert [event.until for event in own[:-1]] == [event.due for event in own[1:]]
        assert own[-1].until == float("inf")
        assert sum(event.earlier is not None for event in own) == 3


def test_every_network_gets_the_same_moments_and_pauses() -> None:
    first, second = (_schedule(visits(6, 3), load(4, 50.0, "both")) for _ in range(2))
    assert [event.pause_s for event in first] == [event.pause_s for event in second]
    assert [event.due for event in first] == [event.due for event in second]
    assert all(event.pause_s is not None and event.pause_s >= 0 for event in first)
    assert {event.pause_s for event in _schedule(visits(6, 3), load(4, 50.0))} == {None}
    assert [event.due for event in _schedule(visits(6, 3), load(4, 50.0))] == [
        event.due for event in first
    ]


def test_quick_devices_share_a_few_threads() -> None:
    events = _schedule(visits(200, 2), load(200, 2000.0))
    devices = [Playing() for _ in range(200)]
    threads, ticks = play(devices, events)
    assert ticks == 400
    assert all(len(device.played) == 2 for device in devices)
    assert len(threads._threads) < 100


def test_devices_that_are_busy_at_once_have_a_thread_each() -> None:
    events = _schedule(visits(20, 1), load(20, 1e6))
    met = threading.Barrier(20)  # broken where one of them would have to wait for another's end
    devices = [Playing(meets=met) for _ in range(20)]
    play(devices, events)
    assert all(len(device.played) == 1 for device in devices)


def test_a_device_plays_one_click_after_the_other_however_late_it_is() -> None:
    events = _schedule(visits(1, 30), load(1, 1e6))
    device = Playing(takes=0.002)
    _, ticks = play([device], events)
    assert ticks == 30
    assert device.most_at_once == 1
    assert device.played == [event.due for event in events]


def test_what_a_device_raises_ends_the_run_and_is_raised() -> None:
    events = _schedule(visits(8, 4), load(8, 1e5))
    devices = [Playing(fails=number == 3) for number in range(8)]
    with pytest.raises(RuntimeError, match="a device is broken"):
        play(devices, events)
