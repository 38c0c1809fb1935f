"""A log that was cut off, overwritten or killed at any byte gives what is whole in it."""

import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from device_client.learning.click_log import HEAD_BYTES, MARKER, encode_click, encode_head, frame
from device_client.learning.lists_shown import ListShown, encode_list
from device_client.learning.log_file import LogFile
from device_client.learning.store import ClickStore
from device_client.learning.trouble import StoreTrouble
from tests.conftest import ROOT

CLICKS = [("1", 10), ("item-22423", 11), ("шапка", -5), ("", 12), ("85123A", 13)]
RECORDS = [encode_click(100 + at, click) for at, click in enumerate(CLICKS)]
RECORDS.insert(3, frame(encode_list(200, ListShown(("a", "b"), (1,), 9))))
WHOLE = encode_head() + b"".join(RECORDS)
OF_RECORDS = [*CLICKS[:3], None, *CLICKS[3:]]
"""Clicks record by record; None for the list."""


def written(folder, document):
    folder.mkdir(exist_ok=True)
    (folder / "clicks.log").write_bytes(document)
    return folder


def starts():
    """Where each record begins, and where the last one ends."""
    at = [HEAD_BYTES]
    for record in RECORDS:
        at.append(at[-1] + len(record))
    return at


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_log_cut_at_any_byte_keeps_every_whole_record_and_goes_on(tmp_path, size, caplog):
    count = sum(stop <= size for stop in starts()[1:])
    kept = [click for click in OF_RECORDS[:count] if click is not None]
    end = max([at for at in starts() if at <= size], default=0)
    with ClickStore.open(written(tmp_path / "store", WHOLE[:size])) as store:
        assert store.clicks() == kept
        assert len(store.lists()) == (count > 3)
        assert (store.torn_bytes, store.damaged_bytes) == (size - end, 0)
        assert store.troubles[StoreTrouble.DAMAGED_LOG] == (size > end)
        assert bool(caplog.records) == (size > end)
        assert store.click("new", 77)
    assert all(item not in caplog.text for item, _ in CLICKS[1:] if item)
    with ClickStore.open(tmp_path / "store") as store:
        assert store.clicks() == [*kept, ("new", 77)]
        assert store.lost_bytes == 0


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_a_damaged_byte_costs_the_record_that_it_is_in_and_no_other(tmp_path, at):
    damaged = next((n for n, stop in enumerate(starts()[1:]) if at < stop), None)
    kept = [
        click
        for number, click in enumerate(OF_RECORDS)
        if click is not None and (at < HEAD_BYTES or number != damaged)
    ]
    for flipped in (WHOLE[at] ^ 1, WHOLE[at] ^ 0xFF):
        document = WHOLE[:at] + bytes([flipped]) + WHOLE[at + 1 :]
        with ClickStore.open(written(tmp_path, document)) as store:
            assert store.clicks() == kept
            lost = HEAD_BYTES if at < HEAD_BYTES else len(RECORDS[damaged])
            assert store.lost_bytes == lost
            is_last = damaged == len(RECORDS) - 1
            assert (store.torn_bytes if is_last else store.damaged_bytes) == lost
        with ClickStore.open(tmp_path) as store:  # it was mended
            assert store.clicks() == kept
            assert store.lost_bytes == 0


def test_bytes_put_in_or_taken_out_anywhere_cost_only_the_records_that_they_touch(tmp_path):
    source = random.Random(5)
    for _ in range(200):
        at = source.randrange(HEAD_BYTES, len(WHOLE))
        stop = min(at + source.randrange(1, 20), len(WHOLE))
        foreign = source.choice([b"", bytes(30), MARKER * 9, source.randbytes(25), RECORDS[1][:9]])
        document = WHOLE[:at] + foreign + WHOLE[stop:]
        intact = [
            click
            for click, begin, end in zip(OF_RECORDS, starts(), starts()[1:], strict=False)
            if click is not None and (end <= at or begin >= stop)
        ]
        with ClickStore.open(written(tmp_path, document)) as store:
            kept = store.clicks()
            # What was put in can by chance be what was taken out.
            assert set(intact) <= set(kept)
            assert kept == [click for click in CLICKS if click in kept]


def test_a_log_of_anything_opens_empty_or_with_whole_records_and_can_be_used(tmp_path):
    source = random.Random(6)
    documents = [
        b"", b"\0" * 5000, b"\xff" * 5000, source.randbytes(100_000),
        encode_head() + bytes(4096),
        encode_head() + MARKER * 50_000,
        encode_head() + (MARKER + b"\xff\x3f" + bytes(16)) * 5000,
        encode_head() * 20,
        b'{"clicks": [1, 2, 3]}\n' * 100,
    ]  # fmt: skip
    for number, document in enumerate(documents):
        folder = tmp_path / str(number)
        with ClickStore.open(written(folder, document)) as store:
            assert store.clicks() == []
            assert store.click("1")
        with ClickStore.open(folder) as store:
            assert [item for item, _ in store.clicks()] == ["1"]
            assert store.lost_bytes == 0


def test_an_endless_log_is_read_no_further_back_than_the_limit(tmp_path):
    with ClickStore.open(written(tmp_path, WHOLE)):
        os.truncate(tmp_path / "clicks.log", 1 << 34)
        with (tmp_path / "clicks.log").open("ab") as file:
            file.write(RECORDS[0])
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == CLICKS[:1]
        assert store.click("new")
        assert (tmp_path / "clicks.log").stat().st_size < 1000


