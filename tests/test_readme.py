"""What the README and the how-to pages say, works."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.instruments.processes import BIN

pytestmark = pytest.mark.slow(50)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = ROOT / "docs"
HOW_TO = {path.name: path.read_text("utf-8") for path in sorted((DOCS / "how-to").glob("*.md"))}
PAGES = [README, *HOW_TO.values()]


def blocks(language: str) -> list[str]:
    return [
        block
        for page in PAGES
        for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    ]


STEPS = re.search(r"<!-- steps -->\n```sh\n(.*?)```", HOW_TO["integrate-a-device.md"], re.DOTALL)
BACKGROUND = ("cloud-service serve", "cloud-service worker")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of one's own, and the environment that points both programs at a free port."""
    folder = tmp_path_factory.mktemp("newcomer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")}
    settings = {"CLOUD_PORT": str(port), "CLOUD_URL": f"http://127.0.0.1:{port}"}
    return folder, outside | settings | {"PATH": f"{BIN}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def said(place):
    """Runs the steps in their order, as they stand, and gives what each printed.

    The job alone is told to train one epoch in place of as many as it needs.
    """
    folder, environment = place
    assert STEPS is not None
    printed = {}
    with ExitStack() as started:
        for number, line in enumerate(STEPS[1].splitlines()):
            if line.startswith(BACKGROUND):
                log = started.enter_context((folder / f"{number}.log").open("wb"))
                process = subprocess.Popen(
                    line.split(), cwd=folder, env=environment, stdout=log, stderr=log
                )
                started.callback(process.wait)
                started.callback(process.terminate)
                if "serve" in line:
                    _until_healthy(environment["CLOUD_URL"], process)
                continue
            line += " --epochs 1" if " jobs submit " in line else ""
            in_time = line.startswith("device-client rerank")
            printed[line] = _run(line.split(), folder, environment, again=in_time)
        snippet = [sys.executable, "-c", blocks("python")[0]]
        printed["python"] = _run(snippet, folder, environment, again=True)
        yield printed


def _until_healthy(url, process):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the cloud does not answer")


def _run(words, folder, environment, *, again=False):
    """What a command prints. With `again`, up to five times until a correction came in time: the
    budget is 4 ms, and other tests may have the processor."""
    for _ in range(5 if again else 1):
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if " applied" in done.stdout:
            break
    return done.stdout


def test_the_steps_work_in_the_order_they_stand(said, place):
    folder, _ = place
    assert len(said) == 6
    listed = next(text for line, text in said.items() if "models list" in line)
    assert "synthetic" in listed
    assert "production" in listed
    for line in (line for line in said if line.startswith("device-client rerank")):
        assert "applied" in said[line]
    assert (folder / "report" / "index.html").stat().st_size > 10_000


def test_the_library_snippet_runs_as_it_stands(said):
    assert " applied " in said["python"]


COMMANDS = dict.fromkeys(
    line
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith(("cloud-service", "device-client"))
)


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
    pages = "\n".join([*PAGES, (ROOT / "CONTRIBUTING.md").read_text("utf-8")])
    shown = set(re.findall(r"(?:`|^)make ([a-z-]+)", pages, re.MULTILINE))
    assert {"demo", "test", "check", "docs"} <= shown
    for target in shown:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def pages_with_links():
    return [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "shared").glob("*.md")]


@pytest.mark.parametrize("page", pages_with_links(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_links_to_exists(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", pages_with_links(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_a_page_names_exists(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    rooms = "shared|device_client|cloud_service|experiments|benchmarks|recipes|tests|scripts|docs"
    planned = {"device_client/learning/"}
    for path in re.findall(rf"`((?:{rooms})/[\w./-]*)`", text):
        if "yours" not in path and path not in planned:
            assert (ROOT / path).exists(), path


def test_the_readme_has_at_most_700_words():
    assert len(README.split()) <= 700
