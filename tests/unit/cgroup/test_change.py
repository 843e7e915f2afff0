"""Changing limits in use: all or nothing, in the order that the kernel takes; files of tmpfs stand for the kernel's."""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, EIO
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import PyrktError
from pyrkt.cgroup import change
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime_resources import Memory

if TYPE_CHECKING:
    from pathlib import Path


class Kernel:
    """Writes to files, as the kernel's are written to; ``refuses`` is asked first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[str, str]] = []
        self.errors: dict[tuple[str, str], list[int]] = {}
        monkeypatch.setattr(change, "_write", self._write)

    def refuse(self, name: str, value: str, *errors: int) -> None:
        self.errors[name, value] = list(errors)

    def _write(self, file: str, value: str) -> None:
        name = os.path.basename(file)
        if self.errors.get((name, value)):
            number = self.errors[name, value].pop(0)
            raise OSError(number, os.strerror(number))
        self.written.append((name, value))
        with open(file, "w") as opened:
            opened.write(value)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def files(directory: Path, **texts: str) -> list[tuple[str, str, str]]:
    """Make files that say something, and return writes of "new" to each."""
    for name, text in texts.items():
        (directory / name).write_text(text)
    return [(str(directory / name), "new", f"where.{name}") for name in texts]


def test_all_is_written(tmp_path: Path, kernel: Kernel) -> None:
    change.carry_out(files(tmp_path, a="1", b="2"))
    assert kernel.written == [("a", "new"), ("b", "new")]


def test_what_is_invalid_now_may_be_valid_later(tmp_path: Path, kernel: Kernel) -> None:
    kernel.refuse("a", "new", EINVAL)
    change.carry_out(files(tmp_path, a="1", b="2"))
    assert kernel.written == [("b", "new"), ("a", "new")]


def test_nothing_is_changed_if_one_is_refused(tmp_path: Path, kernel: Kernel) -> None:
    writes = files(tmp_path, a="1\n", b="2\n", c="3\n")
    kernel.refuse("c", "new", EINVAL, EINVAL)
    with pytest.raises(PyrktError, match=r'failed to write "new": write .*/c: invalid argument \(where\.c\)') as caught:
        change.carry_out(writes)
    assert "nothing was changed" in caught.value.message
    assert [(tmp_path / name).read_text() for name in "abc"] == ["1", "2", "3\n"]


def test_what_cannot_be_put_back_is_said(tmp_path: Path, kernel: Kernel) -> None:
    writes = files(tmp_path, a="1", b="2", c="3")
    kernel.refuse("c", "new", EIO)
    kernel.refuse("a", "1", EIO, EIO)
    with pytest.raises(PyrktError, match="input/output error") as caught:
        change.carry_out(writes)
    assert f"keep their new values: {tmp_path}/a" in caught.value.message
    assert (tmp_path / "b").read_text() == "2"


def test_putting_back_has_an_order_too(tmp_path: Path, kernel: Kernel) -> None:
    writes = files(tmp_path, a="1", b="2", c="3")
    kernel.refuse("c", "new", EIO)
    kernel.refuse("b", "2", EINVAL)  # until a is as before
    with pytest.raises(PyrktError, match="nothing was changed"):
        change.carry_out(writes)
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1", "2"]


def test_memory_in_use_is_told(tmp_path: Path, kernel: Kernel) -> None:
    names = {"memory.limit_in_bytes": "9", "memory.usage_in_bytes": "7\n", "memory.max_usage_in_bytes": "8\n"}
    for name, text in names.items():
        (tmp_path / name).write_text(text)
    kernel.refuse("memory.limit_in_bytes", "5", EBUSY)
    with pytest.raises(PyrktError, match=r"unable to set memory limit to 5 \(current usage: 7, peak usage: 8\)"):
        change.carry_out([(str(tmp_path / "memory.limit_in_bytes"), "5", "memory.limit")])


@pytest.mark.parametrize(
    ("name", "text", "value", "expected"),
    [
        pytest.param("memory.max", "max\n", "5", "max", id="plain"),
        pytest.param("cpuset.cpus", "\n", "0", "\n", id="empty"),
        pytest.param("cpu.max", "max 100000\n", "5 10", "max 100000", id="two-numbers"),
        pytest.param("io.weight", "default 100\n8:0 5\n", "7", "default 100", id="weight"),
        pytest.param("io.weight", "default 100\n8:0 5\n", "8:0 9", "8:0 5", id="weight-of-a-device"),
        pytest.param("io.weight", "default 100\n", "8:0 9", "8:0 default", id="weight-of-a-new-device"),
        pytest.param(
            "io.max", "8:1 rbps=1\n", "8:0 rbps=5", "8:0 rbps=max wbps=max riops=max wiops=max", id="new-device"
        ),
        pytest.param("blkio.throttle.read_bps_device", "", "8:0 5", "8:0 0", id="v1-new-device"),
        pytest.param("net_prio.ifpriomap", "lo 3\neth0 4\n", "eth0 5", "eth0 4", id="interface"),
        pytest.param("rdma.max", "", "mlx hca_handle=1", "mlx hca_handle=max hca_object=max", id="rdma"),
        pytest.param("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", "1", "0", id="oom"),
        pytest.param("io.cost.qos", "", "8:0 enable=1", "", id="unknown"),
    ],
)
def test_previous(tmp_path: Path, name: str, text: str, value: str, expected: str) -> None:
    (tmp_path / name).write_text(text)
    assert change.previous(str(tmp_path / name), value) == expected


@pytest.mark.parametrize(
    ("memory", "problem"),
    [
        pytest.param({"limit": 99}, "", id="unchecked"),
        pytest.param({"limit": 101, "check_before_update": True}, "", id="enough"),
        pytest.param({"limit": -1, "check_before_update": True}, "", id="no-limit"),
        pytest.param(
            {"limit": 100, "check_before_update": True}, "rejecting memory limit 100 <= usage 100", id="limit"
        ),
        pytest.param(
            {"limit": 7, "swap": 8, "check_before_update": True}, r"rejecting memory\+swap limit 8 <= usage", id="swap"
        ),
    ],
)
@pytest.mark.parametrize(("controller", "file"), [("memory", "memory.usage_in_bytes"), ("", "memory.current")])
def test_use_is_checked_if_asked_for(
    tmp_path: Path, controller: str, file: str, memory: dict[str, int], problem: str
) -> None:
    (tmp_path / file).write_text("100\n")
    layout = CgroupLayout(paths=((controller, str(tmp_path)),))
    if not problem:
        change.check_usage(Memory(**memory), layout)  # type: ignore[arg-type]
        return
    with pytest.raises(PyrktError, match=problem):
        change.check_usage(Memory(**memory), layout)  # type: ignore[arg-type]


def test_places_of_both_versions(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io\n")
    (tmp_path / "io.bfq.weight").touch()
    mounts = change.places(CgroupLayout(paths=(("", str(tmp_path)),)))
    assert mounts.controllers == ("cpu", "io")
    assert mounts.bfq
    assert not mounts.swap
    (tmp_path / "memory.memsw.limit_in_bytes").touch()
    hybrid = change.places(CgroupLayout(paths=(("memory", str(tmp_path)),)))
    assert hybrid.unified is None
    assert hybrid.swap
    assert not hybrid.bfq
