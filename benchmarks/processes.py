"""What a process has and has used, as Linux says it in /proc, and which core it runs on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Memory(NamedTuple):
    """Bytes of a process. `shared` pages are counted in part (`pss`) or whole (`rss`)."""

    rss: int
    """All pages it has in memory, mapped files among them."""
    pss: int
    """The same, a page shared by n processes counted as its nth part."""
    private: int
    """Pages of its own that no file stands behind: what it costs for certain."""

    def less(self, before: "Memory") -> "Memory":
        """By how much it grew."""
        return Memory(*(after - earlier for after, earlier in zip(self, before, strict=True)))


def memory(pid: int | None = None) -> Memory:
    """The memory of a process; of this one without `pid`."""
    return parse_memory((_folder(pid) / "smaps_rollup").read_text("ascii"))


def parse_memory(text: str) -> Memory:
    """The text of smaps_rollup."""
    fields = {}
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * 1024
    return Memory(fields["Rss"], fields["Pss"], fields["Anonymous"])


def cpu_seconds(pid: int | None = None) -> float:
    """CPU time that all threads of a process have used."""
    return parse_cpu((_folder(pid) / "stat").read_text("utf-8")) / os.sysconf("SC_CLK_TCK")


def parse_cpu(text: str) -> int:
    """User and system ticks of the text of stat. The name before them may hold anything."""
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def available_memory() -> int:
    """Bytes that a new process can have before something must be thrown out."""
    for line in (PROC / "meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo names no MemAvailable")


def server_core() -> set[int]:
    """The core that servers run on."""
    return {min(os.sched_getaffinity(0))}


def device_core() -> set[int]:
    """The core of the devices: no device shares one with its cloud."""
    return {max(os.sched_getaffinity(0))}


def two_cores() -> None:
    """Exits where there is no core for each of the two."""
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("this needs two cores: one for the server and one for the devices")


@contextmanager
def running_on(cores: set[int]) -> Iterator[None]:
    """This thread, and the processes it begins meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _folder(pid: int | None) -> Path:
    return PROC / ("self" if pid is None else str(pid))
