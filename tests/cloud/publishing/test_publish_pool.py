"""`cloud-service train` makes the pool of what it publishes, as the log and the options say."""

import os
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from cloud_service.publishing.pool import publish_pool
from cloud_service.recommender.pool.pool_file import open_pool
from cloud_service.recommender.recipe import PoolRecipe
from cloud_service.storage.store import Store
from tests.instruments.processes import BIN

pytestmark = pytest.mark.slow(20)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """80 users on 12 items in two circles; every second user agreed."""
    path = tmp_path_factory.mktemp("logs") / "shop.csv"
    random = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp,consent"]
    for user in range(80):
        at = int(random.integers(0, 6))
        for step in range(12):
            at = (at + 1) % 6
            lines.append(f"u{user},i{at + 6 * (user % 4 // 2)},{step},{user % 2}")
    path.write_text("\n".join(lines) + "\n")
    return path


def train(log, store, *options):
    done = subprocess.run(
        [BIN / "cloud-service", "train", "--data", log, "--store", store, "--dim", "8",
         "--heads", "2", "--epochs", "1", "--gcn", "causal", *options],
        capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "500"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    return said, re.search("published version ([0-9a-f]{16})", said)[1]


def pool_of(store, version):
    path = Store(store).local_pool(version)
    manifest = Store(store).manifest(version)
    return None if path is None else open_pool(path, manifest.model.dim, manifest.items)


def test_a_pool_follows_consent_and_changes_nothing_of_the_version(log, tmp_path):
    store = tmp_path / "store"
    said, version = train(log, store, "--columns", "user=user_id,agreed=consent")
    assert "samples from 40 users who share them, each of at least 10 users" in said
    some = pool_of(store, version)
    assert some.sample_users == 10
    names = {entry.name for entry in Store(store).manifest(version).files}
    assert not [name for name in names if "pool" in name or "sample" in name]

    said, version = train(log, store, "--pool", "all", "--pool-users", "5", "--seed", "1")
    assert "samples from 80 users" in said
    assert pool_of(store, version).sample_users == 5


@pytest.mark.parametrize(
    ("recipe", "agreed", "said"),
    [
        (PoolRecipe(), None, ["pool: empty, the log has no column of consent (agreed)"]),
        (PoolRecipe(pool="none"), True, []),
        (PoolRecipe(), False, ["pool: empty, no sample of the 0 users who share is one of enough"]),
        (
            PoolRecipe(pool="all", pool_users=1000),
            None,
            ["pool: empty, no sample of the 108 users who share is one of enough"],
        ),
    ],
)
def test_an_empty_pool_removes_an_earlier_one_and_says_why(
    small_split, small_model, tmp_path, recipe, agreed, said
):
    log = small_split.log
    if agreed is not None:
        log = replace(log, agreed=np.full(log.user_count, agreed))
    dataset, store, version = replace(small_split, log=log), Store(tmp_path), "0" * 16
    lines = []
    publish_pool(store, version, small_model.scn, dataset,
                 PoolRecipe(pool="all", pool_users=1), 0, lines.append)  # fmt: skip
    assert store.local_pool(version) is not None
    assert re.match(r"pool: [\d,]+ samples from 108 users who share them", lines.pop())
    publish_pool(store, version, small_model.scn, dataset, recipe, 0, lines.append)
    assert store.local_pool(version) is None
    assert [line.partition(" of them")[0] for line in lines] == said
