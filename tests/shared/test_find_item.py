"""Looking up a catalogue id in the sorted table of a bundle."""

import tracemalloc

import numpy as np

from shared.bundle import find_item


def test_every_id_is_found_and_no_other_text_is() -> None:
    names = sorted(["a", "ab", "b", "é", "zzzz"], key=str.encode)
    ids = np.array([name.encode() for name in names])
    assert [find_item(ids, name) for name in names] == [1, 2, 3, 4, 5]
    for other in ("", "aa", "abc", "zzzzz", "zzzz\0", "a\0", "\ud800", "zzz" * 100):
        assert find_item(ids, other) == 0


def test_a_text_longer_than_every_id_does_not_copy_the_table() -> None:
    ids = np.array([b"%09d" % number for number in range(100_000)])
    tracemalloc.start()
    try:
        assert find_item(ids, "1" * 10) == 0
        assert tracemalloc.get_traced_memory()[1] < ids.nbytes / 10
    finally:
        tracemalloc.stop()
