"""The ledger of a soak: what balances, and what is noticed when it does not."""

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks.soak import ledger
from benchmarks.soak.ledger import Life


def test_a_rise_is_found_within_its_interval_and_none_where_there_is_none():
    times = np.arange(0, 900, 2.0)
    noise = np.random.default_rng(0).normal(0, 1, len(times))
    risen = ledger.slope(times, 200 + 12 * times / 3600 + noise)
    flat = ledger.slope(times, 200 + noise)
    assert risen["low"] < 12 < risen["high"]
    assert risen["low"] > 0
    assert flat["low"] < 0 < flat["high"]
    assert flat["mean"] == pytest.approx(200, abs=0.5)


def test_the_clouds_counters_are_compared_with_the_answers_seen_by_status():
    page = (
        "# HELP cloud_corrections_total Answers\n"
        'cloud_corrections_total{outcome="row"} 40.0\n'
        'cloud_corrections_total{outcome="full"} 2.0\n'
        'cloud_corrections_total{outcome="overloaded"} 1.0\n'
        'cloud_corrections_created{outcome="row"} 1.7e+09\n'
    )
    before = Counter({200: 7})
    life = Life(before, looked=Counter({200: 49, 503: 1}), counted=ledger.counters(page))
    assert life.differences() == {}
    life.looked[200] -= 1
    assert life.differences() == {"200": 1}


def test_a_request_that_only_one_side_knows_or_that_ended_as_it_could_not_is_named(tmp_path):
    (tmp_path / "proxy").write_text(
        "127.0.1.1 4000 1 1 200 passed\n"
        "127.0.1.1 4000 1 2 200 corruption\n"
        "127.0.1.1 4000 1 3 503 corruption\n"
        "127.0.1.1 4001 1 1 200 passed\n"
    )
    (tmp_path / "requests-0-0").write_text(
        "127.0.1.1 4000 1 1 applied\n"
        "127.0.1.1 4000 1 2 applied\n"
        "127.0.1.1 4000 1 3 refused\n"
        "127.0.1.1 4002 1 1 offline\n"
    )
    found = ledger.joined(tmp_path)
    assert found["unexplained"] == ["127.0.1.1 4000 1 2 applied: corruption, 200"]
    assert found["sent, not seen by the proxy"] == ["127.0.1.1 4002 1 1 offline"]
    assert found["seen by the proxy, not sent"] == ["127.0.1.1 4001 1 1"]
    assert found["by fault"]["corruption"] == {"applied": 1, "refused": 1}


def test_all_devices_are_added_up(tmp_path):
    for number in range(2):
        kept = {"ledger": {"asked": 3}, "faults": [], "differ": [f"one of {number}"]}
        (tmp_path / f"ledger-{number}.json").write_text(json.dumps(kept))
    told, faults, differ = ledger.devices(tmp_path)
    assert (told["asked"], faults, differ) == (6, [], ["one of 0", "one of 1"])
