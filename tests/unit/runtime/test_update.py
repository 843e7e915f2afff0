"""What ``update`` is asked for, and what that means for a container that has limits already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import PyrktError, UsageError
from pyrkt.runtime import options, update

if TYPE_CHECKING:
    from pathlib import Path


def flags(*words: str) -> dict[str, Any]:
    values, _ = options.parse(update.VERB.flags, [*words, "id"], ordered=False)
    return update.of_flags(values)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param((), {}, id="nothing"),
        pytest.param(("--memory", "64M"), {"memory": {"limit": 64 << 20}}, id="memory"),
        pytest.param(("--memory", "-1", "--memory-swap=-1"), {"memory": {"limit": -1, "swap": -1}}, id="no-limit"),
        pytest.param(("--memory", "0"), {}, id="zero-is-nothing"),
        pytest.param(("--kernel-memory", "1k"), {"memory": {"kernel": 1024}}, id="kernel"),
        pytest.param(("--cpu-quota", "-1"), {"cpu": {"quota": -1}}, id="quota"),
        pytest.param(("--cpu-burst", "0"), {"cpu": {"burst": 0}}, id="no-burst"),
        pytest.param(("--cpu-idle", "0"), {"cpu": {"idle": 0}}, id="not-idle"),
        pytest.param(("--cpu-idle", "-1"), {"cpu": {"idle": -1}}, id="for-the-kernel-to-refuse"),
        pytest.param(("--cpu-share", "5", "--cpu-period", "0"), {"cpu": {"shares": 5}}, id="shares"),
        pytest.param(("--pids-limit", "0"), {"pids": {"limit": 0}}, id="pids"),
        pytest.param(("--pids-limit", "-1"), {"pids": {"limit": -1}}, id="no-pids-limit"),
        pytest.param(("--cpuset-cpus", "0-3", "--cpuset-mems", "0"), {"cpu": {"cpus": "0-3", "mems": "0"}}, id="set"),
        pytest.param(("--blkio-weight", "0"), {}, id="no-weight"),
        pytest.param(("--blkio-weight", "10"), {"blockIO": {"weight": 10}}, id="weight"),
        pytest.param(
            ("--cpu-rt-period=5", "--cpu-rt-runtime=4"), {"cpu": {"realtimePeriod": 5, "realtimeRuntime": 4}}, id="rt"
        ),
    ],
)
def test_flags(words: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert flags(*words) == expected


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--memory", "x"), "invalid value for memory: invalid size: 'x'"),
        (("--memory", "-2"), "invalid value for memory: invalid size: '-2'"),
        (("--cpu-quota", "1.5"), "invalid value for cpu-quota: strconv.ParseInt: parsing"),
        (("--cpu-period", "-1"), 'invalid value for cpu-period: strconv.ParseUint: parsing "-1": invalid syntax'),
        (("--pids-limit", "many"), 'invalid value "many" for flag -pids-limit: parse error'),
        (("--blkio-weight", "1e2"), 'invalid value "1e2" for flag -blkio-weight: parse error'),
    ],
)
def test_flags_that_make_no_sense(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        flags(*words)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("0", 0), ("67108864", 67108864), ("64M", 64 << 20), ("64m", 64 << 20), ("64MB", 64 << 20)],
        *[("64MiB", 64 << 20), ("1.5g", 3 << 29), ("2 k", 2048), ("7b", 7), ("1P", 1 << 50), ("-1", -1), ("0.5K", 512)],
    ],
)
def test_size(text: str, expected: int) -> None:
    assert update.size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "M", "x", "-2", "+1", "1..5", "1.2.3", "1e3", "1_0", " 1", "1  M", "0x10", "\u0661", "5iB", "5MiBB"]
)
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        update.size(text)


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        found = update.size(text)
    except ValueError:
        return
    assert found >= -1


def file(directory: Path, value: object) -> dict[str, Any]:
    path = directory / "resources.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return update.of_file(str(path))


DOCKER = {
    "devices": [{"allow": False, "access": "rwm"}],
    "memory": {"limit": 67108864, "reservation": 0, "swap": 134217728, "kernel": 0},
    "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
    "pids": None,
    "blockIO": {"weight": 0},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({}, {}, id="empty"),
        pytest.param(DOCKER, {"memory": {"limit": 67108864, "swap": 134217728}, "cpu": {}, "blockIO": {}}, id="docker"),
        pytest.param({"CPU": {"Cpus": "1"}}, {"cpu": {"cpus": "1"}}, id="go-takes-any-case"),
        pytest.param({"cpu": {"idle": 0, "burst": 0}, "pids": {"limit": 0}}, None, id="zeros-that-count"),
        pytest.param(
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}}, None, id="zero-in-a-list"
        ),
        pytest.param({"unified": {"memory.max": "0", "cpuset.cpus": ""}}, None, id="unified-as-it-is"),
        pytest.param({"memory": {"checkBeforeUpdate": False, "limit": 5}}, None, id="false-is-no-zero"),
    ],
)
def test_file(tmp_path: Path, value: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert file(tmp_path, value) == (value if expected is None else expected)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ({"memory": 5}, "resources.json: memory: expected an object"),
        ({"memory": {"limit": "5"}}, "resources.json: memory.limit"),
        ({"unified": {"../x": "5"}}, "is not the name of a cgroup file"),
    ],
)
def test_file_that_makes_no_sense(tmp_path: Path, value: object, problem: str) -> None:
    with pytest.raises(PyrktError) as caught:
        file(tmp_path, value)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("wanted", "stored", "expected"),
    [
        pytest.param({"cpu": {"period": 5}}, {"cpu": {"quota": 9}}, {"cpu": {"period": 5, "quota": 9}}, id="period"),
        pytest.param({"cpu": {"quota": -1}}, {"cpu": {"period": 9}}, {"cpu": {"period": 9, "quota": -1}}, id="quota"),
        pytest.param({"cpu": {"shares": 5}}, {"cpu": {"quota": 9}}, {"cpu": {"shares": 5}}, id="shares-alone"),
        pytest.param({"memory": {"swap": 9}}, {"memory": {"limit": 5}}, {"memory": {"limit": 5, "swap": 9}}, id="swap"),
        pytest.param({"memory": {"limit": -1}}, {"memory": {"swap": 9}}, {"memory": {"limit": -1}}, id="no-limit"),
        pytest.param({"memory": {"limit": 5}}, {"memory": None}, {"memory": {"limit": 5}}, id="null"),
        pytest.param({"memory": {"limit": 5}}, {"memory": {"swap": 0}}, {"memory": {"limit": 5}}, id="unset"),
    ],
)
def test_completed(wanted: dict[str, Any], stored: dict[str, Any], expected: dict[str, Any]) -> None:
    assert update.completed(wanted, stored) == expected


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        pytest.param({}, {"pids": {"limit": 5}}, {"pids": {"limit": 5}}, id="new"),
        pytest.param(
            {"memory": {"limit": 5, "swap": 9}, "devices": []},
            {"memory": {"limit": -1}},
            {"memory": {"limit": -1}, "devices": []},
            id="no-limit-is-none-on-swap",
        ),
        pytest.param(
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 1}]}},
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}]}},
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}, {"major": 8, "minor": 1}]}},
            id="a-device-it-has",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]},
            {"hugepageLimits": [{"pageSize": "1GB", "limit": 2}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}]},
            id="another-size",
        ),
        pytest.param({"unified": {"a": "1"}}, {"unified": {"b": "2"}}, {"unified": {"a": "1", "b": "2"}}, id="unified"),
    ],
)
def test_merged(stored: dict[str, Any], wanted: dict[str, Any], expected: dict[str, Any]) -> None:
    assert update.merged(stored, wanted) == expected
