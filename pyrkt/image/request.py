"""A request to fetch: where to, whom to believe, with which keys, and whom to tell how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyrkt.base import log
from pyrkt.base.dirs import ConfigDirs
from pyrkt.image import certs
from pyrkt.image.credentials import Credentials
from pyrkt.image.http import Client
from pyrkt.image.wire import Limits
from pyrkt.spec.image import Platform, host_platform
from pyrkt.trust.keys import DecryptionKeys

if TYPE_CHECKING:
    from pyrkt.image.workers import Progress
    from pyrkt.store import Store
    from pyrkt.trust.keystore import Keystore
    from pyrkt.trust.policy import Policy

PullPolicy = Literal["never", "new", "update"]
CHECKS = ("http", "image", "tls")
"""The checks of a fetch that ``--insecure-options`` may switch off, as an image's record lists them."""


class Quiet:
    """Progress that nobody watches; what is said goes to standard error."""

    def start(self, name: str, total: int) -> None:
        """Say nothing."""

    def advance(self, name: str, n: int) -> None:
        """Say nothing."""

    def done(self, name: str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say it."""
        log.note(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """Everything beside the reference.

    ``insecure`` are the checks that are off ("image", "tls", "http"); ``pull_policy`` is "never" (only what is
    stored), "new" (what is stored if it is there) or "update" (ask anew); ``signature`` a file to take instead of
    the one beside an ACI; ``connect_to`` maps "host:port" to the "host:port" to connect to in its place, while TLS
    and everything else go by the first (as curl's --connect-to).
    """

    store: Store
    keystore: Keystore
    policy: Policy | None = None
    keys: DecryptionKeys = field(default_factory=lambda: DecryptionKeys.load((), ConfigDirs(system="", local="")))
    insecure: frozenset[str] = frozenset()
    pull_policy: PullPolicy = "new"
    signature: Path | None = None
    platform: Platform = field(default_factory=host_platform)
    progress: Progress = field(default_factory=Quiet)
    dirs: ConfigDirs = field(default_factory=ConfigDirs)
    authfile: Path | None = None
    limits: Limits = field(default_factory=Limits)
    connect_to: Mapping[str, str] = field(default_factory=dict)

    def client(self) -> Client:
        """Return an HTTP client by these settings, to be closed."""
        return Client(
            certs_d=certs.roots(self.dirs),
            insecure=self.insecure,
            limits=self.limits,
            say=self.progress.say,
            connect_to=self.connect_to,
        )

    def credentials(self) -> Credentials:
        """Return the credentials by these settings."""
        return Credentials(self.dirs, self.authfile)

    def off(self) -> tuple[str, ...]:
        """Return the checks that are off, for the image's record."""
        return tuple(check for check in CHECKS if check in self.insecure)
