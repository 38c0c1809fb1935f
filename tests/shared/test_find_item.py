"""Looking up a catalogue id in the sorted table of a bundle."""

import tracemalloc

import numpy as np

from shared.bundle import find_item, find_items


def test_every_id_is_found_and_no_other_text_is() -> None:
    names = sorted(["a", "ab", "b", "é", "zzzz"], key=str.encode)
    ids = np.array([name.encode() for name in names])
    assert [find_item(ids, name) for name in names] == [1, 2, 3, 4, 5]
    others = ["", "aa", "abc", "zzzzz", "zzzz\0", "a\0", "\ud800", "zzz" * 100]
    for other in others:
        assert find_item(ids, other) == 0
    assert find_items(ids, names).tolist() == [1, 2, 3, 4, 5]
    assert find_items(ids, others).tolist() == [0] * len(others)
    assert find_items(ids, ["b", "zzzzz", "b", "a\0", "é"]).tolist() == [3, 0, 3, 0, 5]
    assert find_items(ids, []).tolist() == []


def test_a_text_longer_than_every_id_does_not_copy_the_table() -> None:
    ids = np.array([b"%09d" % number for number in range(100_000)])
    tracemalloc.start()
    try:
        assert find_item(ids, "1" * 10) == 0
        assert find_items(ids, ["1" * 10, "000000007"]).tolist() == [0, 8]
        assert tracemalloc.get_traced_memory()[1] < ids.nbytes / 10
    finally:
        tracemalloc.stop()
