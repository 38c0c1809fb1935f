"""Runs a program whose wall clock jumps by hours, back and forth; its other clocks go on.

    python tests/instruments/jumping_clock.py MODULE_OR_FILE ARGUMENTS

A jump every 30 ms, as far as `time.time` and `time.time_ns` say.
"""

import runpy
import sys
import time

HOURS = (0, 5, -3, 26, -50, 1)
_time, _time_ns = time.time, time.time_ns


def hours() -> int:
    """By how much the clock is wrong at this moment."""
    return HOURS[int(time.monotonic() / 0.03) % len(HOURS)]


def main() -> None:
    time.time = lambda: _time() + 3600 * hours()
    time.time_ns = lambda: _time_ns() + 3600 * hours() * 10**9
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
