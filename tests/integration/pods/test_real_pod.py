"""A pod of real software: nginx in front of a Python program with redis, through its whole life.

The three share a volume and localhost. The order of the tests is the pod's life; each takes what the former left.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import software
from tests.support.network import Host, host
from tests.support.oci import eventually
from tests.support.pods import Pyrkt

pytestmark = [pytest.mark.root, pytest.mark.peers]

PLACE = Path(__file__).parents[3] / "build/software"
_REQUESTS = re.compile(r"(\d+) requests in")
PORT = 18080
"""Of the host, which is the test's own."""


@dataclass
class Site:
    """The pod while it runs: the host that it is on, how it is called."""

    host: Host
    uuid: str

    @property
    def tool(self) -> Pyrkt:
        """Pyrkt on that host."""
        return self.host.tool

    def get(self, path: str, address: str = "127.0.0.1", *, before: tuple[str, ...] = ()) -> tuple[int, str]:
        """Return what nginx answers, asked at the published port of an address of the host."""
        url = f"http://{address}:{PORT}{path}"
        answer = self.host.call(*before, "curl", "-s", "-m", "10", "-w", "\n%{http_code}", url)
        body, _, code = answer.out.rpartition("\n")
        return int(code), body

    def answers(self) -> bool:
        """Tell whether the Python program is reached."""
        return self.get("/pid")[0] == 200

    def apps(self) -> dict[str, dict[str, Any]]:
        """Return what status says of each app."""
        return {app["name"]: app for app in self.tool.pod(self.uuid)["apps"]}

    def starts(self) -> int:
        """Return how often the Python program has started, as it says itself, through the volume and nginx."""
        return self.get("/shared/starts")[1].count("started")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start the pod; check at the end that nothing of it is left anywhere."""
    tool = Pyrkt(tmp_path_factory.mktemp("site"))
    images = software.build(PLACE)
    for image in images.values():
        tool.ok("fetch", image)
    with host(tool) as there:
        there.neighbour()
        uuid = tool.detached(
            *("--name=site", "--net=default", f"--port=www:{PORT}", "--volume=data,kind=empty,mode=1777"),
            *(images["redis"], images["app"], "--name=app", "--mount=volume=data,target=/data"),
            *("--restart=on-failure", "--restart-delay=50ms", images["web"]),
        )
        made = Site(there, uuid)
        assert eventually(made.answers, 20), tool.call("logs", uuid).out
        assert there.leftovers(), "links, rules and a lease, as long as it runs"
        yield made
        assert tool.clean() == []
        assert there.leftovers() == []


def test_it_answers_on_the_hosts_addresses(site: Site) -> None:
    for address in ("127.0.0.1", "10.77.0.1"):
        assert site.get("/static", address) == (200, "nginx\n")
    # who is not on the host
    assert site.get("/static", "10.77.0.1", before=("ip", "netns", "exec", "outside")) == (200, "nginx\n")


def test_all_three_answer_each_other(site: Site) -> None:
    first, second = (int(site.get("/count")[1]) for _ in range(2))
    assert second == first + 1
    assert site.starts() == 1
    # all see one another's processes: the program's own pid is one of the pod's
    assert 1 < int(site.get("/pid")[1]) < 1000


def test_under_load_nothing_is_lost(site: Site) -> None:
    before = int(site.get("/count")[1])
    said = site.host.ok("wrk", "-t2", "-c16", "-d2s", f"http://127.0.0.1:{PORT}/count")
    assert "Socket errors" not in said, said
    assert "Non-2xx" not in said, said
    match = _REQUESTS.search(said)
    assert match is not None
    seen = int(match[1])
    assert seen > 100
    # what was on its way when wrk stopped counting has been counted by redis all the same
    assert seen <= int(site.get("/count")[1]) - before - 1 <= seen + 2 * 16


def test_what_it_uses_is_seen(site: Site) -> None:
    found = json.loads(site.tool.ok("stats", "--no-stream", "--format=json", site.uuid))
    text = json.dumps(found)
    for name in ("redis", "app", "web"):
        assert f'"{name}"' in text
    table = site.tool.ok("stats", "--no-stream", site.uuid)
    assert [line.split()[1] for line in table.splitlines()[1:]] == ["(all)", "redis", "app", "web"]


@pytest.mark.parametrize("how", ["crash", "kill"])
def test_an_app_that_dies_is_started_again_and_the_others_go_on(site: Site, how: str) -> None:
    before, starts = site.apps(), site.starts()
    visits = int(site.get("/count")[1])
    if how == "crash":
        assert site.get("/crash")[0] == 502
    else:
        # the process of the pod's record, from outside
        pid = int((site.tool.directory(site.uuid) / "apps/app/pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: site.answers() and site.starts() == starts + 1, 20)
    assert site.tool.pod(site.uuid)["state"] == "running"
    # redis has lost nothing, for it is the same process
    assert int(site.get("/count")[1]) == visits + 1
    after = site.apps()
    for name in ("redis", "web"):
        assert after[name]["started_at"] == before[name]["started_at"]


def test_its_logs_tell_of_it(site: Site) -> None:
    lines = site.tool.ok("logs", "--app=app", site.uuid).splitlines()
    assert lines.count("serving") == site.starts()
    errors = subprocess.run(
        site.tool.argv("logs", "--app=app", site.uuid), capture_output=True, text=True, check=True
    ).stderr
    assert errors.splitlines() == ["asked to die"]
    assert "eady to accept connections" in site.tool.ok("logs", "--app=redis", site.uuid)
    every = [json.loads(line) for line in site.tool.ok("logs", "--format=json", site.uuid).splitlines()]
    assert {entry["app"] for entry in every} == {"redis", "app", "web"}


def test_entered_it_is_the_same_pod(site: Site) -> None:
    code = "import os; print(os.listdir('/data').count('redis.sock'), os.getuid(), os.environ['AC_APP_NAME'])"
    answer = site.tool.call("exec", "--app=app", site.uuid, software.PROGRAMS["python"], "-c", code)
    assert (answer.code, answer.out.split()) == (0, ["1", str(software.APP_USER), "app"]), answer.err


def test_stopped_exported_and_gone(site: Site, tmp_path: Path) -> None:
    assert f'"{site.uuid}"' in site.tool.ok("stop", site.uuid)
    pod = site.tool.pod(site.uuid)
    assert pod["state"] == "exited"
    codes = {app["name"]: app["exit_code"] for app in pod["apps"]}
    # nginx and redis end in order when asked to; the program knows no better than to die of it
    assert codes == {"redis": 0, "app": 128 + signal.SIGTERM, "web": 0}
    for name in codes:
        target = tmp_path / f"{name}.aci"
        site.tool.ok("export", f"--app={name}", site.uuid, str(target))
        done = subprocess.run(["actool", "validate", str(target)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (
        "redis"
        in site.tool.ok("run", str(tmp_path / "redis.aci"), "--exec=/usr/bin/redis-server", "--", "--version").lower()
    )
    out = site.tool.ok("gc", "--grace-period=0")
    assert site.uuid in out
    assert site.tool.pods() == []
