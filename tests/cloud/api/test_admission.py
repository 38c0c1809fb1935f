"""Who has a place, who is in the reserve, and when somebody is looked at."""

import pytest

from cloud_service.http.admission import LOOKS, RESERVE, SWEEP_SECONDS, Admission, Limits


class Loop:
    """An event loop whose time passes when a test says so."""

    def __init__(self):
        self.now, self.timers = 0.0, []

    def time(self):
        return self.now

    def call_later(self, delay, call, *arguments):
        self.timers.append((self.now + delay, call, arguments))
        return self.timers[-1]

    def sweep(self):
        (timer,) = self.timers
        self.timers.clear()
        self.now, call, arguments = timer
        call(*arguments)


class Guest:
    def __init__(self, due=float("inf")):
        self.due, self.looks, self.aborted = due, [], False

    def look(self, now):
        self.looks.append(now)
        self.due = now + 10

    def abort(self):
        self.aborted = True


@pytest.fixture
def loop():
    return Loop()


def test_a_connection_beyond_the_places_is_in_the_reserve_until_one_is_free(loop):
    admission, guests = Admission(Limits(connections=2)), [Guest() for _ in range(4)]
    assert [admission.enter(guest, loop) for guest in guests[:3]] == [True, True, False]
    admission.leave(guests[2])
    assert not admission.enter(guests[3], loop)
    admission.leave(guests[0])
    assert admission.enter(Guest(), loop)


def test_the_oldest_of_a_full_reserve_gives_way(loop):
    admission = Admission(Limits(connections=1))
    assert admission.enter(Guest(), loop)
    reserve = [Guest() for _ in range(RESERVE + 2)]
    assert not any(admission.enter(guest, loop) for guest in reserve)
    assert [guest.aborted for guest in reserve] == [True, True] + [False] * RESERVE


def test_only_who_may_be_late_is_looked_at(loop):
    admission, soon, later = Admission(Limits(connections=1)), Guest(0.5), Guest(2.5)
    admission.enter(soon, loop)
    admission.enter(later, loop)  # in the reserve, and no less watched
    for _ in range(4):
        loop.sweep()
    assert soon.looks == [SWEEP_SECONDS]
    assert later.looks == [3 * SWEEP_SECONDS]


def test_a_crowd_that_comes_due_at_once_is_looked_at_in_turns(loop):
    admission, crowd = Admission(Limits(connections=10_000)), [Guest(0.5) for _ in range(600)]
    for guest in crowd:
        admission.enter(guest, loop)
    seen = []
    for _ in range(3):
        loop.sweep()
        seen.append(sum(len(guest.looks) for guest in crowd))
    assert seen == [LOOKS, 2 * LOOKS, 600]
    assert loop.now < 2 * SWEEP_SECONDS


def test_an_empty_cloud_looks_at_nothing(loop):
    admission, guest = Admission(Limits()), Guest()
    admission.enter(guest, loop)
    admission.leave(guest)
    loop.sweep()
    assert loop.timers == []
    admission.enter(guest, loop)
    assert len(loop.timers) == 1
