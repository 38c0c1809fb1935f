"""Samples for devices over HTTP: off without a token, whole answers, a name for every refusal."""

import threading
import time

import numpy as np
import pytest
from calling import Caller, code_of, publish

from cloud_service.api.samples import BODY_LIMIT, WAITING, SamplesEndpoint
from cloud_service.recommender.pool.pool_file import pool_bytes
from cloud_service.settings import SettingsError, load_settings
from shared.problems import MEDIA_TYPE
from shared.samples import (
    CHECK_HEADER,
    RANDOM_TYPE,
    ROWS_TYPE,
    SAMPLE_TYPES,
    STATES_TYPE,
    SampleWire,
    check_of,
    samples_path,
)
from tests.instruments.pools import small_pool

TOKEN = "the-token-of-devices"
DIM, ITEMS = 8, 6
WIRE = SampleWire(DIM, ITEMS)
STATE = np.ones(DIM, "<f2").tobytes()


@pytest.fixture
def open_cloud(make_cloud):
    """A cloud that hands out samples, and a version with a pool of 300."""
    cloud = make_cloud(device_token=TOKEN)
    version = cloud.promoted()
    cloud.store.write_pool(version, pool_bytes(small_pool(300, DIM, ITEMS)))
    return cloud, version


def ask(cloud, version, body=STATE, *, token=TOKEN, method="POST", **headers):
    given = {"content-type": STATES_TYPE} | {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        given["authorization"] = f"Bearer {token}"
    call = Caller(cloud.app)
    return call(method, samples_path(version), content=body, headers=given)


@pytest.mark.parametrize("form", SAMPLE_TYPES)
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (STATES_TYPE, STATE),
        (STATES_TYPE, STATE * 8),
        (ROWS_TYPE, np.array([1, 6, 1], "<u4").tobytes()),
        (RANDOM_TYPE, b""),
    ],
)
def test_samples_come_whole_in_the_form_that_was_asked_for(open_cloud, form, media_type, body):
    cloud, version = open_cloud
    table = np.ones((ITEMS + 1, DIM), np.float32)
    np.save(cloud.store.version_folder(version) / "items.npy", table)
    answer = ask(cloud, version, body, content_type=media_type, accept=SAMPLE_TYPES[form])
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == SAMPLE_TYPES[form]
    assert answer.headers["model-version"] == version
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers[CHECK_HEADER] == check_of(body, answer.content)
    samples = WIRE.decode_samples(answer.content, form)
    assert samples.states.shape == (200, DIM)
    fewer = ask(cloud, version, body, content_type=media_type, sample_count="7")
    assert len(WIRE.decode_samples(fewer.content, "int8").rows) == 7


def test_two_hundred_samples_of_64_numbers_are_at_most_30_kb(make_cloud):
    wire = SampleWire(64, ITEMS)
    assert [200 * wire.sample_bytes(form) for form in SAMPLE_TYPES] == [26_400, 14_400]


def test_without_a_token_there_are_no_samples_whatever_is_sent(make_cloud):
    cloud = make_cloud()
    version = cloud.promoted()
    cloud.store.write_pool(version, pool_bytes(small_pool(300, DIM, ITEMS)))
    for token in (None, TOKEN, "", cloud.services.admin_token):
        answer = ask(cloud, version, token=token)
        assert (answer.status_code, code_of(answer)) == (403, "forbidden")


@pytest.mark.parametrize(
    "token", [None, "", "the-token-of-device", TOKEN + "s", TOKEN.upper(), "é"]
)
def test_only_the_token_of_devices_is_taken(open_cloud, token):
    cloud, version = open_cloud
    headers = {} if token is None else {"authorization": f"Bearer {token}".encode()}
    call = Caller(cloud.app)
    answer = call("POST", samples_path(version), content=STATE,
                  headers=headers | {"content-type": STATES_TYPE})  # fmt: skip
    assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "token of devices" in answer.json()["title"]


def test_the_admin_token_is_no_token_of_devices_and_the_other_way_round(open_cloud):
    cloud, version = open_cloud
    assert ask(cloud, version, token=cloud.services.admin_token).status_code == 401
    caller = Caller(cloud.app, token=TOKEN)
    assert caller("POST", f"/v1/models/{version}/promote").status_code == 401


def test_a_token_is_one_of_visible_characters_and_not_the_admins(monkeypatch):
    for token in ("short", "with a blank", "späterer-schlüssel"):
        with pytest.raises(SettingsError, match="CLOUD_DEVICE_TOKEN") as caught:
            load_settings(device_token=token)
        assert token not in str(caught.value)
    with pytest.raises(SettingsError, match="must not be CLOUD_ADMIN_TOKEN"):
        load_settings(device_token=TOKEN, admin_token=TOKEN)
    assert TOKEN in load_settings(device_token=TOKEN).secrets()
    assert TOKEN not in repr(load_settings(device_token=TOKEN))


NAN = np.full(DIM, np.nan, "<f2").tobytes()
PROVOKED = {
    "forbidden": None,
    "unauthorized": {"token": "another-token"},
    "method-not-allowed": {"method": "GET"},
    "wrong-media-type": {"content_type": "application/octet-stream"},
    "not-acceptable": {"accept": "text/html"},
    "length-required": {"body": iter([STATE])},
    "request-too-large": {"body": bytes(BODY_LIMIT + 1)},
    "request-timeout": None,
    "bad-count": {"sample_count": "201"},
    "wrong-length": {"body": STATE[:-1]},
    "not-finite": {"body": NAN},
    "unknown-item": {"body": np.array([7], "<u4").tobytes(), "content_type": ROWS_TYPE},
    "unknown-model": None,
    "retired-model": None,
    "no-samples": None,
    "bundle-invalid": None,
    "overloaded": None,
}
"""A request for each problem; None where a test of its own provokes it."""


