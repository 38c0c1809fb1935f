"""Who may make admin calls."""

import pytest
from calling import Caller, code_of

TOKEN = "long-enough-token"
JOB = {"recipe": {"epochs": 1}}
LOCAL = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]


@pytest.fixture
def guarded(make_cloud):
    return make_cloud(admin_token=TOKEN)


def submit(caller, **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return caller("POST", "/v1/jobs", json=JOB, headers=named)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN],
)
def test_a_wrong_token_is_refused_even_from_this_machine(guarded, header):
    answer = submit(guarded.call, authorization=header)
    assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_a_token_beyond_ascii_is_refused_not_a_failure(guarded):
    answer = guarded.call(
        "POST", "/v1/jobs", json=JOB, headers=[("authorization", b"Bearer \xff\xfe")]
    )
    assert answer.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_is_taken_from_anywhere(guarded, scheme):
    caller = Caller(guarded.app, client="203.0.113.9", host="cloud.example")
    assert submit(caller, authorization=f"{scheme} {TOKEN}").status_code == 201


@pytest.mark.parametrize("client", LOCAL)
def test_without_a_token_this_machine_may(cloud, client):
    assert submit(Caller(cloud.app, client=client)).status_code == 201


@pytest.mark.parametrize("client", ["203.0.113.9", "10.0.0.1", "::2", "unix", ""])
def test_without_a_token_other_machines_may_not(cloud, client):
    answer = submit(Caller(cloud.app, client=client))
    assert (answer.status_code, code_of(answer)) == (403, "forbidden")
    assert "CLOUD_ADMIN_TOKEN" in answer.json()["detail"]


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_real_ip", "via"])
def test_a_proxy_on_this_machine_is_not_this_machine(cloud, header):
    assert submit(cloud.call, **{header: "for=203.0.113.9"}).status_code == 403


def test_a_page_of_another_site_is_refused(cloud):
    assert submit(cloud.call, origin="https://evil.example").status_code == 403
    assert submit(cloud.call, origin="http://localhost:8000").status_code == 201


def test_a_name_that_was_pointed_at_this_machine_is_refused(cloud):
    assert submit(Caller(cloud.app, host="evil.example:8000")).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs/x/cancel", "/v1/models/0123456789abcdef/promote", "/v1/models/x/retire"],
)
def test_every_admin_call_is_guarded_before_anything_is_looked_up(guarded, path):
    assert code_of(guarded.call("POST", path)) == "unauthorized"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/health", "/metrics"])
def test_reading_needs_no_token(guarded, path):
    assert guarded.call("GET", path).status_code == 200
