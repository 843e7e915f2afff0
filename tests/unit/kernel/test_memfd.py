"""memfd: what is sealed stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrkt.kernel import memfd


def test_sealed_memfd_cannot_be_changed() -> None:
    descriptor = memfd.sealed("test", b"final")
    try:
        assert memfd.is_sealed(descriptor)
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert os.pread(descriptor, 99, 0) == b"final"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_unsealed_memfd_is_told_apart() -> None:
    descriptor = memfd.create("test", b"draft")
    assert not memfd.is_sealed(descriptor)
    os.close(descriptor)


def test_sealed_copy_runs_and_cannot_be_written() -> None:
    descriptor = memfd.sealed_copy("true", "/bin/true")
    try:
        assert os.pread(descriptor, 1 << 20, 0) == Path("/bin/true").read_bytes()
        os.set_inheritable(descriptor, True)
        assert os.spawnv(os.P_WAIT, f"/proc/self/fd/{descriptor}", ["true"]) == 0
        with pytest.raises(OSError):  # noqa: PT011 - EPERM or ETXTBSY, as the kernel likes
            os.pwrite(descriptor, b"x", 0)
    finally:
        os.close(descriptor)
