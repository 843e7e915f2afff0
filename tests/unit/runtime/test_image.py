"""The interpreter that starts from an image of its memory: what is its caller's, and when it does not serve."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import pyrkt

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OURS = Path(pyrkt.__file__).resolve().parent
INTERPRETER = OURS / f"runtime/interpreter-{VERSION}"
LAUNCHER = Path(sys.prefix) / "bin/pyrkt-oci"
ARCHIVE = Path(str(sysconfig.get_config_var("LIBPL"))) / f"libpython{VERSION}.a"
PROBE = """
import os, sys
TELL = "one"
FLAGS = ()
def main(words):
    import json
    facts = {"words": list(words), "argv": sys.argv[1:], "exe": os.readlink("/proc/self/exe"), "tell": TELL,
             "environ": dict(os.environ), "pid": os.getpid(), "python": sys.executable, "cwd": os.getcwd(),
             "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.utf8_mode], "modules": sorted(sys.modules),
             "fds": sorted(os.listdir("/proc/self/fd"))}
    os.write(1, json.dumps(facts).encode())
    if words == ["raise"]:
        raise ValueError("on purpose")
    return 7
"""

pytestmark = pytest.mark.skipif(
    not ARCHIVE.exists(), reason="no static library of Python to make the interpreter from (python3-dev)"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of launcher and package whose ``main`` shows what it finds."""
    packages = tmp_path / f"lib/python{VERSION}/site-packages"
    packages.mkdir(parents=True)
    shutil.copytree(OURS, packages / "pyrkt", ignore=shutil.ignore_patterns("*.image", "hot.*"))
    (packages / "pyrkt/runtime/main.py").write_text(PROBE)
    (tmp_path / "bin").mkdir()
    shutil.copy2(LAUNCHER, tmp_path / "bin")
    (tmp_path / f"bin/python{VERSION}").symlink_to(os.path.realpath(sys.executable))
    return tmp_path


def image_of(package: Path) -> Path:
    return package / f"lib/python{VERSION}/site-packages/pyrkt/__pycache__/interpreter.image"


def source_of(package: Path) -> Path:
    return package / f"lib/python{VERSION}/site-packages/pyrkt/runtime/main.py"


