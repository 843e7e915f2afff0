"""An ordinary user who needs no account: the installed command, where he can reach it, and what stands in /etc for him.

The tree and its .venv may lie below a directory that is closed to others, so that what is installed is copied. What
the user's name and subordinate ids are is said in files of his own, mounted over those of /etc in a mount namespace
that nobody else sees.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrkt
from tests.support.oci import Answer, eventually
from tests.support.pods import Pyrkt

UID, NAME = 54322, "pyrkt-user"
RANGE = 1 << 29, 65536
"""A range of ids above what adduser gives to anybody."""
ROOT = Path(__file__).parents[2]
_ENTER = """
for file in passwd subuid subgid; do mount --bind "$1/$file" "/etc/$file" || exit 70; done
shift
exec "$@"
"""


def install(prefix: Path) -> Path:
    """Copy the package, its launchers and what it needs to ``prefix``, a virtual environment; return its bin/."""
    packages = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    scripts = prefix / "bin"
    packages.mkdir(parents=True)
    scripts.mkdir()
    python = Path(sys.executable).resolve()
    (prefix / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    for name in ("python", "python3", packages.parent.name):
        (scripts / name).symlink_to(python)
    for name in ("pyrkt", "pyrkt-oci"):
        shutil.copy(Path(sys.prefix) / "bin" / name, scripts)
    unneeded = shutil.ignore_patterns("__pycache__", "*.c", "*.h", "tests")
    shutil.copytree(Path(pyrkt.__file__).parent, packages / "pyrkt", ignore=unneeded)
    for name in _needed():
        _copy(importlib.metadata.distribution(name), packages)
    subprocess.run(["chmod", "-R", "a+rX,go-w", prefix], check=True)
    return scripts


def _needed() -> list[str]:
    """Return the distributions that pyrkt needs, and those that they need."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        todo = [_name(text) for text in tomllib.load(file)["project"]["dependencies"]]
    done: dict[str, None] = {}
    while todo:
        name = todo.pop()
        if name not in done:
            done[name] = None
            required = importlib.metadata.distribution(name).requires or []
            todo += [_name(text) for text in required if ";" not in text]
            todo += [_name(text) for text in required if "platform_python_implementation != 'PyPy'" in text]
    return list(done)


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found.group()


def _copy(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    files = [Path(str(file)) for file in distribution.files or ()]
    # Installed by a setup.py: what counts as the files are the sources; what was installed is listed from a folder on.
    legacy = (distribution.read_text("installed-files.txt") or "").split()
    for file in [Path(name.removeprefix("../")) for name in legacy if name.startswith("../")] or files:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        (packages / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(distribution.locate_file(file)), packages / file)


@dataclass
class User(Pyrkt):
    """The command as a user who is nobody special, with everything of his below ``base``, which is his home."""

    bin: Path = Path()
    etc: Path = Path()
    place: tuple[str, ...] = ()
    """What the command is started by, once it is the user's: for a place that may do less."""
    environment: dict[str, str] = field(default_factory=dict)

    def words(self, *command: str | Path) -> list[str]:
        """Return the command line by which the user runs ``command``."""
        home = self.base
        settings = {"HOME": home, "XDG_RUNTIME_DIR": home / "run", "TMPDIR": home / "tmp"} | self.environment
        who = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        enter = ["unshare", "--mount", "--propagation=private", "sh", "-c", _ENTER, "sh", str(self.etc)]
        env = ["env", *(f"{key}={value}" for key, value in settings.items())]
        return [*enter, *who, *env, *self.place, *map(str, command)]

    def argv(self, *words: str) -> list[str]:
        """Return the command line of pyrkt, global flags first."""
        return self.words(self.bin / "pyrkt", *(["--insecure-options=image"] if self.insecure else []), *words)

    def runs(self, *command: str | Path, **options: Any) -> Answer:
        """Run any command as the user, to its end."""
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            self.words(*command), capture_output=True, text=True, timeout=120, check=False, cwd=self.base, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    @property
    def data(self) -> Path:
        """Where images and pods lie."""
        return self.base / ".local/share/pyrkt"


@contextmanager
def installed() -> Iterator[Path]:
    """Install everything where anybody can reach it, for a while; yield the bin/ of it."""
    with tempfile.TemporaryDirectory(prefix="pyrkt-test-installed-") as directory:
        Path(directory).chmod(0o755)
        yield install(Path(directory) / "prefix")


def processes() -> list[str]:
    """Return what runs as the user, or as one of his subordinate ids: "PID NAME" each."""
    first, size = RANGE
    found = []
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "status").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        words = dict(line.split(":", 1) for line in status.splitlines())
        uid = int(words["Uid"].split()[0]) if words else 0
        if uid == UID or first <= uid < first + size:
            found.append(f"{entry.name} {words['Name'].strip()}")
    return found


@contextmanager
def ordinary(programs: Path, *, ranges: bool) -> Iterator[User]:
    """Make a user, with subordinate ids if ``ranges``; afterwards nothing of him may run."""
    base = Path(tempfile.mkdtemp(prefix="pyrkt-test-user-"))
    home, etc = base / "home", base / "etc"
    for directory, mode in ((home, 0o700), (home / "run", 0o700), (home / "tmp", 0o700), (etc, 0o755)):
        directory.mkdir(mode=mode)
        if directory != etc:
            os.chown(directory, UID, UID)
    base.chmod(0o755)
    first, size = RANGE
    entry = f"{NAME}:x:{UID}:{UID}::{home}:/bin/sh\n"
    (etc / "passwd").write_text(Path("/etc/passwd").read_text() + entry)
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"{NAME}:{first}:{size}\n" if ranges else "")
    user = User(home, bin=programs, etc=etc)
    try:
        yield user
        assert eventually(lambda: not processes()), processes()
    finally:
        shutil.rmtree(base)
