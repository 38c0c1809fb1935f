"""Common behaviour of all routes: problems, limits, health, metrics."""

import asyncio
import threading
import time
from collections import Counter

import pytest
from calling import code_of, publish

from cloud_service.api.app import _refresh
from cloud_service.api.gauges import JobCounts
from cloud_service.api.metrics import BUDGET_MS, Metrics
from cloud_service.correction import corrector_cache as corrections
from cloud_service.services.heartbeat import Heartbeat
from shared.wire import correction_path


def test_an_unknown_address_is_a_problem(cloud):
    for path in ("/nothing", "/v1/jobs/", "/v1/models/x/y/z"):
        answer = cloud.call("GET", path)
        assert (answer.status_code, code_of(answer)) == (404, "unknown-path")


def test_a_wrong_method_is_a_problem_that_names_the_right_one(cloud):
    answer = cloud.call("DELETE", "/health")
    assert (answer.status_code, code_of(answer)) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


def test_an_unexpected_fault_tells_nothing_of_itself(cloud, monkeypatch):
    def fail(*_):
        raise RuntimeError("password in /home/someone")

    monkeypatch.setattr(type(cloud.services.models), "list", fail)
    answer = cloud.call("GET", "/v1/models")
    assert (answer.status_code, code_of(answer)) == (500, "internal")
    assert "password" not in answer.text


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"clicks": NaN}', "application/json"),
        (b'{"clicks": [1]}', "text/plain"),
        (b"a=1", "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_json_is_a_problem(cloud, content, media_type):
    cloud.promoted()
    answer = cloud.call(
        "POST",
        "/v1/models/production/candidates",
        content=content,
        headers={"content-type": media_type},
    )
    assert (answer.status_code, code_of(answer)) == (422, "invalid-request")


async def _in_pieces(count, size):
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models/production/candidates", "/nothing"])
def test_a_body_over_the_limit_is_refused_with_and_without_its_length(make_cloud, path):
    cloud = make_cloud(max_json_bytes=2048)
    for body in (b"x" * 2049, _in_pieces(30, 100)):
        answer = cloud.call("POST", path, content=body)
        assert (answer.status_code, code_of(answer)) == (413, "request-too-large")


def test_a_body_at_the_limit_is_read(make_cloud):
    cloud = make_cloud(max_json_bytes=2048)
    body = b'{"recipe":{}}'.ljust(2048)
    sent = {"content-type": "application/json"}
    assert cloud.call("POST", "/v1/jobs", content=body, headers=sent).status_code == 201


def test_a_body_that_does_not_arrive_is_given_up(make_cloud):
    async def slow():
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    answer = make_cloud(body_timeout=0.1).call("POST", "/v1/jobs", content=slow())
    assert (answer.status_code, code_of(answer)) == (408, "request-timeout")


def test_alive_at_once_and_ready_once_a_production_model_answers(cloud, monkeypatch):
    assert cloud.call("GET", "/health").json() == {"status": "alive"}
    for _ in range(2):
        answer = cloud.call("GET", "/ready")
        assert (answer.status_code, code_of(answer)) == (503, "not-ready")
        assert answer.headers["retry-after"] == "1"
        version = cloud.promoted()  # in production, but not loaded yet
    monkeypatch.setattr(cloud.services.correctors, "loaded", lambda: [version])
    assert cloud.call("GET", "/ready").json() == {
        "production": version,
        "worker": {"alive": False, "seconds_ago": None, "job": None},
    }


def test_ready_and_metrics_show_the_workers_sign_of_life_and_the_version_in_use(cloud, monkeypatch):
    version = cloud.promoted()
    monkeypatch.setattr(cloud.services.correctors, "loaded", lambda: [version])
    cloud.services.heartbeat.beat("c9fb854d-f78e-42d8-950c-abc42a25acf9")
    worker = cloud.call("GET", "/ready").json()["worker"]
    assert worker["alive"]
    assert worker["seconds_ago"] < 15
    assert worker["job"] == "c9fb854d-f78e-42d8-950c-abc42a25acf9"
    page = cloud.call("GET", "/metrics").text
    assert "cloud_worker_alive 1.0" in page
    assert f'version="{version}"' in page
    assert 'cloud_jobs{state="queued"} 0.0' in page


def test_a_worker_that_has_long_been_silent_is_not_alive(tmp_path, monkeypatch):
    heartbeat = Heartbeat(tmp_path)
    heartbeat.beat(None)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 60)
    state = heartbeat.state()
    assert (state.alive, round(state.seconds_ago)) == (False, 60)
    (tmp_path / "worker.json").write_text("{")
    assert not heartbeat.state().alive


