"""What the benchmark of growth reads of processes, and what it concludes."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.processes import (
    Memory,
    available_memory,
    cpu_seconds,
    memory,
    parse_cpu,
    parse_memory,
)
from benchmarks.scaling.asking import summary
from benchmarks.scaling.devices import verdict

linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")


def test_the_memory_of_a_process_is_read_in_bytes() -> None:
    text = (
        "55d0-7ffe ---p 00000000 00:00 0    [rollup]\n"
        "Rss:               65012 kB\nPss:               51154 kB\n"
        "Pss_Anon:              1 kB\nPrivate_Dirty:     40000 kB\nAnonymous:         32148 kB\n"
    )
    found = parse_memory(text)
    assert found == Memory(65012 * 1024, 51154 * 1024, 32148 * 1024)
    assert found.less(Memory(1024, 2048, 0)) == Memory(65011 * 1024, 51152 * 1024, 32148 * 1024)


def test_cpu_time_is_read_past_a_name_with_spaces_and_brackets() -> None:
    before = "4242 (a) b (c) S 1 4242 4242 0 -1 4194304 100 0 0 0"
    assert parse_cpu(f"{before} 123 45 7 8 20 0 1 0 99 0 0") == 168


@linux
def test_private_memory_grows_by_what_is_written_and_not_by_what_is_mapped(tmp_path: Path) -> None:
    size = 16 << 20
    np.save(tmp_path / "table.npy", np.ones(size // 8))
    mapped = np.load(tmp_path / "table.npy", mmap_mode="r")
    before = memory()
    assert mapped.sum() == size // 8
    read = memory()
    # Never memory that was freed before.
    own = np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    own[:] = 1
    written = memory(os.getpid())
    assert read.less(before).private < size / 2 < read.less(before).rss
    assert written.less(read).private > size / 2
    assert own.sum() == size


@linux
def test_cpu_time_rises_and_some_memory_is_left() -> None:
    before = cpu_seconds()
    while cpu_seconds() == before:
        sum(range(10_000))
    assert cpu_seconds(os.getpid()) > before
    assert available_memory() > 0


@pytest.mark.parametrize(
    ("limit", "cloud_cpu", "refused", "said"),
    [
        (None, 0.5, 0.0, "neither"),
        ("devices", 0.5, 0.0, "devices"),
        ("simulator", 0.5, 0.0, "simulator"),
        ("machine", 0.5, 0.0, "machine"),
        (None, 0.95, 0.0, "cloud"),
        (None, 0.5, 0.02, "cloud"),
        ("devices", 0.95, 0.0, "cloud"),
        ("simulator", 0.95, 0.0, "both"),
    ],
)
def test_whoever_has_nothing_to_spare_is_at_its_end(limit, cloud_cpu, refused, said) -> None:
    assert verdict(limit, cloud_cpu, refused) == said


def test_a_summary_is_a_median_with_its_quartiles_and_p99() -> None:
    found = summary([float(number) for number in range(1, 102)])
    assert found == {"median": 51.0, "quartiles": [26.0, 76.0], "p99": 100.0, "count": 101}
