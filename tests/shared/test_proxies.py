"""Which proxy the environment names: as curl and httpx read it, and never for this machine."""

import socket

import pytest

from shared.errors import UnusableProxy
from shared.proxies import proxy_for

CLOUD = "http://cloud.example:8000"
PROXY = {"HTTP_PROXY": "http://proxy:3128"}


def named(url, **environment):
    """The proxy for `url` as a message names it; None without."""
    proxy = proxy_for(url, environment)
    return proxy and str(proxy)


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (CLOUD, {}, None),
        (CLOUD, {"HTTP_PROXY": "http://proxy:3128"}, "http://proxy:3128 (HTTP_PROXY)"),
        (CLOUD, {"http_proxy": "http://proxy:3128"}, "http://proxy:3128 (http_proxy)"),
        (CLOUD, {"http_proxy": "a:1", "HTTP_PROXY": "http://b:2"}, "http://a:1 (http_proxy)"),
        (CLOUD, {"HTTPS_PROXY": "http://proxy:3128"}, None),
        (CLOUD, {"ALL_PROXY": "http://proxy:3128"}, "http://proxy:3128 (ALL_PROXY)"),
        (CLOUD, {"HTTP_PROXY": "", "ALL_PROXY": "http://b:2"}, "http://b:2 (ALL_PROXY)"),
        (CLOUD, {"HTTP_PROXY": "a:1", "ALL_PROXY": "socks5://b:2"}, "http://a:1 (HTTP_PROXY)"),
        (CLOUD, {"HTTP_PROXY": "proxy:3128"}, "http://proxy:3128 (HTTP_PROXY)"),
        (CLOUD, {"HTTP_PROXY": "http://proxy"}, "http://proxy:80 (HTTP_PROXY)"),
        (CLOUD, {"HTTP_PROXY": "http://[fd00::1]:8"}, "http://[fd00::1]:8 (HTTP_PROXY)"),
        ("https://cloud.example", PROXY, None),
        ("https://cloud.example", {"HTTPS_PROXY": "http://a:1"}, "http://a:1 (HTTPS_PROXY)"),
        # A caller's `Proxy:` header becomes HTTP_PROXY under CGI.
        (CLOUD, PROXY | {"REQUEST_METHOD": "GET"}, None),
    ],
)  # fmt: skip
def test_the_variable_for_the_scheme_counts_and_then_the_one_for_all(url, environment, expected):
    assert named(url, **environment) == expected


@pytest.mark.parametrize(
    ("host", "exceptions", "direct"),
    [
        ("cloud.example", "cloud.example", True),
        ("CLOUD.example", "Cloud.Example", True),
        ("cloud.example", "example", True),
        ("cloud.example", ".example", True),
        ("cloud.example", "*.example", True),
        ("cloud.example", "*", True),
        ("cloud.example", "a.test, cloud.example", True),
        ("cloud.example", "a.test cloud.example", True),
        ("cloud.example", "cloud.example:8000", True),
        ("cloud.example", "cloud.example:9000", False),
        ("cloud.example", "http://cloud.example", True),
        ("cloud.example", "ample", False),
        ("cloud.example", "loud.example", False),
        ("cloud.example", "::1,[::1]", False),
        ("cloud.example", "", False),
        ("cloud.example", ",, .", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:8000", True),
        ("10.1.2.3", "10.1.2.3:81", False),
        ("10.1.2.3", "3", False),
        ("[fd00::5]", "fd00::5", True),
        ("[fd00::5]", "[fd00::5]", True),
        ("[fd00:0::0005]", "[fd00::5]:8000", True),
        ("[fd00::5]", "[fd00::5]:81", False),
        ("[fd00::5]", "fd00::/16", True),
        ("[fd00::5]", "[fd00::]/16", True),
        ("[fd00::5]", "::1,[::1],10.0.0.0/8", False),
        ("[::ffff:10.1.2.3]", "10.0.0.0/8", True),
    ],
)
def test_exceptions_are_hosts_domains_ports_addresses_and_networks(host, exceptions, direct):
    proxy = proxy_for(f"http://{host}:8000", PROXY | {"NO_PROXY": exceptions})
    assert (proxy is None) is direct
    assert (proxy_for(f"http://{host}:8000", PROXY | {"no_proxy": exceptions}) is None) is direct


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "cloud.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "0.0.0.0",
     "[::]", "[::ffff:127.0.0.1]", "localhost."],
)  # fmt: skip
@pytest.mark.parametrize("value", ["http://proxy:3128", "socks5://proxy:1080", "nonsense://"])
def test_this_machine_is_reached_without_a_proxy_whatever_the_environment_says(host, value):
    for scheme in ("http", "https"):
        assert proxy_for(f"{scheme}://{host}:8000", {"ALL_PROXY": value}) is None


def test_this_machine_by_its_name_is_reached_without_a_proxy():
    assert proxy_for(f"http://{socket.gethostname()}:8000", PROXY) is None


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "https", "ftp"])
def test_a_proxy_of_another_kind_is_refused_by_name_with_what_to_set(scheme):
    environment = {"ALL_PROXY": f"{scheme}://user:secret@proxy:1080"}
    with pytest.raises(UnusableProxy) as refused:
        proxy_for(CLOUD, environment)
    said = str(refused.value)
    assert f"ALL_PROXY names the proxy {scheme}://proxy:1080," in said
    assert "NO_PROXY=cloud.example" in said
    assert "secret" not in said
    assert proxy_for(CLOUD, environment | {"NO_PROXY": "cloud.example"}) is None


@pytest.mark.parametrize("value", ["http://", "http://:3128", "http://proxy:99999", "http://[::1"])
def test_a_proxy_without_an_address_is_refused(value):
    with pytest.raises(UnusableProxy, match="HTTP_PROXY does not hold the address"):
        proxy_for(CLOUD, {"HTTP_PROXY": value})


def test_user_and_password_reach_the_proxy_and_no_message():
    proxy = proxy_for(CLOUD, {"HTTP_PROXY": "http://us%40er:p%3Ass@proxy:3128"})
    assert proxy.authorization == "Basic dXNAZXI6cDpzcw=="
    assert proxy.url == "http://us%40er:p%3Ass@proxy:3128"
    for shown in (str(proxy), repr(proxy), f"{proxy}"):
        assert "us" not in shown
        assert "p:ss" not in shown
    assert proxy_for(CLOUD, PROXY).authorization is None