def call(package: Path, *words: str | bytes, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [package / "bin/pyrkt-oci", *words], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 7, done.stderr.decode()
    return dict(json.loads(done.stdout))


def is_own(facts: dict[str, object]) -> bool:
    return str(facts["exe"]).endswith(f"/interpreter-{VERSION}")


def test_it_is_built_and_an_image_of_ours_can_be_made() -> None:
    """Fails when a hot module loads at import what no image can hold: a shared object, the whole of os."""
    assert INTERPRETER.exists()
    deadline = time.monotonic() + 30
    # Another may be making it, or have found a source too young to be bound to: then a call does without.
    while not (OURS / "__pycache__/interpreter.image").exists():
        assert time.monotonic() < deadline
        subprocess.run([LAUNCHER, "--version"], check=True, capture_output=True, timeout=60)


def test_an_image_is_made_once_and_used(package: Path) -> None:
    assert is_own(call(package, "a"))
    made = image_of(package).stat()
    assert is_own(call(package, "b"))
    assert image_of(package).stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_mode & 0o777 == 0o644
    assert [path.name for path in image_of(package).parent.iterdir() if "image." in path.name] == []


def test_arguments_variables_and_place_are_the_callers(package: Path, tmp_path: Path) -> None:
    call(package, "first", SECRET="of the first")
    facts = call(package, "a b", "", "ü".encode(), b"\xff", WORD="ü", EMPTY="", PYTHONPATH="/none")
    assert facts["words"] == facts["argv"] == ["a b", "", "ü", "\udcff"]
    assert facts["environ"] == {"WORD": "ü", "EMPTY": "", "LC_ALL": "C"}
    assert facts["python"] == str(package / f"bin/python{VERSION}")
    assert facts["flags"] == [1, 1, 1]
    assert facts["cwd"] == os.getcwd()
    # what listed them, and nothing of the image's making
    assert facts["fds"] == ["0", "1", "2", "3"]


def test_nothing_of_one_call_is_in_the_next(package: Path) -> None:
    first, second = call(package, "a"), call(package, "b")
    assert first["pid"] != second["pid"]
    assert first["modules"] == second["modules"]
    assert (second["words"], second["environ"]) == (["b"], {"LC_ALL": "C"})


def test_an_error_has_its_traceback(package: Path) -> None:
    call(package, "a")
    done = subprocess.run([package / "bin/pyrkt-oci", "raise"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ValueError: on purpose" in done.stderr


def test_a_source_that_changes_counts(package: Path) -> None:
    assert call(package)["tell"] == "one"
    source = source_of(package)
    source.write_text(PROBE.replace('"one"', '"another"'))
    facts = call(package)
    assert facts["tell"] == "another"
    assert is_own(facts)


@pytest.mark.parametrize("harm", ["cut", "longer", "empty", "random", "of-others", "link", "fifo", "directory"])
def test_an_image_that_cannot_be_right_is_made_anew_or_left_alone(package: Path, harm: str) -> None:
    call(package)
    image = image_of(package)
    data = image.read_bytes()
    if harm in {"link", "fifo", "directory"}:
        image.rename(image.with_name("elsewhere"))
    if harm == "cut":
        image.write_bytes(data[:-5000])
    elif harm == "longer":
        image.write_bytes(data + bytes(4096))
    elif harm == "empty":
        image.write_bytes(b"")
    elif harm == "random":
        image.write_bytes(os.urandom(9000))
    elif harm == "of-others":
        image.write_bytes(data[:-4096] + bytes(4096))
        image.chmod(0o666)
    elif harm == "link":
        image.symlink_to(image.with_name("elsewhere"))
    elif harm == "fifo":
        os.mkfifo(image)
    else:
        image.mkdir()
    facts = call(package, "x")
    assert facts["words"] == ["x"]
    assert is_own(facts) == (harm != "directory")
    if harm != "directory":
        assert image.read_bytes()[:4] == data[:4]
        assert image.stat().st_mode & 0o777 == 0o644


def test_of_another_place_it_does_not_serve(package: Path, tmp_path: Path) -> None:
    call(package)
    elsewhere = tmp_path / "moved"
    (elsewhere / "lib").parent.mkdir()
    (package / "lib").rename(elsewhere / "lib")
    (package / "bin").rename(elsewhere / "bin")
    facts = call(elsewhere, "x")
    assert is_own(facts)
    assert facts["python"] == str(elsewhere / f"bin/python{VERSION}")


def test_where_none_can_be_made_python_serves(package: Path) -> None:
    source_of(package).write_text(PROBE + "\nimport _json\n")  # a shared object, at an address that is not ours
    facts = call(package, "x")
    assert not is_own(facts)
    assert facts["words"] == ["x"]
    assert not image_of(package).exists()


def test_callers_that_meet_at_the_first_start(package: Path) -> None:
    words = [str(package / "bin/pyrkt-oci"), "x"]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, env={}) for _ in range(8)]
    for process in started:
        assert json.loads(process.communicate(timeout=60)[0])["words"] == ["x"]
    assert is_own(call(package))
    assert [path.name for path in image_of(package).parent.iterdir() if "image." in path.name] == []


def test_closed_standard_files_stay_closed(package: Path) -> None:
    call(package)
    script = 'exec "$0" x 0<&- 2<&-'
    done = subprocess.run(["sh", "-c", script, package / "bin/pyrkt-oci"], capture_output=True, timeout=60, check=False)
    assert json.loads(done.stdout)["words"] == ["x"]


def test_it_holds_nothing_of_who_made_it(package: Path, tmp_path: Path) -> None:
    """Everybody can read it, and root made it: once the maker's whole environment was in the memory it had freed."""
    place = tmp_path / "a-place-of-the-maker"
    place.mkdir()
    words = [str(package / "bin/pyrkt-oci"), "word-of-the-maker"]
    variables = {"TOKEN": "secret-of-the-maker", "LONG": "long-secret-of-the-maker" * 100}
    subprocess.run(words, env=variables, cwd=place, capture_output=True, timeout=60, check=False)
    data = image_of(package).read_bytes()
    assert b"of-the-maker" not in data
    # facts that its rehearsal read, and forgot
    mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    cgroups = {line.partition(":/")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()} - {""}
    assert not [line for line in mounts if line in data]
    assert not [name for name in cgroups if len(name) > 8 and name.encode() in data]
    assert is_own(call(package, "x"))


@pytest.mark.parametrize("own", [True, False], ids=["own-interpreter", "python"])
def test_nobody_else_can_put_modules_beside_it(package: Path, own: bool) -> None:
    """__pycache__ is made with the caller's mask; who can write there runs code as root."""
    packages = package / f"lib/python{VERSION}/site-packages"
    for found in [*packages.rglob("__pycache__")]:
        shutil.rmtree(found)
    if not own:
        (packages / f"pyrkt/runtime/interpreter-{VERSION}").unlink()
    (packages / "pyrkt/__pycache__").mkdir(mode=0o755)
    for found in [packages, *packages.rglob("*")]:
        found.chmod(0o755 if found.is_dir() or "interpreter-" in found.name else 0o644)
    for _ in range(2):
        done = subprocess.run([package / "bin/pyrkt-oci"], umask=0, capture_output=True, timeout=60, check=False)
        assert done.returncode == 7, done.stderr
    assert not [path for path in packages.rglob("*") if path.lstat().st_mode & 0o022]
    assert image_of(package).exists() == own


def test_without_room_for_one_nothing_is_left(package: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [package / "bin/pyrkt-oci", "x"], preexec_fn=little, capture_output=True, timeout=60, check=False
    )
    assert json.loads(done.stdout)["words"] == ["x"]
    assert not [path for path in image_of(package).parent.iterdir() if "interpreter" in path.name]


def test_killed_while_one_is_made_it_leaves_nothing(package: Path) -> None:
    words = [str(package / "bin/pyrkt-oci"), "x"]
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:signal=SIGKILL"]
    done = subprocess.run([*inject, *words], capture_output=True, timeout=60, check=False)
    assert json.loads(done.stdout)["words"] == ["x"]  # its child was killed, not the caller
    assert not [path for path in image_of(package).parent.iterdir() if "interpreter" in path.name]
    assert is_own(call(package))


def test_odd_surroundings(package: Path) -> None:
    """Whether the image is made there or used there; where it cannot be made, Python serves."""
    surroundings: list[list[str]] = [
        *(["setarch", flag] for flag in ("-R", "-L", "-X")),
        ["prlimit", "--stack=unlimited"],
        ["prlimit", "--as=100000000"],
        ["prlimit", "--data=20000000"],
        ["env", "GLIBC_TUNABLES=glibc.malloc.check=3:glibc.malloc.perturb=170", "MALLOC_PERTURB_=165"],
        ["env", "PYTHONHASHSEED=0", "PYTHONMALLOC=debug", "PYTHONHOME=/none", "LC_ALL=tr_TR.UTF-8"],
    ]
    for words in surroundings:
        image_of(package).unlink(missing_ok=True)
        for _ in range(2):
            done = subprocess.run(
                [*words, package / "bin/pyrkt-oci", "x"], capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 7, (words, done.stderr)
            assert json.loads(done.stdout)["words"] == ["x"], words
            assert is_own(call(package)), words


def test_the_image_of_somebody_else_is_not_taken(package: Path) -> None:
    """An ordinary user who may write there for a moment does not become root later."""
    if os.geteuid():
        pytest.skip("only root can give a file away")
    call(package, "x")
    os.chown(image_of(package), 65534, 65534)
    before = image_of(package).stat().st_ino
    assert is_own(call(package, "x"))
    assert image_of(package).stat().st_ino != before
    assert image_of(package).stat().st_uid == 0
