"""Lists shown, and states beside the clicks."""

import pytest

from device_client.learning.store import ClickStore
from device_client.learning.store_folder import LARGEST_STATE
from device_client.learning.trouble import StoreTrouble


def items(store):
    return [item for item, _ in store.clicks()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_lists_shown_know_what_was_clicked(tmp_path):
    with ClickStore.open(tmp_path) as store:
        store.click("c")  # before the list
        store.shown(["a", "b", "c", "d"], clicked=[3], time_ms=1)
        store.click("b")
        store.click("elsewhere")
        store.shown(("e", "a"), time_ms=2)
        store.click("a")
    with ClickStore.open(tmp_path) as store:
        assert store.lists() == [
            (("a", "b", "c", "d"), (1, 3), 1),
            (("e", "a"), (1,), 2),
        ]


def test_only_the_newest_lists_are_kept_and_only_their_tops(tmp_path):
    with ClickStore.open(tmp_path, max_lists=3) as store:
        for number in range(20):
            store.shown([str(at) for at in range(500)], clicked=[0, 450], time_ms=number)
            store.click("x")
    with ClickStore.open(tmp_path, max_lists=3) as store:
        lists = store.lists()
        assert [shown.time_ms for shown in lists] == [17, 18, 19]
        assert all(len(shown.items) == 200 for shown in lists)
        assert all(shown.clicked == (0,) for shown in lists)
        assert items(store) == ["x"] * 20


def test_lists_go_before_clicks_do(tmp_path):
    with ClickStore.open(tmp_path, max_bytes=8192) as store:
        for number in range(100):
            store.click(str(number))
            store.shown([f"{at:020}" for at in range(20)])
        assert (tmp_path / "clicks.log").stat().st_size <= 8192
        assert items(store) == [str(number) for number in range(100)]
        assert 0 < len(store.lists()) < 20


@pytest.mark.parametrize("clicked", [[2], [-1], [0, 7]])
def test_a_position_that_the_list_does_not_have_is_refused(tmp_path, clicked):
    with ClickStore.open(tmp_path) as store, pytest.raises(ValueError, match="positions"):
        store.shown(["a", "b"], clicked=clicked)


def test_states_are_whole_or_absent(tmp_path):
    with ClickStore.open(tmp_path) as store:
        assert store.load_state("patch") is None
        assert store.save_state("patch", b"numbers")
        assert store.save_state("optimiser-1", b"")
    with ClickStore.open(tmp_path) as store:
        assert store.load_state("patch") == b"numbers"
        assert store.load_state("optimiser-1") == b""
        assert store.remove_state("patch")
        assert store.remove_state("patch")
        assert store.load_state("patch") is None
        assert not store.troubles


def test_a_state_damaged_at_any_byte_or_of_another_name_is_absent(tmp_path):
    with ClickStore.open(tmp_path) as store:
        store.save_state("patch", b"numbers")
        path = tmp_path / "state-patch"
        whole = path.read_bytes()
        hostile = [whole[:at] for at in range(len(whole))]
        hostile += [
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))
        ]
        hostile += [whole + b"\0", bytes(LARGEST_STATE * 2)]
        for document in hostile:
            path.write_bytes(document)
            assert store.load_state("patch") is None
        assert store.troubles == {StoreTrouble.DAMAGED_STATE: len(hostile)}
        path.write_bytes(whole)
        assert store.load_state("patch") == b"numbers"
        path.rename(tmp_path / "state-other")
        assert store.load_state("other") is None


@pytest.mark.parametrize(
    "name", ["", "Patch", "../patch", "a/b", ".", "1a", "a" * 33, "patch\n", "pätch", "a.b"]
)
def test_a_state_has_a_name_of_a_fixed_pattern(tmp_path, name):
    with ClickStore.open(tmp_path) as store:
        for call in (lambda: store.save_state(name, b""), lambda: store.load_state(name)):
            with pytest.raises(ValueError, match="name"):
                call()
    assert names(tmp_path) == []


def test_a_state_that_is_too_large_leaves_the_old_one(tmp_path):
    with ClickStore.open(tmp_path) as store:
        assert store.save_state("patch", bytes(LARGEST_STATE))
        assert not store.save_state("patch", bytes(LARGEST_STATE + 1))
        assert len(store.load_state("patch")) == LARGEST_STATE
        assert store.troubles == {StoreTrouble.TOO_LARGE: 1}
