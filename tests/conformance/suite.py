"""The suite: got through Go's module proxy or taken from a checkout, mended, built."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.edits import EDITS

MODULE = "github.com/opencontainers/runtime-tools"
# The newest there is. v0.9.0, its last release, is older than Go's modules and cannot be built without the network
# of 2019; the commits after it have the same 58 programs.
VERSION = "v0.9.1-0.20251114084447-edf4cb3d2116"
SUM = "h1:tAKu3NkKWZYpqBSOJKwTxT1wIGueiF7gcmcNgr5pNTY="
_ARCHITECTURES = {"x86_64": "amd64", "i686": "386"}


class Unavailable(Exception):
    """The suite cannot be had here: no Go, no module, no root file system for this machine."""


class Broken(Exception):
    """It is there, but cannot be built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A built suite: ``directory`` is the working directory of its programs, ``bin`` holds them."""

    directory: Path
    bin: Path
    programs: tuple[str, ...]
    notes: tuple[str, ...]


def build(place: Path, source: Path | None) -> Suite:
    """Return the suite, built in ``place``, which keeps it for the next time.

    Raises: Unavailable, Broken.
    """
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise Unavailable("there is no Go here to build it")
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise Unavailable(f"the suite has no root file system for {platform.machine()}")
    env = _environment(place)
    origin = source or _downloaded(go, env)
    key = _key(origin, go, env)
    stamp, tree, out = place / "stamp", place / "suite", place / "bin"
    notes = list[str]()
    if not stamp.is_file() or stamp.read_text().partition("\n")[0] != key:
        stamp.unlink(missing_ok=True)
        _copy(origin, tree)
        notes = mend(tree, strict=source is None)
        _compile(go, env, tree, out)
        stamp.write_text("\n".join([key, *notes]))
    notes = stamp.read_text().split("\n")[1:]
    work = place / "work"
    work.mkdir(exist_ok=True)
    for file in (tree / f"rootfs-{architecture}.tar.gz", out / "runtimetest"):
        shutil.copy2(file, work / file.name)
    return Suite(directory=work, bin=out, programs=tuple(names(tree)), notes=tuple(notes))


def names(tree: Path) -> list[str]:
    """Return the validation programs of a tree."""
    return sorted(path.parent.name for path in tree.glob("validation/*/*.go") if path.parent.name != "util")


def _environment(place: Path) -> dict[str, str]:
    # Go wants a HOME for its caches; a later toolchain than the one that is here is not ours to install.
    env = dict(os.environ) | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    if not env.get("HOME"):
        env |= {"GOPATH": str(place / "go"), "GOCACHE": str(place / "cache")}
    return env


def _downloaded(go: str, env: dict[str, str]) -> Path:
    argv = [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"Error": done.stderr}
    if error := answer.get("Error"):
        raise Unavailable(f"the module proxy gives no {MODULE} {VERSION}: {str(error).strip().splitlines()[-1]}")
    if answer["Sum"] != SUM:
        raise Broken(f"{MODULE} {VERSION} is not what it was: its sum is {answer['Sum']}, expected {SUM}")
    return Path(answer["Dir"])


def _key(origin: Path, go: str, env: dict[str, str]) -> str:
    """Return a name for what is built: the sources, our edits, the compiler."""
    version = subprocess.run([go, "version"], env=env, capture_output=True, check=True).stdout
    total = hashlib.sha256(version + repr(EDITS).encode())
    for path in sorted(origin.rglob("*")):
        if path.is_file() and ".git" not in path.parts:
            total.update(f"{path.relative_to(origin)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _copy(origin: Path, tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(origin, tree, ignore=shutil.ignore_patterns(".git"))
    for path in (tree, *tree.rglob("*")):  # files of the module cache are read-only
        path.chmod(path.stat().st_mode | 0o200)
    if not (tree / "vendor/github.com").is_dir():
        shutil.rmtree(tree / "vendor", ignore_errors=True)  # a module has the list of it only, which Go stumbles over


def mend(tree: Path, *, strict: bool) -> list[str]:
    """Apply our edits; return what did not apply, which ``strict`` makes an error.

    Raises: Broken.
    """
    notes = []
    for edit in EDITS:
        path = tree / edit.file
        text = path.read_text() if path.is_file() else ""
        if text.count(edit.old) != edit.times:
            notes.append(f"{edit.file} is another one than was mended here ({edit.why})")
            continue
        path.write_text(text.replace(edit.old, edit.new))
    if strict and notes:
        raise Broken(notes[0])
    return notes


def _compile(go: str, env: dict[str, str], tree: Path, out: Path) -> None:
    if not (tree / "go.mod").is_file():
        raise Broken("the checkout has no go.mod: take a later one")
    shutil.rmtree(out, ignore_errors=True)
    vendored = (tree / "vendor").is_dir()
    flags = ["-trimpath", "-buildvcs=false", "-ldflags=-s -w", f"-mod={'vendor' if vendored else 'readonly'}"]
    packages = ["./validation/...", "./cmd/runtimetest", "./cmd/oci-runtime-tool"]
    argv = [go, "build", *flags, "-o", f"{out}/", *packages]
    env = env | {"GOFLAGS": ""}
    done = subprocess.run(argv, env=env, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    words = done.stderr.strip().splitlines() or ["it said nothing"]
    network = next((line for line in words if "dial tcp" in line or "proxy" in line or "lookup" in line), "")
    if network:
        raise Unavailable(f"the module proxy lacks what the suite needs: {network}")
    raise Broken(f"go build: {words[-1]}")