@pytest.mark.slow
def test_a_database_that_hangs_does_not_hold_up_the_metrics():
    release = threading.Event()
    calls = []

    def count():
        calls.append(1)
        release.wait(20)
        return Counter({"queued": 3})

    counts = JobCounts(count)
    assert counts.read() == (Counter(), None)
    assert counts.read() == (Counter(), None)
    assert len(calls) == 1
    release.set()
    read, age = counts.read()
    assert read["queued"] == 3
    assert age < 5


def test_production_before_any_promotion_is_not_ready(cloud):
    for method, path in (("GET", ""), ("POST", "/candidates")):
        answer = cloud.call(method, f"/v1/models/production{path}", json={"clicks": []})
        assert code_of(answer) == "not-ready"


@pytest.mark.parametrize("name", ["x", "0123456789abcdef", "0123456789ABCDEF", "..", "%00", "é"])
def test_an_unknown_version_is_a_problem_everywhere(cloud, name):
    name = "%2e%2e" if name == ".." else name
    calls = [("GET", ""), ("GET", "/files/hidden.onnx"), ("GET", "/replay")]
    calls += [("POST", "/promote"), ("POST", "/retire"), ("POST", "/candidates")]
    calls += [("POST", "/candidates:batch")]
    for method, path in calls:
        body = {"clicks": [[]]} if "batch" in path else {"clicks": []}
        answer = cloud.call(method, f"/v1/models/{name}{path}", json=body)
        assert (answer.status_code, code_of(answer)) == (404, "unknown-model"), path


def test_versions_are_promoted_and_retired(cloud):
    first, second = cloud.promoted("first"), publish(cloud.store, "second")
    in_use = cloud.call("POST", f"/v1/models/{first}/retire")
    assert (in_use.status_code, code_of(in_use)) == (409, "in-use")
    promoted = cloud.call("POST", f"/v1/models/{second}/promote")
    assert (promoted.status_code, promoted.json()["production"]) == (200, True)
    retired = cloud.call("POST", f"/v1/models/{first}/retire")
    assert (retired.status_code, retired.json()["retired"]) == (200, True)
    repeated = cloud.call("POST", f"/v1/models/{first}/promote")
    assert (repeated.status_code, code_of(repeated)) == (410, "retired-model")
    alias = cloud.call("POST", "/v1/models/production/promote")
    assert code_of(alias) == "unknown-model"


def test_a_model_is_asked_for_by_the_alias_of_its_log(cloud):
    first, second = cloud.promoted("first"), publish(cloud.store, "second")
    promoted = cloud.call("POST", f"/v1/models/{second}/promote?alias=shop")
    assert promoted.json()["aliases"] == ["shop"]
    assert (promoted.json()["production"], cloud.store.production()) == (False, first)
    shown = cloud.call("GET", "/v1/models/shop")
    assert (shown.status_code, shown.headers["model-version"]) == (200, second)
    assert shown.headers["cache-control"] == "no-cache"
    assert shown.content == cloud.call("GET", f"/v1/models/{second}").content
    unchanged = cloud.call("GET", "/v1/models/shop", headers={"if-none-match": f'"{second}"'})
    assert unchanged.status_code == 304
    answer = cloud.call("POST", "/v1/models/shop/candidates", json={"clicks": []})
    assert answer.status_code == 200
    listed = {row["version"]: row["aliases"] for row in cloud.call("GET", "/v1/models").json()}
    assert listed == {first: ["production"], second: ["shop"]}
    in_use = cloud.call("POST", f"/v1/models/{second}/retire")
    assert (in_use.status_code, code_of(in_use)) == (409, "in-use")
    assert "promote another one to shop first" in in_use.json()["detail"]


