"""network_namespaces(7), netdevice(7): a namespace that lives in a file, and what is in it.

What has to be done inside a namespace is done by a short-lived child: this process never leaves its own.
"""

from __future__ import annotations

import os

from pyrkt.kernel import child, mount, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# include/uapi/linux/sockios.h, if.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = 40  # bytes of struct ifreq: the name in 16 of them, then a union


def create(path: str) -> None:
    """Make a new network namespace whose loopback is up, and mount it on the file ``path``, which exists.

    Raises: OSError of the call that failed.
    """

    def make() -> None:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        raise_loopback()
        mount.bind("/proc/self/ns/net", path)

    child.answer(make, path)


def hold(pid: int, path: str) -> None:
    """Mount the network namespace of process ``pid`` on the file ``path``, which exists. Raises: OSError."""
    mount.bind(f"/proc/{pid}/ns/net", path)


def raise_loopback() -> None:
    """Bring lo of this process' namespace up. Raises: OSError."""
    import fcntl  # noqa: PLC0415 - a shared object
    from _socket import AF_INET, SOCK_DGRAM, socket  # noqa: PLC0415

    plain = socket(AF_INET, SOCK_DGRAM, 0)
    try:
        request = b"lo".ljust(_IFREQ, b"\0")
        flags = int.from_bytes(fcntl.ioctl(plain, _SIOCGIFFLAGS, request)[16:18], "little")
        fcntl.ioctl(plain, _SIOCSIFFLAGS, request[:16] + (flags | _IFF_UP).to_bytes(2, "little") + bytes(22))
    finally:
        plain.close()


def interfaces(path: str) -> tuple[str, ...]:
    """Return the names of the interfaces of the namespace behind the file ``path``. Raises: OSError."""

    def list_them() -> list[str]:
        from _socket import if_nameindex  # noqa: PLC0415

        return [name for _, name in if_nameindex()]

    return tuple(_inside(path, list_them))


def lacking(path: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the IPv4 ``addresses`` that the namespace behind ``path`` does not have. Raises: OSError."""

    def test() -> list[str]:
        from _socket import AF_INET, SOCK_DGRAM, socket  # noqa: PLC0415

        missing = []
        for address in addresses:
            plain = socket(AF_INET, SOCK_DGRAM, 0)
            try:
                plain.bind((address, 0))
            except OSError:
                missing.append(address)
            finally:
                plain.close()
        return missing

    return tuple(_inside(path, test))


def _inside(path: str, deed: Callable[[], Any]) -> Any:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def enter() -> Any:
        namespaces.enter(descriptor, "network")
        return deed()

    try:
        return child.answer(enter, path)
    finally:
        os.close(descriptor)
