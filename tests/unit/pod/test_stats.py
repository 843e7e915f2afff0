"""What pods use: where it is read, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.cgroup.host import Hierarchy, Mounts
from pyrkt.pod import cgroups, directory, stats
from pyrkt.pod.directory import Pod, Pods
from pyrkt.pod.stats import Sample, Use

V1 = ("cpuacct", "memory", "pids", "blkio")


def mounts(base: Path) -> Mounts:
    v1 = tuple(Hierarchy(names=(name,), mount=f"{base}/{name}") for name in V1)
    return Mounts(v1=v1, unified=Hierarchy(names=(), mount=f"{base}/unified"))


def fill(directory: str, files: dict[str, str]) -> None:
    Path(directory).mkdir(parents=True)
    for name, text in files.items():
        Path(directory, name).write_text(f"{text}\n")


def test_directories_become_a_layout(tmp_path: Path) -> None:
    directories = [f"{tmp_path}/{name}/pyrkt-x/a" for name in (*V1, "unified")]
    layout = cgroups.layout([*directories, "/elsewhere/pyrkt-x/a"], mounts(tmp_path))
    assert layout.enter == tuple(directories[:-1])
    assert layout.clone_into == directories[-1]
    assert layout.path("memory") == f"{tmp_path}/memory/pyrkt-x/a"
    assert layout.path("") == directories[-1]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    held = Pods(str(tmp_path)).create()
    home = f"pyrkt-{held.uuid}/a"
    fill(f"{tmp_path}/cpuacct/{home}", {"cpuacct.usage": "5000000000"})
    fill(f"{tmp_path}/memory/{home}", {"memory.usage_in_bytes": "4096", "memory.limit_in_bytes": "9223372036854771712"})
    fill(f"{tmp_path}/pids/{home}", {"pids.current": "3", "pids.max": "max"})
    fill(
        f"{tmp_path}/blkio/{home}",
        {"blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\nTotal 31"},
    )
    fill(f"{tmp_path}/unified/{home}", {"memory.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=9"})
    Path(held.path, "apps/a").mkdir(parents=True)
    listed = ",".join(f'"{tmp_path}/{name}/{home}"' for name in (*V1, "unified"))
    Path(held.path, "cgroups").write_text(f'{{"remove": [{listed}], "kill": []}}')
    return Pod(uuid=held.uuid, place=directory.PREPARE, path=held.path)


def test_an_app_is_read_from_its_cgroups(pod: Pod, tmp_path: Path) -> None:
    found = stats.sample(pod, mounts(tmp_path))
    (app,) = found.apps
    assert app == Use(name="a", cpu_ns=5 * 10**9, memory=4096, pids=3, read=11, written=20, pressure={"memory": 1.5})
    assert (found.whole.cpu_ns, found.whole.memory, found.whole.pressure) == (5 * 10**9, 4096, {})


def test_what_is_gone_counts_as_nothing(pod: Pod, tmp_path: Path) -> None:
    Path(pod.path, "cgroups").write_text(f'{{"remove": ["{tmp_path}/memory/pyrkt-{pod.uuid}/a-b"], "kill": []}}')
    (app,) = stats.sample(pod, mounts(tmp_path)).apps
    assert app == Use(name="a")
    Path(pod.path, "cgroups").write_text(f'{{"remove": ["{tmp_path}/unified/gone/pyrkt-{pod.uuid}/a"], "kill": []}}')
    (app,) = stats.sample(pod, mounts(tmp_path)).apps
    assert (app.cpu_ns, app.memory, app.limit, app.pressure) == (0, 0, None, {})


def sample(at: float, *nanoseconds: int | None) -> Sample:
    apps = tuple(Use(name=f"a{place}", cpu_ns=number) for place, number in enumerate(nanoseconds))
    return Sample(uuid="u", name="", at=at, whole=Use(name="", cpu_ns=sum(n or 0 for n in nanoseconds)), apps=apps)


def test_shares_are_of_one_processor_between_two_looks() -> None:
    before, now = sample(10.0, 0, 10**9, None), sample(12.0, 10**9, 5 * 10**9, None)
    assert now.shares(before) == {"": 250.0, "a0": 50.0, "a1": 200.0}
    assert now.shares(None) == {}
    assert now.shares(now) == {}
    assert "a0" not in sample(13.0, 5).shares(now), "it was started again"


def test_json_leaves_out_what_is_not_known() -> None:
    value = stats.as_json(sample(1.0, None), None)
    assert value == {"name": "u", "total": {"cpu_ns": 0}, "apps": [{"name": "a0"}]}
