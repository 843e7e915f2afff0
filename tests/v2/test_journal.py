"""What an app writes as systemd's journal has it. By a plan: the guest has not what ``pyrkt`` itself needs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support import oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle

RUN = """
import sys
from pyrkt.kernel import host
from pyrkt.plan import compile, steps
from pyrkt.plan.place import Place, Streams
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime import parse_config
from pyrkt.stage1 import launch
bundle, log, name = sys.argv[1:]
with open(f"{bundle}/config.json", "rb") as file:
    config = parse_config(file.read(), "config.json")
journal = (("SYSLOG_IDENTIFIER", name), ("PYRKT_APP", name))
place = Place(streams=Streams(log=log, journal=journal))
config = config.replace(linux=config.linux.replace(resources=None))
plan = compile.container(config, bundle, host.probe(), CgroupLayout(), place)
launch.run(steps.encode(plan), plan.causes)
"""


def entries(name: str) -> list[dict[str, Any]]:
    """Return what the journal has of an app."""
    words = ["journalctl", "--output=json", "--all", "--no-pager", f"PYRKT_APP={name}"]
    return [json.loads(line) for line in oci.shell(words).splitlines()]


def test_journalctl_shows_what_an_app_writes(box: Bundle, tmp_path: Path) -> None:
    name = f"pyrkt-test-{tmp_path.name}"
    box.script(r"echo to stdout; echo to stderr >&2; printf 'no \377 text\n'; head -c 20000 /dev/zero; echo")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(box.path), str(tmp_path / "log"), name],
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert oci.eventually(lambda: len(entries(name)) == 5, 20), entries(name)
    found = entries(name)
    by_text = {entry["MESSAGE"]: entry for entry in found if isinstance(entry["MESSAGE"], str)}
    assert by_text["to stdout"]["PRIORITY"] == "6"
    assert by_text["to stderr"]["PRIORITY"] == "3"
    assert by_text["to stderr"]["PYRKT_STREAM"] == "stderr"
    assert by_text["to stdout"]["SYSLOG_IDENTIFIER"] == name
    binary = [bytes(entry["MESSAGE"]) for entry in found if isinstance(entry["MESSAGE"], list)]
    assert b"no \xff text" in binary
    assert sum("PYRKT_PARTIAL" in entry for entry in found) == 1
    assert len((tmp_path / "log").read_bytes().splitlines()) == 5
    assert f"{name}[" in oci.shell(["journalctl", "--no-pager", "-t", name])
