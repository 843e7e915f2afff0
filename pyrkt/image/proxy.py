"""Which proxy the environment names for a host: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and the exceptions in NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pyrkt.base.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is what its URL's user and password make, or ""."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for ``scheme://host:port``, or None for a direct connection.

    Lower-case variables win over upper-case ones. HTTP_PROXY in upper case is not read where REQUEST_METHOD says
    that this is a CGI program, since a client's ``Proxy:`` header sets it there (CVE-2016-5385). This machine itself
    is never asked for through a proxy, as in curl's and Go's practice.
    Raises: InvalidSpec if the variable holds no http URL.
    """
    if _direct(host, port, environ):
        return None
    for name in (f"{scheme}_proxy", "all_proxy"):
        upper = name.upper()
        if upper == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
            upper = name
        variable = name if environ.get(name) else upper
        if environ.get(variable):
            return _parse(variable, environ[variable])
    return None


def _parse(variable: str, text: str) -> Proxy:
    document = f"environment variable {variable}"
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port or 80
    except ValueError as error:
        raise InvalidSpec(f"is not a URL: {error}", document=document) from None
    if url.scheme != "http" or not url.hostname:
        # The text may hold a password, so it is not repeated.
        raise InvalidSpec(f"names no http:// proxy but {url.scheme}://", document=document)
    authorization = ""
    if url.username:
        plain = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = "Basic " + base64.b64encode(plain.encode()).decode()
    return Proxy(host=url.hostname, port=port, authorization=authorization)


def _direct(host: str, port: int, environ: Mapping[str, str]) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").lower().split(","):
        pattern = entry.strip()
        name, colon, digits = pattern.rpartition(":")
        if colon and digits.isdigit() and "]" not in digits and name.count(":") == 0:
            if int(digits) != port:
                continue
            pattern = name
        if pattern and _matches(pattern, host.lower(), address):
            return True
    return False


def _matches(pattern: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if pattern == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(pattern.strip("[]"), strict=False)
        except ValueError:
            return False
    suffix = pattern.removeprefix("*").removeprefix(".")
    return host == suffix or host.endswith(f".{suffix}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
