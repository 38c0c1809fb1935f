"""A reader sees the old file or the new one, whatever becomes of the writer."""

import ast
import os
import resource
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


def test_a_disk_that_is_full_leaves_the_old_content_and_no_draft(old):
    """The kernel lets no file of the writer grow past a limit."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(old)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file"]


def moves_a_file(call):
    """Whether a call renames, links or drafts a file, as far as its source shows."""
    if isinstance(call.func, ast.Name):
        return call.func.id in {"mkstemp", "NamedTemporaryFile", "rename", "renames"}
    if not isinstance(call.func, ast.Attribute):
        return False
    name, owner = call.func.attr, ast.unparse(call.func.value)
    if name == "replace":  # a string's takes two arguments, a dataclass's keywords
        return owner == "os" or (len(call.args) == 1 and not call.keywords)
    if (owner, name) == ("shutil", "move"):
        return True
    of_table = "frame" in owner or "log" in owner  # a table's columns are renamed
    banned = {"mkstemp", "NamedTemporaryFile", "link", "rename", "renames"}
    return name in banned and not of_table


@pytest.mark.parametrize(
    ("source", "moves"),
    [
        ("os.replace(draft, path)", True),
        ("draft.replace(path)", True),
        ("draft.rename(path)", True),
        ("shutil.move(draft, path)", True),
        ("mkstemp()", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(settings, dim=8)", False),
        ("frame.rename(names)", False),
    ],
)
def test_the_check_over_the_sources_knows_a_rename(source, moves):
    assert moves_a_file(ast.parse(source, mode="eval").body) == moves


def test_no_other_module_renames_drafts_by_itself():
    """One way to write a file whole: what it takes is known in one place."""
    allowed = {ROOT / "shared" / "whole_file.py"}
    for package in ("shared", "device_client", "cloud_service", "experiments", "docker"):
        for path in set((ROOT / package).rglob("*.py")) - allowed:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                moves = isinstance(node, ast.Call) and moves_a_file(node)
                assert not moves, f"{path}: {ast.unparse(node)[:80]}"