def test_whole_records_that_no_program_of_ours_writes_are_left_out(tmp_path):
    def record(kind, number, content=b"x"):
        return frame(struct.pack("<BQq", kind, number, 1) + content)

    hostile = [
        record(1, 1 << 62),  # the next number would not fit
        record(1, (1 << 64) - 1),
        record(1, 5, b"\xff\xfe"),  # no UTF-8
        record(3, 6),
        record(0, 6),
        record(2, 7, b""),  # a list without counts
        record(2, 8, b"\xff\xff\xff\xff"),
        record(2, 9, b"\x01\x00\x01\x00\x05\x00\x01\x00a"),  # a click where there is no item
        record(2, 10, b"\x01\x00\x00\x00\x09\x00a"),  # an id longer than the record
        record(2, 11, b"\x01\x00\x00\x00\x01\x00\xff"),
    ]
    document = encode_head() + RECORDS[0] + b"".join(hostile) + RECORDS[1]
    with ClickStore.open(written(tmp_path, document)) as store:
        assert store.clicks() == CLICKS[:2]
        assert store.lists() == []
        assert store.click("new")


def test_records_out_of_order_or_twice_are_put_in_the_order_of_their_numbers(tmp_path):
    document = encode_head() + RECORDS[2] + RECORDS[0] + RECORDS[1] + RECORDS[0] + RECORDS[2]
    with ClickStore.open(written(tmp_path, document)) as store:
        assert store.clicks() == CLICKS[:3]
        store.click("new", 1)
        assert store.clicks()[-1] == ("new", 1)


def test_an_id_cannot_pass_for_a_record(tmp_path):
    """Not even one that is made of the bytes of a record, as far as text can have them."""
    forged = encode_click(1 << 61, ("forged", 1)).decode("utf-8", "ignore")
    with ClickStore.open(tmp_path) as store:
        store.click("a")
        store.click(forged)
        store.click("b")
    document = bytearray((tmp_path / "clicks.log").read_bytes())
    at = document.index(forged.encode()) - 10
    document[at] ^= 1
    with ClickStore.open(written(tmp_path, bytes(document))) as store:
        assert [item for item, _ in store.clicks()] == ["a", "b"]


def killed(action):
    """Runs `action` in a copy of this process, which kills itself on the way."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def writing_only(count):
    """Replaces `os.pwrite` by one that writes some bytes and kills the process."""
    pwrite = os.pwrite

    def write(handle, content, at):
        pwrite(handle, content[:count], at)
        os.kill(os.getpid(), signal.SIGKILL)

    return write


def test_a_process_killed_at_any_byte_of_an_append_leaves_all_earlier_clicks(tmp_path):
    kept = []
    record = len(encode_click(1, ("click 10", 10)))
    for count in range(record + 1):

        def click(count=count):
            store = ClickStore.open(tmp_path)
            os.pwrite = writing_only(count)
            store.click(f"click {count + 10}", count)

        with ClickStore.open(tmp_path) as store:
            store.click("before", count)
            kept.append("before")
        killed(click)
        if count == record:
            kept.append(f"click {count + 10}")
        with ClickStore.open(tmp_path) as store:
            assert [item for item, _ in store.clicks()] == kept
            assert store.torn_bytes == count % record


@pytest.mark.parametrize("syscall", ["pwrite", "fsync", "replace", "after"])
def test_a_process_killed_in_a_rewrite_leaves_the_old_log_or_the_new_one(tmp_path, syscall):
    limits = {"max_clicks": 20}
    with ClickStore.open(tmp_path) as store:
        for number in range(28):
            store.click(str(number))

    def rewrite():
        store = ClickStore.open(tmp_path, **limits)

        def kill(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)

        if syscall == "pwrite":
            os.pwrite = writing_only(100)
        elif syscall == "fsync":
            os.fsync = kill
        elif syscall == "replace":
            Path.replace = kill
        else:
            store.click("28")
            kill()
        store.tidy()

    killed(rewrite)
    with ClickStore.open(tmp_path, **limits) as store:
        newest = 28 + (syscall == "after")
        assert [item for item, _ in store.clicks()] == [str(at) for at in range(newest)][-20:]
        assert store.lost_bytes == 0
    assert [path.name for path in tmp_path.iterdir()] == ["clicks.log"], "the draft went"


WRITER = """
import sys
from pathlib import Path
from device_client.learning.store import ClickStore
store = ClickStore.open(Path(sys.argv[1]), max_clicks=100)
number = int(sys.argv[2])
while True:
    assert store.click(str(number))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow(12)
def test_a_real_process_killed_again_and_again_loses_no_click_that_it_said_it_stored(tmp_path):
    """Every 25 clicks the log is written anew, so that kills meet rewrites too."""
    source, following = random.Random(7), 0
    for _ in range(8):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(following)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout.readline() == b"%d\n" % following
            time.sleep(source.uniform(0, 0.2))
            process.kill()
            told = process.stdout.read().split(b"\n")[:-1]
        said = int(told[-1]) if told else following
        with ClickStore.open(tmp_path, max_clicks=100) as store:
            stored = [int(item) for item, _ in store.clicks()]
            # The last click may have been stored without the process living to say so.
            assert stored[-1] in (said, said + 1)
            assert stored == list(range(max(stored[-1] - 99, 0), stored[-1] + 1))
            assert store.torn_bytes < 40
            assert store.damaged_bytes == 0
            following = stored[-1] + 1


def test_a_torn_tail_that_cannot_be_cut_is_written_over(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LogFile, "cut", refuse)
    with ClickStore.open(written(tmp_path, WHOLE[:-1])) as store:
        assert store.clicks() == CLICKS[:-1]
        assert store.click("x", 1)
    with ClickStore.open(tmp_path) as store:
        assert store.clicks() == [*CLICKS[:-1], ("x", 1)]