@pytest.mark.parametrize(
    "alias",
    ["../x", "Shop", "", ".hidden", "a" * 65, "0123456789abcdef", "a b", "é", "a/b", "a%00"],
)
def test_what_cannot_be_an_alias_is_refused_and_becomes_no_path(cloud, alias):
    version = cloud.promoted()
    answer = cloud.call("POST", f"/v1/models/{version}/promote", params={"alias": alias})
    assert (answer.status_code, code_of(answer)) == (422, "invalid-alias")
    assert cloud.store.aliases() == {"production": version}


def test_an_unknown_alias_is_a_problem_that_names_those_there_are(cloud):
    version = cloud.promoted()
    cloud.store.promote(version, "shop")
    answer = cloud.call("GET", "/v1/models/films")
    assert (answer.status_code, code_of(answer)) == (404, "unknown-model")
    assert "the aliases are production, shop" in answer.json()["detail"]


def test_buckets_have_an_edge_at_the_tolerance_budget():
    metrics = Metrics()
    metrics.correction("row", 0.0042)
    metrics.correction("row", 0.0043)
    metrics.correction("full", 0.0001)
    metrics.correction("wrong-length", 9.0)
    page = metrics.page().decode()
    edge = BUDGET_MS / 1000
    assert f'cloud_correction_seconds_bucket{{le="{edge}",outcome="row"}} 1.0' in page
    assert 'cloud_correction_seconds_bucket{le="0.006",outcome="row"} 2.0' in page
    assert 'cloud_corrections_total{outcome="wrong-length"} 1.0' in page
    # Refusals are timed apart: they say nothing of how fast corrections are.
    assert 'cloud_correction_seconds_sum{outcome="row"} 0.0085' in page


def test_requests_are_counted_by_their_template(cloud):
    version = cloud.promoted()
    cloud.call("GET", f"/v1/models/{version}")
    cloud.call("GET", "/secret-in-a-path")
    page = cloud.call("GET", "/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    expected = 'cloud_requests_total{method="GET",route="/v1/models/{version}",status="200"} 1.0'
    assert expected in page.text
    assert f"/v1/models/{version}" not in page.text
    assert "secret-in-a-path" not in page.text
    assert "cloud_loaded_versions 0.0" in page.text


def test_versions_are_opened_and_closed_by_one_thread_which_gives_their_memory_back(
    cloud, monkeypatch
):
    """With several threads, memory grows by 5 MB for each published version."""
    opened, closed = [], []

    class Opened:
        size = 0

        def __init__(self, *_):
            opened.append(threading.current_thread().name)

        def hidden_bytes(self, *, half):
            return 2560

    def give_back():
        closed.append(threading.current_thread().name)

    monkeypatch.setattr(corrections, "Corrector", Opened)
    monkeypatch.setattr(corrections, "give_back_memory", give_back)
    versions = [cloud.promoted(name) for name in ("a", "b", "c")]
    for version in versions:
        answer = cloud.call("POST", correction_path(version), content=b"")
        assert code_of(answer) == "wrong-length"
    cloud.store.retire(versions[0])

    async def refreshed():
        task = asyncio.create_task(_refresh(cloud.services))
        async with asyncio.timeout(20):
            while not closed:
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(refreshed())
    assert opened == ["models_0"] * 3
    assert closed == ["models_0"]
    assert sorted(cloud.services.correctors.loaded()) == sorted(versions[1:])
