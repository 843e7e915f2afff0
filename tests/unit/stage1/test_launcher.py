"""The C launcher: finds package and interpreter from where it lies, and starts it isolated."""

from __future__ import annotations

import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(sys.prefix) / "bin" / "pyrkt-oci"
VERSION = f"python3.{sys.version_info.minor}"
SHOW = """
import os, sys
print(WORD, sys.flags.isolated, sys.flags.no_site, *sys.argv[1:], sep="|")
print(*sorted(name for name in os.environ if name.startswith(("PYTHON", "KEEP"))))
"""


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A place with the launcher, an interpreter and a package that shows how it was started."""
    (tmp_path / "bin").mkdir()
    for name in ("pyrkt", "pyrkt-oci"):
        shutil.copy2(LAUNCHER, tmp_path / "bin" / name)
    (tmp_path / "bin" / VERSION).symlink_to(os.path.realpath(sys.executable))
    install(tmp_path / "lib" / VERSION / "site-packages")
    return tmp_path


def install(packages: Path) -> None:
    for part, word in (("cli", "people"), ("runtime", "engines")):
        (packages / "pyrkt" / part).mkdir(parents=True)
        (packages / "pyrkt" / part / "entry.py").write_text(f"WORD = {word!r}{SHOW}")


def call(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in argv], env=environment, capture_output=True, text=True, check=False, timeout=20
    )


def test_the_name_decides_and_arguments_pass_unchanged(prefix: Path) -> None:
    assert call(prefix / "bin/pyrkt", "a b", "", "ü").stdout.startswith("people|1|1|a b||ü\n")
    assert call(prefix / "bin/pyrkt-oci", "--x").stdout.startswith("engines|1|1|--x\n")


def test_engines_may_know_it_by_another_name(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "runc").symlink_to(prefix / "bin" / "pyrkt-oci")
    assert call(tmp_path / "runc", "run").stdout.startswith("engines|1|1|--called=runc|run\n")


def test_variables_for_python_are_not_passed_on(prefix: Path) -> None:
    done = call(prefix / "bin/pyrkt", PYTHONHOME="/none", PYTHONPATH="/none", PYTHON="x", KEEP="1", KEEP2="PYTHON=2")
    assert done.stdout.splitlines()[1] == "KEEP KEEP2"


@pytest.mark.parametrize("place", ["lib/{}/dist-packages", "lib64/{}/site-packages"])
def test_other_places_for_packages(prefix: Path, place: str) -> None:
    shutil.rmtree(prefix / "lib")
    install(prefix / place.format(VERSION))
    assert call(prefix / "bin/pyrkt").stdout.startswith("people|1|1\n")


def test_a_package_that_is_not_there_is_said_so(prefix: Path) -> None:
    shutil.rmtree(prefix / "lib")
    done = call(prefix / "bin/pyrkt")
    assert done.returncode == 127
    assert done.stderr == "pyrkt: the Python package is not beside this program\n  hint: install pyrkt again\n"


def test_an_interpreter_of_another_version_does_not_serve(prefix: Path) -> None:
    (prefix / "lib" / VERSION).rename(prefix / "lib" / "python3.999")
    (prefix / "bin" / VERSION).unlink()
    done = call(prefix / "bin/pyrkt")
    assert (done.returncode, done.stdout) == (127, "")
    assert "no Python of the package's version" in done.stderr


def test_a_compiled_entry_serves_while_it_is_fresh(prefix: Path) -> None:
    source = prefix / "lib" / VERSION / "site-packages/pyrkt/runtime/entry.py"
    text = source.read_text()
    source.write_text(text.replace("engines", "changed"))
    py_compile.compile(str(source), doraise=True)
    stamp = source.stat()
    # same size, same second: only the compiled form still says "changed"
    source.write_text(text)
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert call(prefix / "bin/pyrkt-oci").stdout.startswith("changed|")
    os.utime(source, (1, 1))
    assert call(prefix / "bin/pyrkt-oci").stdout.startswith("engines|")
