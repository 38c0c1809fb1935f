"""`device-client rerank`: items beside their own scores, and what was odd, in words."""

import re
import shutil

import pytest

from device_client.bundle import Bundle
from device_client.cli import main
from device_client.session import Session
from tests.device.conftest import numbered

ROWS = [4, 30, 17, 50]


@pytest.fixture
def bundles(integer_bundle, tmp_path):
    """A folder of bundles with one whose ids are integers."""
    version = Bundle.open(integer_bundle).version
    shutil.copytree(integer_bundle, tmp_path / "bundles" / version)
    return tmp_path / "bundles"


@pytest.fixture
def offline(bundles, capsys, monkeypatch):
    """Runs the command without a cloud; gives its status and what it said."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        given = [str(argument) for argument in arguments]
        status = main(["rerank", "--offline", "--bundles", str(bundles), *given])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_items_are_printed_best_first_beside_their_own_scores(offline, integer_bundle):
    session = Session(Bundle.open(integer_bundle))
    session.click_row(9)
    ids = [numbered(row) for row in ROWS]
    status, said = offline("--clicks", numbered(9), "--candidates", *ids)
    assert status == 0
    lines = re.findall(r"^ +\d+ (\d+) .* (-?\d+\.\d+)$", said, re.MULTILINE)
    scores = dict(zip(map(str, ids), session.score_rows(ROWS), strict=True))
    best = sorted(scores, key=scores.get, reverse=True)
    assert lines == [(item, f"{scores[item]:.4f}") for item in best]
    assert max(map(len, said.splitlines())) <= 130


def test_the_reason_of_the_outcome_is_printed(offline):
    _, said = offline("--clicks", numbered(9))
    assert "served: offline." in said
    assert "why: no cloud is configured" in said


def test_unknown_candidates_and_clicks_are_named_and_not_ranked(offline):
    status, said = offline("--clicks", "gone", numbered(9), "--candidates", numbered(4), "new", 4)
    assert status == 0
    assert "does not know: gone" in said
    assert "unknown to this model, so not ranked: new, 4" in said
    assert len(re.findall(r"^ +\d+ \d+ ", said, re.MULTILINE)) == 1
    assert "-inf" not in said


def test_candidates_that_are_all_unknown_are_said_to_be_so(offline):
    status, said = offline("--clicks", numbered(9), "--candidates", "new", "newer")
    assert status == 0
    assert "served: unknown_candidates." in said
    assert "unknown to this model, so not ranked: new, newer" in said


def test_clicks_that_are_all_unknown_are_an_error_that_shows_an_id_of_the_catalogue(offline):
    status, said = offline("--clicks", "9")
    assert status == 2
    assert f"ids are like '{numbered(1)}': 9" in said
    assert said.count("\n") == 1


def test_both_rankings_fit_a_terminal_of_80_columns(served_store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    given = ["--url", served_store, "--bundles", str(tmp_path), "--budget-ms", "5000"]
    assert main(["rerank", "--user", "0", *given]) == 0
    said = capsys.readouterr().out
    head, *lines = said.partition("without the correction")[2].splitlines()
    assert re.search(r"score +with it +score$", head)
    for line in lines[:10]:
        assert len(re.findall(r"-?\d+\.\d{4}", line)) == 2, line
        assert len(line) <= 80, line
    assert "served: applied" in said
    assert "why:" not in said


@pytest.mark.parametrize("user", ["12", "9999"])
def test_a_user_that_is_not_there_gets_the_range(user, served_store, tmp_path, capsys):
    given = ["--url", served_store, "--bundles", str(tmp_path)]
    assert main(["rerank", "--user", user, *given]) == 2
    said = capsys.readouterr().err
    assert "held-out users: --user goes from 0 to 11" in said
    assert said.count("\n") == 1
