"""What must work where only the device's extra is installed."""

import subprocess
import sys
from importlib.metadata import version

import pytest


def test_the_device_imports_with_neither_torch_nor_the_cloud():
    script = "import sys, device_client; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for name in ("torch", "cloud_service", "fastapi", "polars", "onnx"):
        assert f"'{name}'" not in done.stdout


@pytest.mark.parametrize("command", ["pull", "rerank", "simulate"])
def test_every_command_shows_an_example(command, capsys):
    from device_client.cli import main

    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"device-client {command} --" in said
    assert "--model VERSION|ALIAS" in said


def test_the_program_says_its_version(capsys):
    from device_client.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"device-client {version('device-cloud-recommendation')}\n"


@pytest.mark.parametrize(
    ("outside", "given", "asked"),
    [
        ("http://127.0.0.1:9", [], "http://127.0.0.1:9 "),
        ("", [], "http://127.0.0.1:8000 "),
        ("http://127.0.0.1:9", ["--url", "http://127.0.0.1:7"], "http://127.0.0.1:7 "),
    ],
)
def test_the_clouds_address_comes_from_the_environment_unless_it_is_given(
    outside, given, asked, capsys, monkeypatch
):
    from device_client import cli

    monkeypatch.setenv("CLOUD_URL", outside)
    monkeypatch.setattr(cli, "_pull", lambda options: print(options.url, "is asked") or 0)
    assert cli.main(["pull", *given]) == 0
    assert asked in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "--url", "cloud:8000"], "address"),
        (["pull", "--url", "http://127.0.0.1:9"], "no cloud at"),
        (["rerank", "--offline", "--clicks", "1", "--bundles", "/nowhere"], "device-client pull"),
        (["rerank", "--offline", "--user", "1"], "needs --clicks"),
        (["rerank", "--clicks", "1", "--budget-ms", "-1"], "tolerance"),
        (["rerank", "--clicks", "1", "--budget-ms", "nan"], "tolerance"),
        (["simulate", "--devices", "0"], "--devices"),
        (["simulate", "--rate", "0"], "--rate"),
        (["simulate", "--requests", "-5"], "--requests"),
        (["simulate", "--profiles", "lte-typcal"], "lte-typical"),
        (["simulate", "--profiles", ","], "--profiles"),
        (["simulate", "--candidates", "5000"], "1,000"),
        (["simulate", "--budget-ms", "0"], "--budget-ms"),
        (["simulate", "--think", "-1"], "--think"),
        (["simulate", "--think", "soon"], "--think"),
        (["simulate", "--pauses", "/nowhere.csv"], "/nowhere.csv"),
        (["simulate", "--pauses", "/nowhere.csv", "--think", "none"], "--pauses needs"),
        (["simulate", "--form", "row,half"], "row-half"),
        (["simulate", "--form", ","], "row-half"),
        (["pull", "--model", "../../etc"], "16 hex digits"),
        (["pull", "--model", "Production"], "alias"),
        (["rerank", "--offline", "--clicks", "1", "--model", "taobao"], "alias"),
        (["rerank", "--user", "-1"], "from 0"),
    ],
)
def test_a_bad_option_gets_one_line_that_says_what_to_do(arguments, words, capsys):
    from device_client.cli import main

    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_every_module_of_the_device_needs_the_devices_extra_alone():
    """What other extras bring cannot be imported here, and neither can the other packages."""
    script = """
import sys
for name in ("torch", "onnx", "polars", "fastapi", "safetensors", "rich", "matplotlib", "typer",
             "cloud_service", "experiments", "benchmarks", "tests"):
    sys.modules[name] = None
import importlib, pkgutil, device_client
names = [m.name for m in pkgutil.walk_packages(device_client.__path__, "device_client.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15
