"""Promotion of a new version: production, and the alias of its log."""

import json
import signal
from datetime import UTC, datetime

import pytest

from cloud_service.publishing.promotion import Verdict, promote
from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import Store, log_alias
from shared.manifest import Manifest, TrainingData, TrainingEnd
from shared.model import ModelSettings


def publish(store, log, content, limit=""):
    def describe(files):
        data = TrainingData(
            name=log, users=1, items=1, clicks=1, synthetic=True, preprocessing="none"
        )
        return Manifest(
            model=ModelSettings(), items=1, opset=20, data=data, metrics={}, files=files,
            created=datetime(2026, 1, 1, tzinfo=UTC),
            training=TrainingEnd(epochs=2, best_epoch=2, limit=limit),
        )  # fmt: skip

    return store.publish({"a.bin": StoreFile(content, "device")}, describe)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def nobody(version, current):
    raise AssertionError(f"{version} was compared with {current}")


def judge(better):
    return lambda version, current: Verdict(better, f"0.1 against 0.2 of version {current}")


def test_the_first_model_of_a_store_takes_production_and_its_logs_alias(store):
    first_version = publish(store, "shop", b"1")
    assert promote(store, first_version, "better", nobody) == (
        f"published version {first_version}; production and shop point at it now"
    )
    assert store.aliases() == {"production": first_version, "shop": first_version}


def test_a_model_that_ranks_worse_takes_nothing_and_the_command_for_it_is_said(store):
    first_version, second = publish(store, "shop", b"1"), publish(store, "shop", b"2")
    promote(store, first_version, "better", nobody)
    outcome = promote(store, second, "better", judge(False))
    assert store.aliases() == {"production": first_version, "shop": first_version}
    assert outcome == (
        f"published version {second}; not promoted to production and shop; "
        f"0.1 against 0.2 of version {first_version}; `cloud-service models promote {second}` and "
        f"`cloud-service models promote {second} --alias shop` promote it by hand"
    )
    promote(store, second, "better", judge(True))
    assert store.aliases() == {"production": second, "shop": second}


def test_another_log_gets_an_alias_of_its_own_and_leaves_production_alone(store):
    first_version, other_version = publish(store, "shop", b"1"), publish(store, "films", b"2")
    promote(store, first_version, "better", nobody)
    outcome = promote(store, other_version, "better", nobody)
    assert store.aliases() == {
        "production": first_version,
        "films": other_version,
        "shop": first_version,
    }
    assert (
        f"production stays with version {first_version}, a model of another log (shop)" in outcome
    )
    assert "films points at it now" in outcome
    newer_version = publish(store, "films", b"3")
    promote(store, newer_version, "better", judge(False))
    assert store.pointed_at("films") == other_version
    promote(store, newer_version, "always", nobody)
    assert store.aliases() == {
        "production": newer_version,
        "films": newer_version,
        "shop": first_version,
    }


def test_never_points_nothing_at_a_version(store):
    version = publish(store, "shop", b"1")
    outcome = promote(store, version, "never", nobody)
    assert store.aliases() == {}
    assert f"`cloud-service models promote {version}` promotes it by hand" in outcome


def test_a_promotion_that_was_cut_off_is_finished_by_the_next(store):
    first_version, second = publish(store, "shop", b"1"), publish(store, "shop", b"2")
    promote(store, first_version, "better", nobody)
    store.promote(second)  # and there the worker died
    promote(store, second, "better", judge(True))
    assert store.aliases() == {"production": second, "shop": second}


def test_a_training_that_was_cut_short_is_said_with_what_was_published(store):
    version = publish(store, "shop", b"1", limit="2 epochs")
    outcome = promote(store, version, "better", nobody)
    assert "training ended after 2 epochs while validation still improved" in outcome
    assert "cannot be told" in outcome


def test_a_damaged_model_in_production_does_not_stop_a_new_one(store):
    first_version, second = publish(store, "shop", b"1"), publish(store, "shop", b"2")
    promote(store, first_version, "better", nobody)
    (store.version_folder(first_version) / "manifest.json").write_text("{}")
    promote(store, second, "better", judge(True))
    assert store.aliases() == {"production": second, "shop": second}


@pytest.mark.parametrize("name", ["shop", "online-retail", "ml1m.v2", "0123456789abcde"])
def test_a_logs_name_that_can_be_an_alias_is_its_alias(name):
    assert log_alias(name) == name


def test_other_names_become_aliases_that_differ_where_they_do(store):
    names = ["日本 clicks", "日本  clicks", "Shop", "shop ", "production", "0123456789abcdef", "é"]
    aliases = [log_alias(name) for name in [*names, "x" * 65, "../../x", ""]]
    assert len(set(aliases)) == len(aliases)
    for alias in aliases:
        store.promote(publish(store, "d", b"1"), alias)
        assert store.pointed_at(alias)
    assert aliases[0].startswith("clicks-")


@pytest.mark.slow
def test_a_worker_that_dies_within_the_promotion_leaves_the_rest_to_the_next(idle_place):
    job = idle_place.submit(ticks=1, seed=3)
    assert idle_place.worker().wait(30) == -signal.SIGKILL
    idle_place.worker()
    done = idle_place.wait(job, "succeeded", "failed")
    assert idle_place.store.aliases() == {"production": done.version, "synthetic": done.version}
    assert done.outcome == (
        f"published version {done.version}; production and synthetic point at it now"
    )


@pytest.mark.slow
def test_a_job_whose_model_ranks_worse_says_so_in_its_outcome_and_its_log(working_place):
    first_version = working_place.wait(working_place.submit(ticks=1), "succeeded")
    worse = working_place.wait(working_place.submit(ticks=1, seed=4), "succeeded")
    assert working_place.store.production() == first_version.version
    assert (
        f"not promoted to production and synthetic; it is not as good as {first_version.version}"
        in (worse.outcome)
    )
    lines = working_place.log(worse.id).splitlines()
    assert json.loads(lines[-1])["message"].lower() == f"{worse.outcome.lower()}."
    forced = working_place.submit(ticks=1, seed=4, promote="always")
    assert working_place.wait(forced, "succeeded").version == working_place.store.production()


def test_a_job_whose_training_was_cut_short_says_so(working_place):
    done = working_place.wait(working_place.submit(ticks=1, seed=5), "succeeded")
    assert "training ended after 3 epochs while validation still improved" in done.outcome
