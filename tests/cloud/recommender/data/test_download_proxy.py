"""Downloads go by the same rule of proxies as everything else, and never end in a traceback."""

import pytest

from cloud_service.recommender.data.download import download
from shared.errors import DataError


def test_a_download_by_way_of_a_proxy_that_cannot_be_gone_by_is_one_clear_error(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:9")
    with pytest.raises(DataError, match=r"ALL_PROXY names the proxy socks5://127\.0\.0\.1:9") as no:
        download(
            "http://data.test/log.csv", tmp_path / "log.csv", sha256="0", max_bytes=9, advice="wait"
        )
    assert "secret" not in str(no.value)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_that_httpx_cannot_read_does_not_stop_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "::1,[::1]")
    with pytest.raises(DataError, match="could not be downloaded"):
        download(
            "http://127.0.0.1:9/log.csv", tmp_path / "x", sha256="0", max_bytes=9, advice="wait"
        )
