"""Which connections are admitted, which are in the reserve, and when they are checked."""

import pytest

from cloud_service.http.admission import CHECKS, RESERVE, SWEEP_SECONDS, Admission, Limits


class Loop:
    """A fake event loop whose time a test advances."""

    def __init__(self):
        self.time_s, self.timers = 0.0, []

    def time(self):
        return self.time_s

    def call_later(self, delay, call, *arguments):
        self.timers.append((self.time_s + delay, call, arguments))
        return self.timers[-1]

    def sweep(self):
        (timer,) = self.timers
        self.timers.clear()
        self.time_s, call, arguments = timer
        call(*arguments)


class FakeConnection:
    def __init__(self, due=float("inf")):
        self.due, self.checks, self.aborted = due, [], False

    def check(self, now_s):
        self.checks.append(now_s)
        self.due = now_s + 10

    def abort(self):
        self.aborted = True


@pytest.fixture
def loop():
    return Loop()


def test_a_connection_beyond_the_limit_is_in_the_reserve_until_one_is_free(loop):
    admission, connections = Admission(Limits(connections=2)), [FakeConnection() for _ in range(4)]
    assert [admission.enter(connection, loop) for connection in connections[:3]] == [
        True,
        True,
        False,
    ]
    admission.leave(connections[2])
    assert not admission.enter(connections[3], loop)
    admission.leave(connections[0])
    assert admission.enter(FakeConnection(), loop)


def test_the_oldest_of_a_full_reserve_gives_way(loop):
    admission = Admission(Limits(connections=1))
    assert admission.enter(FakeConnection(), loop)
    reserve = [FakeConnection() for _ in range(RESERVE + 2)]
    assert not any(admission.enter(connection, loop) for connection in reserve)
    assert [connection.aborted for connection in reserve] == [True, True] + [False] * RESERVE


def test_only_connections_that_may_be_late_is_checked(loop):
    admission, soon, later = (
        Admission(Limits(connections=1)),
        FakeConnection(0.5),
        FakeConnection(2.5),
    )
    admission.enter(soon, loop)
    admission.enter(later, loop)  # in the reserve, and no less watched
    for _ in range(4):
        loop.sweep()
    assert soon.checks == [SWEEP_SECONDS]
    assert later.checks == [3 * SWEEP_SECONDS]


def test_a_crowd_that_comes_due_at_once_is_checked_in_turns(loop):
    admission, crowd = (
        Admission(Limits(connections=10_000)),
        [FakeConnection(0.5) for _ in range(600)],
    )
    for connection in crowd:
        admission.enter(connection, loop)
    seen = []
    for _ in range(3):
        loop.sweep()
        seen.append(sum(len(connection.checks) for connection in crowd))
    assert seen == [CHECKS, 2 * CHECKS, 600]
    assert loop.time_s < 2 * SWEEP_SECONDS


def test_an_empty_cloud_checks_nothing(loop):
    admission, connection = Admission(Limits()), FakeConnection()
    admission.enter(connection, loop)
    admission.leave(connection)
    loop.sweep()
    assert loop.timers == []
    admission.enter(connection, loop)
    assert len(loop.timers) == 1
