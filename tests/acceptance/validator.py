"""The validator: the source that Debian packages, built by the Go that is there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

GOPATH = Path("/usr/share/gocode")
PACKAGE = "github.com/appc/spec/ace"


class Broken(Exception):
    """It cannot be built."""


def build(place: Path) -> Path:
    """Return the static program, built in ``place``, which keeps it for the next time. Raises: Broken."""
    go = shutil.which("go") or shutil.which("go", path="/usr/lib/go/bin:/usr/local/go/bin")
    if go is None:
        raise Broken("there is no Go: apt-get install golang-go")
    sources = sorted((GOPATH / "src" / PACKAGE).glob("*.go"))
    if not sources:
        raise Broken(f"there is no {GOPATH}/src/{PACKAGE}: apt-get install golang-github-appc-spec-dev")
    # Libraries below GOPATH, a C library of none: what is built runs in a root without any.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
    env |= {"GO111MODULE": "off", "GOPATH": str(GOPATH), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    env |= {"GOCACHE": str(place / "cache"), "GOFLAGS": ""}
    version = subprocess.run([go, "version"], env=env, capture_output=True, check=True).stdout
    key = hashlib.sha256(version + b"".join(path.read_bytes() for path in sources)).hexdigest()
    program, stamp = place / "ace-validator", place / "stamp"
    if not program.exists() or not stamp.is_file() or stamp.read_text() != key:
        place.mkdir(parents=True, exist_ok=True)
        argv = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(program), PACKAGE]
        done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            raise Broken(f"go build: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
        stamp.write_text(key)
    return program
