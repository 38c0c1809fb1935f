"""Imports go one way: shared knows neither side, the device knows neither torch nor the cloud."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLOUD = "cloud_service"
FORBIDDEN = {
    "shared": {"torch", "fastapi", "onnxruntime", "httpx", "polars", CLOUD, "device_client"},
    "device_client": {"torch", "onnx", "polars", "fastapi", "safetensors", CLOUD},
    f"{CLOUD}/models": {"fastapi", "httpx", "dbos", "polars", "device_client", f"{CLOUD}.api"},
    f"{CLOUD}/data": {"torch", "fastapi", "dbos", "device_client", f"{CLOUD}.api"},
    f"{CLOUD}/training": {"fastapi", "dbos", "httpx", "device_client", f"{CLOUD}.api"},
    f"{CLOUD}/evaluation": {"fastapi", "dbos", "httpx", "device_client", f"{CLOUD}.api"},
    f"{CLOUD}/services": {"fastapi", "device_client", f"{CLOUD}.api"},
    f"{CLOUD}/api": {"torch", "polars", "onnx", "device_client", f"{CLOUD}.training"},
    f"{CLOUD}/storage": {"torch", "fastapi", "device_client", f"{CLOUD}.api"},
}


def imported(path: Path) -> set[str]:
    """Every module a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_layer_imports_nothing_above_it(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for module in imported(path):
            parts = module.split(".")
            names = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            assert not names & FORBIDDEN[folder], f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("device_client", "torch onnx polars fastapi safetensors cloud_service rich matplotlib"),
        ("shared.wire", "torch onnxruntime httpx"),
        ("cloud_service.bootstrap", "torch onnx onnxscript polars"),
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
