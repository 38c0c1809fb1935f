"""`device-client learn`: what a device knows, learns and forgets, at a terminal."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.cli import main

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"


@pytest.fixture
def learn(tmp_path, capsys):
    """Runs the command with a golden bundle and a store; gives its status and what it said."""

    def run(*arguments, bundle="learning-shift"):
        version = Bundle.open(GOLDEN / bundle).version
        if not (tmp_path / "bundles" / version).exists():
            shutil.copytree(GOLDEN / bundle, tmp_path / "bundles" / version)
        places = ["--bundles", str(tmp_path / "bundles"), "--model", version]
        status = main(
            ["learn", "--offline", "--store", str(tmp_path / "clicks"), *places, *arguments]
        )
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def ids(count):
    bundle = Bundle.open(GOLDEN / "learning-shift")
    rows = np.random.default_rng(0).integers(1, bundle.manifest.items, count)
    return [bundle.item_id(int(row)) for row in rows]


def test_clicks_are_kept_from_call_to_call_and_learned_from(learn):
    status, said = learn("--clicks", *ids(3))
    assert status == 0
    assert "3 clicks" in said
    assert "too_few" in said
    status, said = learn("--clicks", *ids(30))
    assert status == 0
    assert "33 clicks" in said
    assert "learned: improved" in said or "learned: kept" in said


def test_a_forgotten_store_is_empty(learn, tmp_path):
    learn("--clicks", *ids(20))
    assert any(path.stat().st_size for path in (tmp_path / "clicks").iterdir())
    status, said = learn("--forget")
    assert status == 0
    assert "forgotten" in said
    _, said = learn()
    assert "store" in said
    assert " 0 clicks" in said


def test_a_bundle_without_learning_says_so(learn):
    item = Bundle.open(GOLDEN / "projected").item_id(1)
    status, said = learn("--clicks", item, bundle="projected")
    assert status == 0
    assert "ships nothing to learn" in said
    assert "nothing to learn" in said.splitlines()[-1]


def test_a_store_in_use_is_one_line(learn, tmp_path):
    from device_client.learning.store import ClickStore

    with ClickStore.open(tmp_path / "clicks"):
        status, said = learn("--clicks", *ids(1))
    assert status == 2
    assert said.count("\n") == 1
    assert "is open elsewhere" in said
