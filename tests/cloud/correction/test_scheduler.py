"""What is computed together, when, and what is shed."""

import asyncio

from cloud_service.correction.scheduler import (
    BATCH,
    CorrectionReply,
    CorrectionScheduler,
    PendingCorrection,
)
from shared.errors import NotFinite, RecommendationError

LONGEST_S = 0.003


class Corrector:
    """Answers with the body, and notes what it was asked together."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def one(self, body, form):
        (found,) = self.correct([body], form)
        if isinstance(found, RecommendationError):
            raise found
        return found

    def correct(self, bodies, form):
        self.batches.append([bytes(body) for body in bodies])
        if b"broken" in self.batches[-1]:
            raise RuntimeError("the runtime failed")
        return [NotFinite("bad") if body == b"bad" else bytes(body) for body in bodies]


class ReplySink:
    """A device."""

    def __init__(self) -> None:
        self.ended: bytes | str | None = None

    def answer(self, computed: CorrectionReply) -> None:
        assert self.ended is None
        self.ended = computed.body

    def refuse(self, error: RecommendationError) -> None:
        assert self.ended is None
        self.ended = error.code


class Asked:
    """A queue, those who asked, and a turn of the loop."""

    def __init__(self) -> None:
        self.corrector = Corrector()
        self.now = 100.0  # the clock stands but where a test moves it
        self.queue = CorrectionScheduler(longest_s=LONGEST_S, clock=lambda: self.now)
        self.askers: list[ReplySink] = []

    def ask(self, body=b"h", *, corrector=None, form="row", late=0.0, left=1.0) -> ReplySink:
        """An H that was read `late` seconds from now, and has so many `left`."""
        self.askers.append(asker := ReplySink())
        arrived = self.now + late
        corrector = corrector or self.corrector
        self.queue.put(PendingCorrection(asker, corrector, form, body, arrived, arrived + left))
        return asker

    @property
    def batches(self) -> list[int]:
        return [len(batch) for batch in self.corrector.batches]


def in_a_turn(play) -> Asked:
    """`play(asked)` within one turn of the loop, which has begun to be busy; then the next turn."""

    async def turns() -> Asked:
        asked = Asked()
        asked.ask()  # on the spot: nothing was asked before
        asked.ask(late=-1.0, left=9.0)  # as soon after: the turn begins
        play(asked)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asked

    return asyncio.run(turns())


def test_in_a_quiet_moment_an_h_is_answered_on_the_spot():
    async def alone() -> None:
        asked = Asked()
        assert asked.ask(b"h").ended == b"h"
        assert len(asked.queue) == 0

    asyncio.run(alone())


def test_what_a_turn_brings_is_computed_together_at_its_end():
    def play(asked: Asked) -> None:
        assert [asked.ask().ended for _ in range(10)] == [None] * 10

    asked = in_a_turn(play)
    assert asked.batches == [1, 11]
    assert all(asker.ended == b"h" for asker in asked.askers)


def test_a_full_batch_does_not_wait_for_the_end_of_the_turn():
    def play(asked: Asked) -> None:
        for _ in range(BATCH):
            asked.ask()
        assert asked.batches == [1, BATCH]
        assert sum(asker.ended is None for asker in asked.askers) == 1

    assert in_a_turn(play).batches == [1, BATCH, 1]


def test_what_is_read_late_in_a_long_turn_is_shed_and_the_next_turn_begins_anew():
    def play(asked: Asked) -> None:
        assert asked.ask(late=LONGEST_S / 2).ended is None
        assert asked.ask(late=LONGEST_S * 2).ended == "overloaded"

    async def turns() -> None:
        asked = Asked()
        asked.ask()
        asked.ask(late=-1.0, left=9.0)
        play(asked)
        await asyncio.sleep(0)
        asked.ask(late=-1.0, left=9.0)
        play(asked)
        await asyncio.sleep(0)
        assert sum(asker.ended == "overloaded" for asker in asked.askers) == 2
        assert all(asker.ended is not None for asker in asked.askers)

    asyncio.run(turns())


def test_what_cannot_be_answered_in_time_any_more_is_refused_alone():
    asked = in_a_turn(lambda asked: (asked.ask(left=-0.5), asked.ask()))
    assert [asker.ended for asker in asked.askers] == [b"h", b"h", "deadline-passed", b"h"]


def test_one_bad_h_spoils_no_other_of_its_batch():
    asked = in_a_turn(lambda asked: (asked.ask(b"bad"), asked.ask(b"good")))
    assert [asker.ended for asker in asked.askers] == [b"h", b"h", "not-finite", b"good"]


def test_a_runtime_that_fails_leaves_nobody_waiting_and_the_next_are_answered(caplog):
    def play(asked: Asked) -> None:
        asked.ask(b"broken")
        for _ in range(BATCH):
            asked.ask()

    asked = in_a_turn(play)
    ended = [asker.ended for asker in asked.askers]
    assert ended == [b"h"] + ["internal"] * BATCH + [b"h"] * 2
    assert "corrections failed" in caplog.text


def test_models_and_forms_are_computed_apart_and_all_by_the_end_of_the_turn():
    other = Corrector()

    def play(asked: Asked) -> None:
        for number in range(6):
            asked.ask(form="full" if number % 2 else "row")
            asked.ask(corrector=other)

    asked = in_a_turn(play)
    assert asked.batches == [1, 4, 3]
    assert [len(batch) for batch in other.batches] == [6]
    assert all(asker.ended == b"h" for asker in asked.askers)
