"""Admin calls need the token, and only the token."""

import logging

import pytest
from calling import Caller, code_of

from cloud_service.admin_token import TOKEN_FILE

TOKEN = "long-enough-token"
JOB = {"recipe": {"epochs": 1}}
LOCAL = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]
FAR = ["203.0.113.9", "10.0.0.1", "::2", "unix", ""]


@pytest.fixture
def guarded(make_cloud):
    return make_cloud(admin_token=TOKEN)


@pytest.fixture
def anonymous(guarded):
    return Caller(guarded.app)


def submit(caller, **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return caller("POST", "/v1/jobs", json=JOB, headers=named)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN],
)
def test_a_wrong_token_is_refused_even_from_this_machine(anonymous, header):
    answer = submit(anonymous, authorization=header)
    assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_a_token_beyond_ascii_is_refused_not_a_failure(anonymous):
    answer = anonymous(
        "POST", "/v1/jobs", json=JOB, headers=[("authorization", b"Bearer \xff\xfe")]
    )
    assert answer.status_code == 401


def test_two_tokens_are_none(anonymous):
    both = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer another-one")]
    assert anonymous("POST", "/v1/jobs", json=JOB, headers=both).status_code == 401
    assert anonymous("POST", "/v1/jobs", json=JOB, headers=both[::-1]).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_is_taken_from_anywhere(guarded, scheme):
    caller = Caller(guarded.app, client="203.0.113.9", host="cloud.example")
    assert submit(caller, authorization=f"{scheme} {TOKEN}").status_code == 201


@pytest.mark.parametrize("client", LOCAL + FAR)
def test_no_address_stands_for_a_token(cloud, client):
    answer = submit(Caller(cloud.app, client=client))
    assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
    assert "CLOUD_ADMIN_TOKEN" in answer.json()["detail"]
    assert TOKEN_FILE in answer.json()["detail"]


def test_a_cloud_without_a_token_takes_the_one_it_made(cloud):
    token = (cloud.settings.store / TOKEN_FILE).read_text().strip()
    assert submit(Caller(cloud.app), authorization=f"Bearer {token}").status_code == 201
    assert submit(Caller(cloud.app), authorization=f"Bearer {token[:-1]}").status_code == 401


def test_a_cloud_with_a_token_makes_none(guarded):
    assert not (guarded.settings.store / TOKEN_FILE).exists()


def test_a_cloud_that_cannot_keep_a_token_serves_and_refuses_every_admin_call(
    make_cloud, monkeypatch, caplog
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shared.whole_file.os.link", full)
    with caplog.at_level(logging.WARNING):
        cloud = make_cloud()
    assert "admin calls are refused" in caplog.text
    assert "No space left on device" in caplog.text
    for header in ("", "Bearer", "Bearer ", "Bearer None"):
        assert submit(Caller(cloud.app), authorization=header).status_code == 401
    assert cloud.call("GET", "/health").status_code == 200
    assert list(cloud.settings.store.glob(f".{TOKEN_FILE}*")) == []


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs/x/cancel", "/v1/models/0123456789abcdef/promote", "/v1/models/x/retire"],
)
def test_every_admin_call_is_guarded_before_anything_is_looked_up(anonymous, path):
    assert code_of(anonymous("POST", path)) == "unauthorized"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/health", "/metrics"])
def test_reading_needs_no_token(anonymous, path):
    assert anonymous("GET", path).status_code == 200
