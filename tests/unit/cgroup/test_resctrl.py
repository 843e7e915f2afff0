"""linux.intelRdt, with a directory that stands in for resctrl: few machines have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.cgroup.resctrl import Resctrl, layout, probe
from pyrkt.spec.layout import ResctrlLayout
from pyrkt.spec.runtime import IntelRdt

HOST = Resctrl(root="/r", resources=("L3", "L3_MON", "MB"), groups=("info", "mon_groups", "gold", "schemata", "tasks"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(
            IntelRdt(l3_cache_schema="L3:0=f", mem_bw_schema="MB:0=20", schemata=("L2:0=3",)),
            ResctrlLayout(
                make=("/r/c",),
                write=(("/r/c/schemata", "L3:0=f\nMB:0=20\nL2:0=3\n"),),
                enter=("/r/c",),
                remove=("/r/c",),
            ),
            id="own-group",
        ),
        pytest.param(IntelRdt(clos_id="gold"), ResctrlLayout(enter=("/r/gold",)), id="group-that-is-there"),
        pytest.param(
            IntelRdt(clos_id="silver", schemata=("MB:0=50",)),
            ResctrlLayout(make=("/r/silver",), write=(("/r/silver/schemata", "MB:0=50\n"),), enter=("/r/silver",)),
            id="named-group-is-made-and-stays",
        ),
        pytest.param(
            IntelRdt(clos_id="gold", enable_monitoring=True),
            ResctrlLayout(
                make=("/r/gold/mon_groups/c",),
                enter=("/r/gold", "/r/gold/mon_groups/c"),
                remove=("/r/gold/mon_groups/c",),
            ),
            id="monitored",
        ),
        pytest.param(
            IntelRdt(enable_monitoring=True),
            ResctrlLayout(
                make=("/r/c", "/r/c/mon_groups/c"),
                enter=("/r/c", "/r/c/mon_groups/c"),
                remove=("/r/c/mon_groups/c", "/r/c"),
            ),
            id="own-group-monitored",
        ),
        pytest.param(IntelRdt(clos_id="/"), ResctrlLayout(enter=("/r",)), id="default-group"),
    ],
)
def test_what_is_made_written_entered_and_removed(wanted: IntelRdt, expected: ResctrlLayout) -> None:
    assert layout(wanted, "c", HOST) == expected


@pytest.mark.parametrize(
    ("wanted", "host", "where", "problem"),
    [
        pytest.param(IntelRdt(), None, "", "Intel RDT is not enabled", id="no-resctrl"),
        pytest.param(
            IntelRdt(l3_cache_schema="L3:0=f"), HOST.replace(resources=()), ".l3CacheSchema", "divide L3", id="no-l3"
        ),
        pytest.param(
            IntelRdt(mem_bw_schema="MB:0=1"), HOST.replace(resources=("L3",)), ".memBwSchema", "divide MB", id="no-mb"
        ),
        pytest.param(IntelRdt(clos_id="silver"), HOST, ".closID", "no group silver", id="unknown-group"),
    ],
)
def test_what_this_host_cannot_do(wanted: IntelRdt, host: Resctrl | None, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem) as caught:
        layout(wanted, "c", host)
    assert caught.value.where == f"linux.intelRdt{where}"


def test_finds_where_it_is_mounted_and_what_is_there(tmp_path: Path) -> None:
    for name in ("info/L3", "info/MB", "gold"):
        (tmp_path / "resctrl" / name).mkdir(parents=True)
    table = tmp_path / "mountinfo"
    line = f"30 24 0:27 / {tmp_path}/resctrl rw,relatime shared:1 - resctrl resctrl rw"
    table.write_text(f"24 1 8:1 / / rw - ext4 /dev/vda rw\n{line}\n")
    found = probe(str(table))
    assert found == Resctrl(root=f"{tmp_path}/resctrl", resources=("L3", "MB"), groups=("gold", "info"))
    table.write_text("24 1 8:1 / / rw - ext4 /dev/vda rw\n")
    assert probe(str(table)) is None
