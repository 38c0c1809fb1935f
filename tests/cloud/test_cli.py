"""The commands of `cloud-service`."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_service.commands.names import pick
from cloud_service.commands.recipe import read_recipe
from cloud_service.recommender.recipe import OPTIONS, TrainingRecipe
from cloud_service.services.job import Job, JobRequest
from shared.errors import InvalidRequest
from shared.model import ModelSettings
from tests.instruments.processes import listening, running

COMMANDS = [
    "serve", "worker", "train", "evaluate", "tables", "fetch", "parity",
    "models list", "models show", "models promote", "models retire",
    "jobs submit", "jobs list", "jobs show", "jobs log", "jobs cancel", "jobs wait",
]  # fmt: skip


def environment(**settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_")}
    return kept | {"COLUMNS": "200"} | settings


def command(*words, **settings):
    return subprocess.run(
        [sys.executable, "-m", "cloud_service.cli", *words],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def in_process(monkeypatch, capsys):
    """Runs a command in this process; returns exit code, stdout and stderr."""
    from cloud_service.cli import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cloud-service", *words])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_shows_an_example_of_it(in_process, name):
    code, out, _ = in_process(*name.split(), "--help")
    assert code == 0
    assert f"Example: cloud-service {name}" in out


def test_help_lists_every_command(in_process):
    _, out, _ = in_process("--help")
    for name in COMMANDS:
        assert name.split()[0] in out


def test_help_needs_no_heavy_library():
    code = (
        "import sys, cloud_service.cli\n"
        "heavy = {'torch', 'polars', 'onnxruntime', 'fastapi', 'dbos'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_recipe_options_are_those_of_the_recipe(in_process):
    _, out, _ = in_process("train", "--help")
    names = set(OPTIONS) - {"model"} | set(ModelSettings.model_fields)
    for name in names:
        assert f"--{name.replace('_', '-')} " in out, name


def test_a_recipe_file_is_read_and_options_win_over_it(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text('{"data": "movielens-100k", "epochs": 7, "model": {"dim": 32, "heads": 2}}')
    found = read_recipe(path, {"epochs": 9, "heads": 4, "seed": None})
    assert (found.data.data, found.optimisation.epochs, found.optimisation.seed) == (
        "movielens-100k",
        9,
        0,
    )
    assert (found.network.model.dim, found.network.model.heads) == (32, 4)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"epoch": 3}', '{"epochs": 0}', "\xff"])
def test_a_recipe_file_that_is_none_is_a_named_error(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text, "latin-1")
    with pytest.raises(InvalidRequest):
        read_recipe(path, {})


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "--epochs", "0"], "epochs: Input should be greater than or equal to 1"),
        (["train", "--dim", "10"], "must split into 4 heads"),
        (["train", "--recipe", "/nowhere/recipe.json"], "No such file"),
        (["jobs", "submit", "--seed", "-1"], "seed: Input should be greater"),
        (["jobs", "list", "--url", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        (["jobs", "log", "x", "--url", "http://127.0.0.1:1"], "no answer from"),
        (["models", "list", "--url", "localhost:1"], "no answer from localhost:1"),
        (["models", "list", "--url", "http://[::1"], "is no address"),
        (["serve", "--port", "70000"], "CLOUD_PORT: Input should be less than"),
        (["parity", "/nowhere/published.npz"], "cannot be read"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(in_process, words, reason):
    code, out, err = in_process(*words)
    assert code == 2
    assert reason in err
    assert err.startswith("cloud-service: ")
    assert len(err.splitlines()) == 1
    assert out == ""


def test_data_that_cannot_be_used_is_one_clear_line(in_process, tmp_path):
    log = tmp_path / "clicks.csv"
    log.write_text("user_id,item_id\n1,2\n")
    code, _, err = in_process("train", "--data", str(log), "--store", str(tmp_path / "store"))
    assert code == 2
    assert "timestamp" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_misspelt_setting_stops_the_server():
    done = command("serve", CLOUD_STROE="/tmp")
    assert done.returncode == 2
    assert (
        done.stderr == "cloud-service: there is no setting CLOUD_STROE: did you mean CLOUD_STORE?\n"
    )


@pytest.mark.slow
def test_a_worker_without_its_database_says_so(tmp_path):
    url = "postgresql://someone:hidden@127.0.0.1:1/jobs?connect_timeout=1"
    done = command("worker", CLOUD_STORE=str(tmp_path), CLOUD_DATABASE_URL=url)
    assert done.returncode == 2
    assert "the database of jobs does not answer" in done.stderr
    assert "hidden" not in done.stderr


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cloud")
    output = folder / "output"
    settings = {"CLOUD_STORE": str(folder / "store"), "CLOUD_ADMIN_TOKEN": "long-enough"}
    with running(["cloud-service", "serve", "--port", "0"], output, **settings) as process:
        yield listening(process, output)


@pytest.mark.slow(8)
def test_a_job_is_submitted_shown_followed_and_cancelled(in_process, url, monkeypatch):
    refused, _, err = in_process("jobs", "submit", "--url", url)
    assert refused == 2
    assert "(401 unauthorized)" in err
    monkeypatch.setenv("CLOUD_ADMIN_TOKEN", "long-enough")
    code, out, err = in_process("jobs", "submit", "--epochs", "3", "--url", url)
    assert code == 0, err
    job = out.strip()
    monkeypatch.setenv("CLOUD_URL", url)
    code, out, _ = in_process("jobs", "list")
    assert job[:8] in out
    assert "no worker is running" in out
    assert job[:8] not in in_process("jobs", "list", "--state", "failed")[1]
    assert '"epochs": 3' in in_process("jobs", "show", job[:8])[1]
    assert f"{job} is cancelled" in in_process("jobs", "cancel", "latest")[1]
    assert "Asked to stop." in in_process("jobs", "log", job, "--follow")[1]
    code, _, err = in_process("jobs", "wait", "latest")
    assert code == 1
    assert "the job was cancelled" in err


def test_what_the_cloud_refuses_is_one_clear_line(in_process, url):
    code, _, err = in_process("models", "show", "production", "--url", url)
    assert code == 2
    assert "no model has been promoted yet" in err
    assert "(503 not-ready)" in err
    code, _, err = in_process("jobs", "show", "0" * 36, "--url", url)
    assert code == 2
    assert "(404 unknown-job)" in err
    code, _, err = in_process("jobs", "show", "nothing", "--url", url)
    assert code == 2
    assert "no job begins with 'nothing'" in err


def test_an_id_is_its_first_characters_or_the_latest_and_never_a_guess():
    ids = ["abc1", "abd2", "x"]
    assert pick("latest", ids, "job") == "abc1"
    assert pick("abd", ids, "job") == "abd2"
    assert pick("x", [*ids, "xy"], "job") == "x"
    for text, reason in (
        ("ab", "more than one job begins with 'ab': abc1, abd2"),
        ("q", "no job begins with 'q'; the newest: abc1, abd2, x"),
        ("", "no job begins with ''"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            pick(text, ids, "job")
    with pytest.raises(InvalidRequest, match="there is no job yet"):
        pick("latest", [], "job")


def test_a_list_of_jobs_fits_a_terminal_of_80_columns_whatever_went_wrong(monkeypatch, capsys):
    from rich.console import Console

    from cloud_service.commands import jobs

    job = Job(
        id="c9fb854d-f78e-42d8-950c-abc42a25acf9",
        state="failed",
        request=JobRequest(recipe=TrainingRecipe(data="a-log-with-a-long-name-indeed.csv.gz")),
        error="[bold] the log cannot be read: " + "word " * 200,
        created=datetime.now(UTC) - timedelta(minutes=3),
        updated=datetime.now(UTC),
    )
    monkeypatch.setattr(jobs, "out", Console(width=80, force_terminal=False))
    monkeypatch.setattr(jobs.CloudClient, "get", lambda *_, **__: [job.model_dump(mode="json")])
    jobs.list_jobs(limit=20, state=None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    assert "c9fb854d" in lines[3]
    assert "failed" in lines[3]
    assert "3 min" in lines[3]
    assert "[bold] the log" in lines[3]


def test_a_library_that_is_not_installed_is_named_with_what_to_install():
    code = "import sys\nsys.modules['typer'] = None\nfrom cloud_service.entry import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "typer is not installed here: pip install 'device-cloud" in done.stderr


def test_the_version_is_printed(in_process):
    code, out, _ = in_process("--version")
    assert code == 0
    assert re.fullmatch(r"cloud-service \d+\.\d+\.\d+\n", out)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="training needs torch")
def test_parity_over_the_tolerance_ends_in_exit_code_1(in_process, monkeypatch):
    from experiments import parity
    from experiments.parity import Difference

    found = [Difference("torch", "a", "scores", 1e-7), Difference("onnx", "a", "scores", 2e-4)]
    monkeypatch.setattr(parity, "check_parity", lambda path: iter(found[:1]))
    code, out, _ = in_process("parity", "x.npz")
    assert code == 0
    assert "1.00e-07" in out
    monkeypatch.setattr(parity, "check_parity", lambda path: iter(found))
    code, out, _ = in_process("parity", "x.npz")
    assert code == 1
    assert "2.00e-04" in out
    assert "over 0.0001" in out


def test_the_environment_of_a_composed_training_is_read_as_numbers(monkeypatch):
    for name, value in {"EPOCHS": "5", "LEARNING_RATE": "0.01", "DIM": "32"}.items():
        monkeypatch.setenv(f"TRAIN_{name}", value)
    script = Path(__file__).parents[2] / "docker" / "train_once.py"
    recipe = runpy.run_path(str(script))["_recipe"]()
    assert (recipe.optimisation.epochs, recipe.optimisation.learning_rate) == (5, 0.01)
    assert recipe.network.model.dim == 32


def test_a_file_of_the_publisher_is_fetched_from_and_another_edition_is_named(tmp_path):
    (tmp_path / "Yelp.txt").write_text("1 7 3 7\n2 3 9\n")
    done = command(
        "fetch", "yelp", "--from", tmp_path / "Yelp.txt", CLOUD_DATA_FOLDER=str(tmp_path)
    )
    assert done.returncode == 0
    assert done.stdout.strip() == str(tmp_path / "yelp.csv.gz")
    assert "it is another edition" in done.stderr
