"""Proxies: which the environment names for which host."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.image.proxy import Proxy, proxy_for

P = Proxy(host="proxy.test", port=3128)
SET = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("scheme", "host", "environ", "expected"),
    [
        pytest.param("https", "a.test", {}, None, id="none"),
        pytest.param("https", "a.test", {"HTTPS_PROXY": SET}, P, id="upper"),
        pytest.param("https", "a.test", {"https_proxy": SET, "HTTPS_PROXY": "http://no.test"}, P, id="lower-wins"),
        pytest.param("https", "a.test", {"http_proxy": SET}, None, id="other-scheme"),
        pytest.param("https", "a.test", {"all_proxy": "proxy.test:3128"}, P, id="all-without-scheme"),
        pytest.param("http", "a.test", {"HTTP_PROXY": SET}, P, id="http"),
        pytest.param("http", "a.test", {"HTTP_PROXY": SET, "REQUEST_METHOD": "GET"}, None, id="httpoxy"),
        pytest.param("https", "localhost", {"https_proxy": SET}, None, id="localhost"),
        pytest.param("https", "127.0.0.9", {"https_proxy": SET}, None, id="loopback"),
        pytest.param("https", "::1", {"https_proxy": SET}, None, id="loopback6"),
        pytest.param("https", "a.test", {"https_proxy": SET, "no_proxy": "*"}, None, id="no-star"),
        pytest.param("https", "b.a.test", {"https_proxy": SET, "NO_PROXY": "x, .a.test"}, None, id="no-suffix"),
        pytest.param("https", "b.a.test", {"https_proxy": SET, "no_proxy": "A.test"}, None, id="no-parent"),
        pytest.param("https", "ba.test", {"https_proxy": SET, "no_proxy": "a.test"}, P, id="no-other-name"),
        pytest.param("https", "a.test", {"https_proxy": SET, "no_proxy": "a.test:443"}, None, id="no-port"),
        pytest.param("https", "a.test", {"https_proxy": SET, "no_proxy": "a.test:80"}, P, id="no-other-port"),
        pytest.param("https", "10.1.2.3", {"https_proxy": SET, "no_proxy": "10.0.0.0/8"}, None, id="no-network"),
        pytest.param("https", "10.1.2.3", {"https_proxy": SET, "no_proxy": "10.test"}, P, id="no-name-for-address"),
        pytest.param("https", "fd00::1", {"https_proxy": SET, "no_proxy": "[fd00::1]"}, None, id="no-address6"),
    ],
)
def test_choice(scheme: str, host: str, environ: dict[str, str], expected: Proxy | None) -> None:
    assert proxy_for(scheme, host, 443, environ) == expected


def test_a_password_is_sent_and_never_shown() -> None:
    proxy = proxy_for("https", "a.test", 443, {"https_proxy": "http://user:p%40ss@proxy.test"})
    assert proxy is not None
    assert proxy.authorization == "Basic dXNlcjpwQHNz"
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize("text", ["socks5://u:secret@proxy.test", "http://", "http://[::1", "https://proxy.test"])
def test_what_is_no_http_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        proxy_for("https", "a.test", 443, {"https_proxy": text})
    assert "https_proxy" in caught.value.message
    assert "secret" not in caught.value.message
