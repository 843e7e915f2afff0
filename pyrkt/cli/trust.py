"""``pyrkt trust``: whose signature counts for which images, decided by a person who has seen the fingerprint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pyrkt.base.errors import NoPermission, NotFound, UsageError, printable
from pyrkt.cli import show
from pyrkt.cli.clicks import pass_settings

if TYPE_CHECKING:
    from pyrkt.cli.settings import Settings

_MOST = 1 << 20


@click.command()
@click.argument("pubkeys", metavar="[PUBKEY]...", nargs=-1)
@click.option("--prefix", help="Trust the keys for images of this name and below.")
@click.option("--root", is_flag=True, help="Trust the keys for every image.")
@click.option("--skip-fingerprint-review", is_flag=True, help="Do not ask whether the fingerprint is right.")
@click.option("--insecure-allow-http", is_flag=True, help="Fetch keys over plain HTTP too.")
@pass_settings
def trust(
    settings: Settings,
    pubkeys: tuple[str, ...],
    prefix: str | None,
    root: bool,
    skip_fingerprint_review: bool,
    insecure_allow_http: bool,
) -> None:
    """Trust the keys in the files or at the URLs PUBKEY; without any, those that discovery finds for the prefix."""
    if root and prefix:
        raise UsageError("--root and --prefix exclude each other", hint="give one of them")
    if not root and not prefix:
        raise UsageError(
            "trust without bounds is refused: give --prefix or --root",
            hint="pyrkt trust --prefix=example.com/app [PUBKEY]; --root trusts the keys for every image",
        )
    if prefix and "://" in prefix:
        raise UsageError(f"--prefix {prefix!r} has a scheme", hint=f"--prefix={prefix.partition('://')[2]}")
    if root and not pubkeys:
        raise UsageError("--root needs a key: there is no name to discover one by", hint="pyrkt trust --root KEYFILE")

    from pyrkt.trust import openpgp
    from pyrkt.trust.keystore import Keystore

    insecure = settings.insecure | ({"pubkey", "http"} if insecure_allow_http else frozenset())
    keystore = Keystore(settings.dirs)
    for source, key in _keys(settings, pubkeys, prefix or "", insecure):
        show.out(f'prefix: "{printable(prefix or "")}"\nkey: "{printable(source)}"\n')
        show.out("".join(f"{printable(line)}\n" for line in openpgp.describe(key)))
        if not skip_fingerprint_review and not _agreed(source):
            continue
        show.out(f"Added key for prefix {prefix or '(all images)'} at {keystore.add(key, prefix, root)}\n")


def _keys(
    settings: Settings, pubkeys: tuple[str, ...], prefix: str, insecure: frozenset[str]
) -> list[tuple[str, bytes]]:
    """Return (where from, key) of each."""
    from pyrkt.image import certs, discovery
    from pyrkt.image.credentials import Credentials
    from pyrkt.image.http import Client

    credentials = Credentials(settings.dirs)
    # A key that came over an open line vouches for nothing: "http" alone, for images, does not allow it.
    allowed = (insecure & {"tls"}) | ({"http"} if "pubkey" in insecure else frozenset())
    with Client(certs_d=certs.roots(settings.dirs), insecure=allowed) as client:
        names = list(pubkeys) or discovery.keys(client, prefix, credentials)
        return [
            (name, discovery.fetch_key(client, name, credentials) if "://" in name else _read(name)) for name in names
        ]


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(_MOST + 1)
    except FileNotFoundError:
        raise NotFound(f"{name}: no such key file", hint="give the path of an OpenPGP public key") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a directory", hint="give the path of an OpenPGP public key") from None
    except OSError as error:
        raise NoPermission(f"{name}: {error.strerror}") from None


def _agreed(source: str) -> bool:
    """Ask on the terminal; a yes from a pipe is no review."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoPermission(
            "the fingerprint has to be reviewed, and there is no terminal to ask on",
            hint="check it by other means, then: --skip-fingerprint-review",
        )
    while True:
        show.out("Are you sure you want to trust this key (yes/no)? ")
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() in ("no", "n"):
            show.out(f"Not trusting {printable(source)}\n")
            return False
        if answer.strip().lower() in ("yes", "y"):
            return True
        show.out("Please write yes or no.\n")
