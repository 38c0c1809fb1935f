"""What the README says, works."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import BIN

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_library_snippet_runs_against_a_cloud(served_store, small_bundle, tmp_path):
    (snippet,) = blocks("python")
    ids = np.load(small_bundle / "item_ids.npy")
    for number, shown in enumerate(("85123A", "22423", "47566", "20725")):
        assert shown in snippet
        snippet = snippet.replace(shown, ids[number].decode())
    snippet = snippet.replace("http://127.0.0.1:8000", served_store)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Timeline(" in done.stdout


COMMANDS = [
    line
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith(("cloud-service", "device-client"))
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_exists_with_its_options(line):
    words = line.split()
    named = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
    depth = 2 if words[1] in ("jobs", "models") else 1
    done = subprocess.run(
        [BIN / words[0], *named[:depth], "--help"], capture_output=True, text=True,
        env={"COLUMNS": "200", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


def test_every_make_target_shown_exists():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"make ([a-z-]+)", README))
    assert {"demo", "test"} <= targets
    for target in targets - {"demo"} | {"demo"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_the_readme_links_to_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
