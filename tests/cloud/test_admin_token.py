"""The admin token that a cloud creates: only its owner can read it, and the commands find it."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cloud_service.admin_token import TOKEN_FILE, AdminTokenError, read_or_create_token, read_token
from cloud_service.commands.client import CloudRefused, admin_client


def test_the_first_start_makes_a_token_and_the_next_keeps_it(tmp_path):
    assert read_token(tmp_path) is None
    token = read_or_create_token(tmp_path)
    assert len(token) >= 32
    assert read_or_create_token(tmp_path) == read_token(tmp_path) == token
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


def test_only_the_owner_reads_it_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        read_or_create_token(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600


def test_it_is_never_readable_by_others_not_for_a_moment(tmp_path, monkeypatch):
    modes, link = [], os.link

    def watched(source, target, **options):
        modes.append(stat.S_IMODE(source.stat().st_mode))
        link(source, target, **options)

    monkeypatch.setattr("shared.whole_file.os.link", watched)
    read_or_create_token(tmp_path)
    assert modes == [0o600]


def test_processes_that_start_at_once_use_one_token(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        tokens = set(threads.map(lambda _: read_or_create_token(tmp_path), range(64)))
    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_token_that_others_may_read_or_write_is_refused_with_what_to_do(tmp_path, mode):
    read_or_create_token(tmp_path)
    (tmp_path / TOKEN_FILE).chmod(mode)
    with pytest.raises(AdminTokenError, match=f"{mode:04o}.*chmod 600"):
        read_or_create_token(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short\n", b"with a space", b"\xff" * 20, b"two\nlines\n", b"x" * 5000]
)
def test_a_file_that_holds_no_token_is_refused(tmp_path, content):
    (tmp_path / TOKEN_FILE).write_bytes(content)
    (tmp_path / TOKEN_FILE).chmod(0o600)
    with pytest.raises(AdminTokenError, match="holds no token of 8 or more"):
        read_or_create_token(tmp_path)


def test_what_is_no_file_is_refused(tmp_path):
    secret = tmp_path / "elsewhere"
    secret.write_text("a-secret-of-another")
    secret.chmod(0o600)
    (tmp_path / TOKEN_FILE).symlink_to(secret)
    with pytest.raises(AdminTokenError, match="is a link"):
        read_or_create_token(tmp_path)
    (tmp_path / TOKEN_FILE).unlink()
    os.mkfifo(tmp_path / TOKEN_FILE, 0o600)
    with pytest.raises(AdminTokenError, match="is no file"):
        read_or_create_token(tmp_path)


def sent_by(url, token, store, monkeypatch, status=200):
    """Returns the Authorization header that the cloud at `url` gets."""
    seen = []

    def answer(request):
        seen.append(request.headers.get("authorization"))
        problem = {"type": "urn:device-cloud-recommendation:problem:unauthorized", "title": "No",
                   "status": status, "detail": "no"}  # fmt: skip
        return httpx.Response(status, json=problem)

    real = httpx.Client
    with monkeypatch.context() as patch:
        patch.setattr(
            "cloud_service.commands.client.httpx.Client",
            lambda **options: real(**(options | {"transport": httpx.MockTransport(answer)})),
        )
        with admin_client(url, token, store) as cloud:
            cloud.post("/v1/jobs")
    return seen[0]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000", "http://127.9.9.9"]
)
def test_the_token_of_the_store_is_sent_to_this_machine(tmp_path, monkeypatch, url):
    assert sent_by(url, None, tmp_path, monkeypatch) is None
    token = read_or_create_token(tmp_path)
    assert sent_by(url, None, tmp_path, monkeypatch) == f"Bearer {token}"
    assert sent_by(url, "one-that-is-given", tmp_path, monkeypatch) == "Bearer one-that-is-given"


@pytest.mark.parametrize(
    "url",
    [
        "http://cloud.example", "http://10.0.0.1:8000", "http://localhost.evil.example",
        "http://127.0.0.1.evil.example", "http://127.0.0.1@evil.example", "http://0.0.0.0:8000",
    ],
)  # fmt: skip
def test_the_token_of_the_store_is_sent_nowhere_else(tmp_path, monkeypatch, url):
    token = read_or_create_token(tmp_path)
    sent = sent_by(url, None, tmp_path, monkeypatch)
    assert token not in (sent or "")


@pytest.mark.parametrize(
    ("url", "made", "hint"),
    [
        ("http://127.0.0.1:8000", False, f"there is no .*{TOKEN_FILE}: .*--store"),
        ("http://127.0.0.1:8000", True, f"{TOKEN_FILE} is not its token: .*--store"),
        ("http://cloud.example", True, "CLOUD_ADMIN_TOKEN: .*not sent to another machine"),
    ],
)
def test_where_the_token_is_wrong_or_missing_the_message_says_where_it_is(
    tmp_path, monkeypatch, url, made, hint
):
    if made:
        read_or_create_token(tmp_path)
    with pytest.raises(CloudRefused, match=hint):
        sent_by(url, None, tmp_path, monkeypatch, status=401)
