"""Whom to believe about a host: the system's authorities, and certificates that lie in certs.d/HOST[:PORT]/.

Docker and containers/image read such directories and so do we, for registries and for the hosts of appc discovery:
``*.crt`` are further authorities, ``NAME.cert`` with ``NAME.key`` is the certificate we show the host ourselves.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pyrkt.base.errors import InvalidSpec, NoPermission

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.base.dirs import ConfigDirs

_SHARED = ("/etc/containers/certs.d", "/etc/docker/certs.d")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCerts:
    """What certs.d says of one host: ``searched`` are the directories looked at, found or not."""

    searched: tuple[str, ...]
    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()
    """(certificate, key) files."""


def roots(dirs: ConfigDirs) -> tuple[str, ...]:
    """Return every certs.d there may be for the caller, ours first; an ordinary user's own before the machine's."""
    ours = tuple(f"{path}/certs.d" for path in reversed(dirs.lightest_first()))
    if os.geteuid() == 0:
        return (*ours, *_SHARED)
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return (*ours, f"{config}/containers/certs.d", *_SHARED)


def find(host: str, port: int, certs_d: tuple[str, ...]) -> HostCerts:
    """Return what the directories ``certs_d`` hold for ``host:port`` (and for ``host`` alone, on port 443).

    Raises: InvalidSpec for a certificate without its key or a key without its certificate: leaving it out silently
    would end in a refusal by the host that nobody can explain.
    """
    shown = f"[{host}]" if ":" in host else host
    names = [f"{shown}:{port}", shown] if port == 443 else [f"{shown}:{port}"]
    searched = tuple(f"{root}/{name}" for root in certs_d for name in names)
    authorities: list[str] = []
    clients: list[tuple[str, str]] = []
    for directory in searched:
        files = _listing(directory)
        authorities += [f"{directory}/{name}" for name in files if name.endswith(".crt")]
        for name in files:
            stem, _, kind = name.rpartition(".")
            other = {"cert": "key", "key": "cert"}.get(kind)
            if other and f"{stem}.{other}" not in files:
                raise InvalidSpec(f"has no {stem}.{other} beside it", document=f"{directory}/{name}")
            if kind == "cert":
                clients.append((f"{directory}/{name}", f"{directory}/{stem}.key"))
    return HostCerts(searched=searched, authorities=tuple(authorities), clients=tuple(clients))


def _listing(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise NoPermission(f"{directory}: {error.strerror}") from None


def context(certs: HostCerts, *, verify: bool) -> ssl.SSLContext:
    """Return the TLS settings for a host; ``verify=False`` believes any certificate (--insecure-options=tls).

    Raises: InvalidSpec for a file that holds no certificate, NoPermission for one that may not be read.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_default_certs()
        for path in certs.authorities:
            _load(path, partial(made.load_verify_locations, cafile=path))
        if certs.authorities:
            # A host's own certificate, put there as its authority, is believed, as in every peer (Go's RootCAs).
            made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for certificate, key in certs.clients[:1]:  # OpenSSL shows one; the first directory's wins
        # An encrypted key would ask at the terminal, in the midst of a pipe's work.
        _load(certificate, partial(made.load_cert_chain, certificate, key, password=""))
    return made


def _load(path: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        reason = (error.reason or "not a PEM certificate").lower().replace("_", " ")
        raise InvalidSpec(f"cannot be used: {reason}", document=path, hint="a PEM file, its key unencrypted") from None
    except PermissionError as error:
        raise NoPermission(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise InvalidSpec(f"cannot be read: {error.strerror}", document=path) from None


def refusal(certs: HostCerts) -> str:
    """Return, for a message, what was believed: the system's authorities and the files and directories of certs.d."""
    if certs.authorities:
        return f"believed are the system's authorities and {', '.join(certs.authorities)}"
    return f"believed are the system's authorities; there is no *.crt in {', '.join(certs.searched)}"
