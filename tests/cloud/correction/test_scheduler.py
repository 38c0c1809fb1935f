"""Which corrections are computed in one batch, when, and which are refused under overload."""

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
    """Answers with the body itself, and records the batches."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def correct_one(self, body, form):
        (result,) = self.correct([body], form)
        if isinstance(result, RecommendationError):
            raise result
        return result

    def correct(self, bodies, form):
        self.batches.append([bytes(body) for body in bodies])
        if b"broken" in self.batches[-1]:
            raise RuntimeError("the runtime failed")
        return [NotFinite("bad") if body == b"bad" else bytes(body) for body in bodies]


class Device:
    """A sink that records its result."""

    def __init__(self) -> None:
        self.ended: bytes | str | None = None

    def answer(self, reply: CorrectionReply) -> None:
        assert self.ended is None
        self.ended = reply.body

    def refuse(self, error: RecommendationError) -> None:
        assert self.ended is None
        self.ended = error.code


class Crowd:
    """Devices that send H to one scheduler, with a clock that tests move."""

    def __init__(self) -> None:
        self.corrector = Corrector()
        self.clock_s = 100.0
        self.scheduler = CorrectionScheduler(longest_s=LONGEST_S, clock=lambda: self.clock_s)
        self.devices: list[Device] = []

    def ask(self, body=b"h", *, corrector=None, form="row", late=0.0, remaining=1.0) -> Device:
        """Sends an H that is read `late` seconds from now, `remaining` before its deadline."""
        self.devices.append(device := Device())
        arrived = self.clock_s + late
        corrector = corrector or self.corrector
        self.scheduler.put(
            PendingCorrection(device, corrector, form, body, arrived, arrived + remaining)
        )
        return device

    @property
    def batches(self) -> list[int]:
        return [len(batch) for batch in self.corrector.batches]


def in_a_turn(play) -> Crowd:
    """Runs `play(crowd)` within one turn of a busy loop, and then the next turn."""

    async def turns() -> Crowd:
        crowd = Crowd()
        crowd.ask()  # answered immediately: there is no load
        crowd.ask(late=-1.0, remaining=9.0)  # directly after it: a turn begins
        play(crowd)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return crowd

    return asyncio.run(turns())


def test_in_a_quiet_moment_an_h_is_answered_on_the_spot():
    async def alone() -> None:
        crowd = Crowd()
        assert crowd.ask(b"h").ended == b"h"
        assert len(crowd.scheduler) == 0

    asyncio.run(alone())


def test_what_a_turn_brings_is_computed_together_at_its_end():
    def play(crowd: Crowd) -> None:
        assert [crowd.ask().ended for _ in range(10)] == [None] * 10

    crowd = in_a_turn(play)
    assert crowd.batches == [1, 11]
    assert all(device.ended == b"h" for device in crowd.devices)


def test_a_full_batch_does_not_wait_for_the_end_of_the_turn():
    def play(crowd: Crowd) -> None:
        for _ in range(BATCH):
            crowd.ask()
        assert crowd.batches == [1, BATCH]
        assert sum(device.ended is None for device in crowd.devices) == 1

    assert in_a_turn(play).batches == [1, BATCH, 1]


def test_what_is_read_late_in_a_long_turn_is_shed_and_the_next_turn_begins_anew():
    def play(crowd: Crowd) -> None:
        assert crowd.ask(late=LONGEST_S / 2).ended is None
        assert crowd.ask(late=LONGEST_S * 2).ended == "overloaded"

    async def turns() -> None:
        crowd = Crowd()
        crowd.ask()
        crowd.ask(late=-1.0, remaining=9.0)
        play(crowd)
        await asyncio.sleep(0)
        crowd.ask(late=-1.0, remaining=9.0)
        play(crowd)
        await asyncio.sleep(0)
        assert sum(device.ended == "overloaded" for device in crowd.devices) == 2
        assert all(device.ended is not None for device in crowd.devices)

    asyncio.run(turns())


def test_what_cannot_be_answered_in_time_any_more_is_refused_alone():
    crowd = in_a_turn(lambda crowd: (crowd.ask(remaining=-0.5), crowd.ask()))
    assert [device.ended for device in crowd.devices] == [b"h", b"h", "deadline-passed", b"h"]


def test_one_bad_h_spoils_no_other_of_its_batch():
    crowd = in_a_turn(lambda crowd: (crowd.ask(b"bad"), crowd.ask(b"good")))
    assert [device.ended for device in crowd.devices] == [b"h", b"h", "not-finite", b"good"]


def test_a_runtime_that_fails_leaves_nobody_waiting_and_the_next_are_answered(caplog):
    def play(crowd: Crowd) -> None:
        crowd.ask(b"broken")
        for _ in range(BATCH):
            crowd.ask()

    crowd = in_a_turn(play)
    ended = [device.ended for device in crowd.devices]
    assert ended == [b"h"] + ["internal"] * BATCH + [b"h"] * 2
    assert "corrections failed" in caplog.text


def test_models_and_forms_are_computed_apart_and_all_by_the_end_of_the_turn():
    second_model = Corrector()

    def play(crowd: Crowd) -> None:
        for index in range(6):
            crowd.ask(form="full" if index % 2 else "row")
            crowd.ask(corrector=second_model)

    crowd = in_a_turn(play)
    assert crowd.batches == [1, 4, 3]
    assert [len(batch) for batch in second_model.batches] == [6]
    assert all(device.ended == b"h" for device in crowd.devices)