@pytest.mark.parametrize("code", [code for code, case in PROVOKED.items() if case])
def test_a_query_that_breaks_the_format_is_refused_by_name(open_cloud, code):
    cloud, version = open_cloud
    case = dict(PROVOKED[code])
    if code == "length-required":

        async def chunked():
            yield STATE

        case["body"] = chunked()
    answer = ask(cloud, version, **case)
    assert code_of(answer) == code
    assert answer.headers.get("connection") == ("close" if code == "request-too-large" else None)


@pytest.mark.parametrize(
    "case",
    [
        {"body": b""},
        {"body": STATE * 9},
        {"body": b"x", "content_type": RANDOM_TYPE},
        {"body": bytes(4 * 65), "content_type": ROWS_TYPE},
        {"body": b"", "content_type": ROWS_TYPE},
        {"body": bytes(2 * DIM)},
        {"body": bytes(4), "content_type": ROWS_TYPE},
        {"content_encoding": "gzip"},
        {"sample_count": "0"},
        {"sample_count": "-1"},
        {"sample_count": "1e2"},
        {"accept": f"{SAMPLE_TYPES['half']};q=0"},
    ],
)
def test_other_queries_that_break_the_format_are_refused(open_cloud, case):
    answer = ask(*open_cloud, **case)
    assert answer.status_code in (400, 406, 415, 422)
    code_of(answer)


def test_every_documented_problem_is_provoked_here(open_cloud):
    page = open_cloud[0].call("GET", "/openapi.json").json()
    documented = set()
    for status, response in page["paths"]["/v1/models/{version}/samples"]["post"][
        "responses"
    ].items():
        if status != "200":
            documented |= response["content"][MEDIA_TYPE]["examples"].keys()
    assert documented == PROVOKED.keys()


@pytest.mark.parametrize("version", ["0" * 16, "production", "..", "x" * 3000, "%2e%2e"])
def test_what_names_no_version_is_an_unknown_model(open_cloud, version):
    assert code_of(ask(open_cloud[0], version)) in ("unknown-model", "unknown-path")


def test_a_version_without_samples_says_so(open_cloud):
    cloud, version = open_cloud
    assert ask(cloud, version).status_code == 200
    cloud.store.write_pool(version, None)
    assert code_of(ask(cloud, version)) == "no-samples"
    other = publish(cloud.store, "other")
    assert code_of(ask(cloud, other)) == "no-samples"


def test_a_retired_version_has_no_samples_and_its_pool_is_gone(open_cloud):
    cloud, version = open_cloud
    cloud.store.promote(publish(cloud.store, "other"))
    assert ask(cloud, version).status_code == 200
    cloud.store.retire(version)
    assert code_of(ask(cloud, version)) == "retired-model"
    assert cloud.store.local_pool(version) is None


DAMAGES = {
    "short": lambda raw: raw[:-1],
    "long": lambda raw: raw + b"x",
    "empty": lambda raw: b"",
    "zeros": lambda raw: bytes(len(raw)),
    "a header of 2^64 bytes": lambda raw: b"\xff" * 9,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_pool_is_a_named_problem_that_shows_no_path(open_cloud, damage):
    cloud, version = open_cloud
    raw = cloud.store.local_pool(version).read_bytes()
    cloud.store.write_pool(version, damage(raw))
    answer = ask(cloud, version)
    assert code_of(answer) == "bundle-invalid"
    assert str(cloud.store.folder) not in answer.text
    cloud.store.write_pool(version, raw)
    assert ask(cloud, version).status_code == 200


@pytest.mark.slow
def test_a_pool_that_is_replaced_all_the_time_gives_whole_answers_or_none(open_cloud):
    cloud, version = open_cloud
    contents = [pool_bytes(small_pool(300 + 50 * n, DIM, ITEMS, item=n + 1)) for n in range(3)]
    cloud.store.write_pool(version, contents[0])
    done = threading.Event()

    def replace():
        n = 0
        while not done.is_set():
            cloud.store.write_pool(version, None if n % 4 == 3 else contents[n % 4])
            n += 1

    thread = threading.Thread(target=replace)
    thread.start()
    seen = set()
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            answer = ask(cloud, version)
            if answer.status_code != 200:
                assert code_of(answer) == "no-samples"
                continue
            rows = WIRE.decode_samples(answer.content, "int8").rows
            assert len(rows) == 200
            assert len(set(rows.tolist())) == 1, "of two pools"
            seen.add(int(rows[0]))
    finally:
        done.set()
        thread.join()
    assert seen == {1, 2, 3}


def test_more_searches_than_wait_are_refused_and_the_others_answered(open_cloud, monkeypatch):
    cloud, version = open_cloud
    begun, go_on = threading.Event(), threading.Event()
    search = cloud.services.samples.answer

    def slow(*arguments):
        begun.set()
        go_on.wait(30)
        return search(*arguments)

    monkeypatch.setattr(cloud.services.samples, "answer", slow)
    endpoint = SamplesEndpoint(cloud.services.samples, TOKEN, waiting=2)
    answers = []

    def one():
        call = Caller(endpoint)
        headers = {"content-type": STATES_TYPE, "authorization": f"Bearer {TOKEN}"}
        answers.append(call("POST", samples_path(version), content=STATE, headers=headers))

    # The count of what waits belongs to the event loop: here each caller has its own, one by one.
    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
        begun.wait(30)
    while endpoint._waiting < 2:
        time.sleep(0.01)
    one()
    refused = answers[0]
    assert (refused.status_code, code_of(refused)) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    go_on.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers[1:]] == [200, 200]
    assert endpoint._waiting == 0
    endpoint.close()
    assert WAITING >= 2
