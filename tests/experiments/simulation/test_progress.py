"""How far a run is, where there is no terminal to draw bars in."""

import io

from rich.console import Console

from experiments.simulation.progress import RunProgress


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_few_seconds_says_how_far_a_network_is() -> None:
    clock, text = Clock(), io.StringIO()
    with RunProgress(Console(file=text), clock, every_s=4) as progress:
        step = progress.step("4g-5, full", 300)
        for index in range(300):
            clock.now += 1 / 32
            step.tick(index % 4 != 0)
    assert text.getvalue().splitlines() == [
        "4g-5, full: 128 of 300 at 32/s, 75.0% corrected",
        "4g-5, full: 256 of 300 at 32/s, 75.0% corrected",
        "4g-5, full: 300 of 300 at 32/s, 75.0% corrected",
    ]


def test_a_step_without_reranks_says_what_is_done() -> None:
    clock, text = Clock(), io.StringIO()
    with RunProgress(Console(file=text), clock, every_s=3) as progress:
        step = progress.step("candidate lists", 20)
        step.set(5, 30)
        clock.now += 4
        step.set(15, 30)
        step.set(30, 30)
    assert text.getvalue().splitlines() == [
        "candidate lists: 15 of 30",
        "candidate lists: 30 of 30",
    ]


def test_a_terminal_gets_bars_and_no_lines() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with RunProgress(console) as progress:
        step = progress.step("4g-5, full", 2)
        step.tick(True)
        step.tick(False)
    assert "2/2" in text.getvalue()
    assert "50.0% corrected" in text.getvalue()
    assert "2 of 2" not in text.getvalue()
