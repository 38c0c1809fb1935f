"""A reader sees the old file or the new one, whatever becomes of the writer."""

import ast
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from shared.whole_file import STALE_SECONDS, is_held, whole_file, whole_path, write_whole
from tests.conftest import ROOT

WRITER = """
import sys
from pathlib import Path
from shared.whole_file import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"new" * 100_000)
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def test_the_new_content_takes_the_place_of_the_old_one_and_no_draft_stays(old):
    write_whole(old, "new")
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["file"]


def test_an_error_leaves_the_old_content_and_no_draft(old):
    def half():
        with whole_file(old) as file:
            file.write(b"ne")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        half()
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file"]


def test_until_the_end_a_reader_sees_the_old_content(old):
    with whole_path(old) as draft:
        draft.write_bytes(b"new")
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_permissions_are_those_asked_for_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "all", b"")
        write_whole(tmp_path / "owner", b"", mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "all").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "owner").stat().st_mode) == 0o600


def test_a_file_that_is_there_may_be_kept(old):
    write_whole(old, b"new", replace=False)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file"]


def test_a_writer_that_is_killed_leaves_the_old_content_and_its_draft_goes_later(old):
    command = [sys.executable, "-c", WRITER, str(old)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"written\n"
        draft = next(path for path in old.parent.iterdir() if path != old)
        assert is_held(draft)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert old.read_bytes() == b"old"
    assert not is_held(draft)
    write_whole(old, b"newer")
    assert draft.exists(), "it may be of a writer that has only just begun"
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(draft, (long_ago, long_ago))
    write_whole(old, b"newest")
    assert names(old.parent) == ["file"]
    assert old.read_bytes() == b"newest"


def test_a_draft_that_somebody_writes_is_left_alone_however_old(old):
    with whole_path(old) as draft:
        os.utime(draft, (0, 0))
        write_whole(old, b"quick")
        assert draft.exists()
        draft.write_bytes(b"slow")
    assert old.read_bytes() == b"slow"


def test_many_writers_at_once_leave_one_whole_content(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([letter]) * 50_000 for letter in range(8)]
    threads = [threading.Thread(target=write_whole, args=(path, data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_no_other_module_renames_drafts_by_itself():
    """One way to write a file whole: what it takes is known in one place."""
    allowed = {ROOT / "shared" / "whole_file.py"}
    banned = {"mkstemp", "NamedTemporaryFile", "link", "rename", "renames"}
    for package in ("shared", "device_client", "cloud_service", "experiments"):
        for path in set((ROOT / package).rglob("*.py")) - allowed:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                name, owner = node.func.attr, ast.unparse(node.func.value)
                frame = "frame" in owner or "log" in owner  # a table's columns are renamed
                assert frame or name not in banned, f"{path}: {ast.unparse(node)[:80]}"
                moves = name == "replace" and len(node.args) == 1 and not node.keywords
                assert not moves, f"{path}: {ast.unparse(node)[:80]}"
