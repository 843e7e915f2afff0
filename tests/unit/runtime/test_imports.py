"""Which modules each verb loads: the budget of its start-up, which does not flake as a timing does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyrkt

ENTRY = Path(pyrkt.__file__).resolve().parent / "runtime/entry.py"
FORBIDDEN = {
    *("argparse", "asyncio", "click", "collections", "contextlib", "cryptography", "ctypes", "dataclasses", "enum"),
    *(
        "functools",
        "grp",
        "hashlib",
        "importlib",
        "inspect",
        "json",
        "jsonschema",
        "logging",
        "pathlib",
        "prctl",
        "pwd",
    ),
    *(
        "re",
        "rich",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "traceback",
        "typing",
        "zstandard",
    ),
}
# Of ours: what each verb may load beside "base"; a prefix ending with a dot stands for all below it.
LIGHT = ("pyrkt.runtime.", "pyrkt.kernel.lock", "pyrkt.kernel.process", "pyrkt.kernel.pidfd", "pyrkt.spec.layout")
FULL = (
    *(*LIGHT, "pyrkt.spec.", "pyrkt.plan.", "pyrkt.cgroup.host", "pyrkt.cgroup.plan", "pyrkt.cgroup.devices"),
    *("pyrkt.kernel.host", "pyrkt.kernel.memfd", "pyrkt.stage1.launch"),
)


def loaded(tmp_path: Path, *words: str) -> set[str]:
    """Return the modules in use when the verb ends, or when it hands over to stage1."""
    script = tmp_path / "probe.py"
    script.write_text(
        f"import sys, os; sys.path.append({str(ENTRY.parent.parent.parent)!r})\n"
        "from pyrkt.runtime import boot, main\n"
        "def tell(*_, **__):\n"
        "    os.write(1, '\\n'.join(['@', *sorted(sys.modules)]).encode()); os._exit(0)\n"
        "if sys.argv[1] in ('run', 'create'):\n"
        "    from pyrkt.stage1 import launch\n"
        "    launch.run = launch.start = tell\n"
        f"main.main(['--root', {str(tmp_path / 'state')!r}, *sys.argv[1:]])\n"
        "tell()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), *words], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.partition("@\n")[2].split("\n"))


def bundle(directory: Path) -> Path:
    (directory / "bundle/rootfs").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ENTRY), "spec", "--bundle", str(directory / "bundle")], check=True
    )
    assert done.returncode == 0
    config = directory / "bundle/config.json"
    config.write_text(config.read_text().replace('"terminal": true', '"terminal": false'))
    return directory / "bundle"


def check(found: set[str], allowed: tuple[str, ...]) -> None:
    assert not found & FORBIDDEN
    packages = {
        "pyrkt",
        "pyrkt.base",
        "pyrkt.kernel",
        "pyrkt.runtime",
        "pyrkt.spec",
        "pyrkt.plan",
        "pyrkt.cgroup",
        "pyrkt.stage1",
    }
    strangers = {
        name
        for name in found - packages
        if name.startswith("pyrkt.")
        and not name.startswith("pyrkt.base.")
        and not any(name == entry or (entry.endswith(".") and name.startswith(entry)) for entry in allowed)
    }
    assert not strangers


@pytest.mark.parametrize("verb", ["run", "create"])
def test_making_a_container(tmp_path: Path, verb: str) -> None:
    found = loaded(
        tmp_path, verb, "--bundle", str(bundle(tmp_path)), f"imports-{os.getpid()}"
    )  # its cgroup: nobody else's
    check(found, FULL)
    assert not found & {"pyrkt.spec.appc", "pyrkt.spec.image", "pyrkt.stage1.failure", "pyrkt.kernel.seccomp"}


@pytest.mark.parametrize(
    "words",
    [
        ["state", "none"],
        ["start", "none"],
        ["delete", "none"],
        ["delete", "--force", "none"],
        ["list"],
        ["kill", "none"],
    ],
    ids=" ".join,
)
def test_other_verbs(tmp_path: Path, words: list[str]) -> None:
    found = loaded(tmp_path, *words)
    check(found, LIGHT)


def test_help_and_version_load_no_verb(tmp_path: Path) -> None:
    found = loaded(tmp_path, "--help")
    assert not found & {f"pyrkt.runtime.{verb}" for verb in ("create", "run", "exec", "launching", "container")}


def test_the_archive_is_made_used_and_renewed(tmp_path: Path) -> None:
    """A copy of the package, so that nobody else's archive is touched."""
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    subprocess.run(["cp", "-r", str(ENTRY.parent.parent), str(place)], check=True)
    for stale in place.rglob("hot.*.bin"):
        stale.unlink()
    words = [
        sys.executable,
        "-I",
        "-S",
        str(place / "pyrkt/runtime/entry.py"),
        "--root",
        str(tmp_path / "state"),
        "list",
    ]

    def listing() -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    assert listing().startswith("ID")
    (archive,) = place.rglob("hot.*.bin")
    made = archive.stat().st_mtime_ns
    assert listing().startswith("ID")
    assert archive.stat().st_mtime_ns == made
    source = place / "pyrkt/runtime/list.py"
    # longer by a byte: a .pyc file would not see a change within its second otherwise
    source.write_text(source.read_text().replace("column.upper()", "column.title() "))
    assert listing().startswith("Id")  # the source counts, not what was compiled from it before
    assert archive.stat().st_mtime_ns != made
    assert listing().startswith("Id")
    archive.write_bytes(archive.read_bytes()[:5000])
    assert listing().startswith("Id")
    archive.write_bytes(os.urandom(5000))
    assert listing().startswith("Id")
