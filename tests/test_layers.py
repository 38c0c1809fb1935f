"""Walls of the tree: imports go one way, and a part loads nothing that it must not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLOUD = "cloud_service"
LIBRARY = f"{CLOUD}.recommender"
SERVICE = ("api", "http", "correction", "services", "storage", "publishing", "commands")
PROGRAM = ("admin_token", "bootstrap", "cli", "entry", "runtime", "settings", "worker")
ABOVE_LIBRARY = {f"{CLOUD}.{name}" for name in (*SERVICE, *PROGRAM)}
WEB = {"fastapi", "starlette", "uvicorn", "httpx", "dbos"}


def library(*above: str) -> set[str]:
    """What a part of the torch library must not import: the service, and parts above it."""
    return {f"{LIBRARY}.{name}" for name in above} | ABOVE_LIBRARY | WEB


def service(*above: str) -> set[str]:
    """What a part of the service must not import: parts above it, and the laboratory."""
    return {f"{CLOUD}.{name}" for name in above} | {"experiments"}


FORBIDDEN = {
    "shared": {"torch", "fastapi", "onnxruntime", "httpx", "polars", CLOUD, "device_client"},
    "device_client": {"torch", "onnx", "polars", "fastapi", "safetensors", "rich", CLOUD},
    # `data` downloads, so it may have httpx.
    f"{CLOUD}/recommender/data": library("models", "ranking", "training", "learning", "export")
    - {"httpx"}
    | {"torch"},
    f"{CLOUD}/recommender/models": library("ranking", "training", "learning", "export")
    | {"polars"},
    f"{CLOUD}/recommender/ranking": library("training", "learning", "export"),
    f"{CLOUD}/recommender/pool": library("training", "learning", "export") | {"polars"},
    f"{CLOUD}/recommender/training": library("learning", "export"),
    f"{CLOUD}/recommender/learning": library("export"),
    f"{CLOUD}/recommender/export": library("ranking"),
    f"{CLOUD}/recommender": library() - {"httpx"},
    f"{CLOUD}/storage": service("services", "correction", "http", "api", "publishing", "commands")
    | {"torch", "fastapi", LIBRARY},
    f"{CLOUD}/services": service("correction", "http", "api", "publishing", "commands")
    | {"torch", "fastapi"},
    f"{CLOUD}/publishing": service("correction", "http", "api", "commands") | WEB,
    f"{CLOUD}/http": service("correction", "api", "publishing", "commands", "services")
    | {"torch", LIBRARY},
    f"{CLOUD}/correction": service("api", "publishing", "commands") | {"torch", LIBRARY},
    f"{CLOUD}/api": service("publishing", "commands")
    | {"torch", "polars", "onnx", f"{LIBRARY}.training", f"{LIBRARY}.models"},
    f"{CLOUD}": {"experiments", "device_client", "benchmarks", "tests"},
    "experiments/simulation": {"torch", "polars", "onnx", "fastapi", CLOUD, "benchmarks", "tests"},
    "experiments/comparison": {"device_client", "fastapi", "dbos", "benchmarks", "tests"},
    "experiments/learning": {"device_client", "fastapi", "dbos", "benchmarks", "tests"},
    "experiments": {"benchmarks", "tests", f"{CLOUD}.api", f"{CLOUD}.http"},
}
"""By folder: what none of its modules imports, also inside functions."""


def imported(path: Path) -> set[str]:
    """Every module a file imports, also inside functions; `from a import b` is a and a.b."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_layer_imports_nothing_above_it(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for module in imported(path):
            pieces = module.split(".")
            names = {".".join(pieces[:n]) for n in range(1, len(pieces) + 1)}
            assert not names & FORBIDDEN[folder], f"{path.relative_to(ROOT)} imports {module}"


def test_every_part_of_the_cloud_has_walls():
    parts = {path.parent for path in (ROOT / CLOUD).rglob("*.py")} - {ROOT / CLOUD}
    walled = {ROOT / folder for folder in FORBIDDEN}
    commands = ROOT / CLOUD / "commands"  # the top: it may call every part
    assert {p for p in parts if p != commands and not walled & {p, p.parent}} == set()


def test_no_test_imports_a_benchmark():
    for path in (ROOT / "tests").rglob("*.py"):
        assert "benchmarks" not in {name.split(".")[0] for name in imported(path)}, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("device_client", "torch onnx polars fastapi safetensors cloud_service rich matplotlib"),
        ("device_client.cli", "torch onnx polars fastapi cloud_service experiments matplotlib"),
        ("shared.wire", "torch onnxruntime httpx"),
        ("cloud_service.bootstrap", "torch onnx onnxscript polars experiments"),
    ],
)
def test_importing_a_part_does_not_load_what_it_must_not_need(module, absent):
    script = (
        f"import sys, {module}\n"
        f"loaded = [name for name in '{absent}'.split() if name in sys.modules]\n"
        "sys.exit(' '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("cloud_service.entry", "evaluate"),
        ("cloud_service.entry", "tables"),
        ("cloud_service.entry", "parity"),
        ("device_client.cli", "simulate"),
    ],
)
def test_a_command_whose_package_is_absent_says_what_to_install(program, command):
    entry = "entry" if program == "device_client.cli" else "main"
    script = (
        f"import sys; sys.modules['experiments'] = None; sys.argv[1:] = ['{command}', 'x']\n"
        f"from {program} import {entry}; {entry}()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert f"{command} needs experiments" in done.stderr
    assert "pip install 'device-cloud-recommendation[" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_storage_knows_where_a_version_lies():
    for path in (ROOT / CLOUD).rglob("*.py"):
        if path.parent.name != "storage":
            text = path.read_text("utf-8")
            assert "version_folder" not in text, path
            assert "replay_path" not in text, path
