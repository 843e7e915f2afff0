"""The quickstart's demonstration: whole, in places that may do less, without programs that it would like to have."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.oci import Answer, cgroups, eventually, processes
from tests.support.user import ROOT, User, installed, ordinary
from tests.support.user import processes as of_the_user

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]

NOWHERE = (
    "unshare",
    "-Ur",
    "sh",
    "-c",
    'for f in /proc/sys/user/max_*_namespaces; do echo 0 >"$f"; done; exec "$@"',
    "sh",
)
PROGRAMS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
APPC, OCI = "example.com/app:1.0", "docker://registry.example.com/app:1.0"


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with installed() as found:
        yield found


@pytest.fixture
def user(programs: Path) -> Iterator[User]:
    with ordinary(programs, ranges=False) as made:
        scripts = made.base.parent / "scripts"
        scripts.mkdir()
        for file in (ROOT / "scripts").glob("demo*.py"):
            shutil.copy(file, scripts)
        yield made


def words(user: User) -> list[str]:
    demo = user.base.parent / "scripts/demo.py"
    return user.words(user.bin / "python", demo, "--state", user.base / "state", "--pyrkt", user.bin / "pyrkt")


def shown(answer: Answer, what: str) -> list[str]:
    """Return the values of the lines that show ``what``, in order."""
    lines = [line for line in answer.out.splitlines() if line.startswith(f"  {what} ")]
    return [line.removeprefix(f"  {what} ").strip() for line in lines]


def demonstrate(user: User) -> Answer:
    done = subprocess.run(words(user), capture_output=True, text=True, timeout=120, check=False, cwd=user.base)
    # Nothing stays: no agent (which ends a moment after it was told to), no registry, no key.
    assert eventually(lambda: of_the_user() == []), of_the_user()
    assert list((user.base / "tmp").iterdir()) == []
    return Answer(done.returncode, done.stdout, done.stderr)


def without(user: User, *names: str) -> Path:
    """Hide programs from the user; return the directory that is all of his PATH."""
    directory = user.base.parent / "programs"
    directory.mkdir()
    for folder in map(Path, PROGRAMS):
        for file in folder.iterdir():
            if file.name not in names and not (directory / file.name).exists():
                (directory / file.name).symlink_to(file)
    user.environment["PATH"] = str(directory)
    return directory


def test_an_ordinary_user_twice(user: User) -> None:
    first = demonstrate(user)
    assert (first.code, first.err) == (0, "")
    assert [line for line in first.out.splitlines() if line in (APPC, OCI)] == [APPC, OCI]
    assert len(shown(first, "signer")) == 2
    assert shown(first, "signature") == ["good", "good"]
    assert all(value.startswith("yes") for value in shown(first, "encrypted"))
    assert all(value.startswith(str(user.base)) for value in shown(first, "bundle"))
    assert all(value.startswith("hello, pid ") for value in shown(first, "output"))
    assert shown(first, "exit code") == ["0", "0"]
    (line,) = [line for line in first.out.splitlines() if line.startswith("not possible here: ")]
    assert "no cgroup is delegated to this user" in line
    pyrkt = user.bin / "pyrkt"
    assert first.out.splitlines()[-2:] == [f"  {pyrkt} run {OCI}", f"  {pyrkt} run example.com/app"]
    made = (user.base / "state/ready").stat().st_mtime_ns
    second = demonstrate(user)
    assert second.code == 0
    assert (user.base / "state/ready").stat().st_mtime_ns == made
    assert shown(second, "digest") == shown(first, "digest")
    assert user.pods() == []


def test_what_it_says_to_type_next_works(user: User) -> None:
    answer = demonstrate(user)
    for line in answer.out.splitlines()[-2:]:
        ran = user.runs(*line.split())
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("hello, pid ")


def test_where_no_namespaces_can_be_made(user: User) -> None:
    user.place = NOWHERE
    answer = demonstrate(user)
    assert (answer.code, answer.err) == (0, "")
    assert shown(answer, "signature") == ["good", "good"]
    for bundle in shown(answer, "bundle"):
        assert json.loads(Path(bundle, "config.json").read_text())["process"]["args"][0] == "/bin/sh"
        assert Path(bundle, "rootfs/bin/busybox").exists()
    for plan in shown(answer, "plan"):
        assert re.fullmatch(r"\d+ steps, sha256:[0-9a-f]{64}", plan)
    (line,) = [line for line in answer.out.splitlines() if line.startswith("not possible here: ")]
    assert "running the images (making the namespaces" in line


@pytest.mark.parametrize(
    ("names", "packages", "signatures"),
    [
        pytest.param(("skopeo",), "skopeo", 1, id="skopeo"),
        pytest.param(("docker-registry",), "docker-registry", 1, id="registry"),
        pytest.param(("gpg", "gpgconf"), "gnupg", 0, id="gpg"),
        pytest.param(("busybox",), "busybox-static", 2, id="busybox"),
        pytest.param(
            ("busybox", "docker-registry", "gpg", "skopeo"),
            "gnupg, skopeo, docker-registry, busybox-static",
            0,
            id="all",
        ),
    ],
)
def test_without_a_program_it_goes_as_far_as_it_can(
    user: User, names: tuple[str, ...], packages: str, signatures: int
) -> None:
    without(user, *names)
    answer = demonstrate(user)
    assert (answer.code, answer.err) == (0, "")
    assert shown(answer, "signature").count("good") == signatures
    assert shown(answer, "exit code") == ["0", "0"]
    assert f"(without {packages})" in answer.out
    for line in answer.out.splitlines()[-2:]:
        ran = user.runs(*line.split())
        assert (ran.code, ran.err) == (0, "")


def test_what_should_work_and_does_not_is_a_failure_in_one_line(user: User) -> None:
    registry = without(user, "docker-registry") / "docker-registry"
    registry.write_text("#!/bin/sh\necho 'the disk is on fire' >&2\nexit 1\n")
    registry.chmod(0o755)
    answer = demonstrate(user)
    assert answer.code == 1
    assert answer.err == "quickstart: docker-registry does not serve: the disk is on fire\n"


def test_a_directory_of_others_is_left_alone(user: User) -> None:
    (user.base / "state").mkdir()
    (user.base / "state/thesis").write_text("x")
    os.chmod(user.base / "state", 0o777)
    answer = demonstrate(user)
    assert answer.code == 1
    assert "not mine" in answer.err
    assert (user.base / "state/thesis").exists()


def test_a_signal_ends_what_it_has_started(user: User) -> None:
    process = subprocess.Popen(words(user), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=user.base)
    assert process.stdout
    for line in process.stdout:
        if line.startswith(b"  digest"):
            break
    assert any("docker-registry" in name for name in of_the_user())
    process.terminate()
    _, words_of_it = process.communicate(timeout=60)
    assert (process.returncode, words_of_it) == (143, b"")
    assert eventually(lambda: of_the_user() == []), of_the_user()
    assert list((user.base / "tmp").iterdir()) == []


def test_root_sees_the_limits_that_the_kernel_has(tmp_path: Path) -> None:
    # The store of root lies in /var/lib; for once another directory is there.
    enter = 'mount --bind "$1" /var/lib && shift && exec "$@"'
    (tmp_path / "lib").mkdir()
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", enter, "sh", str(tmp_path / "lib")]
    command += [sys.executable, str(ROOT / "scripts/demo.py"), "--state", str(tmp_path / "state")]
    command += ["--pyrkt", str(Path(sys.prefix) / "bin/pyrkt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    limits = shown(Answer(0, done.stdout, ""), "limit")
    assert [value.split()[:2] for value in limits] == [["memory", "67108864"], ["pids", "64"]] * 2
    assert "not possible" not in done.stdout
    assert processes(str(tmp_path)) == []
    assert [
        path for bundle in shown(Answer(0, done.stdout, ""), "bundle") for path in cgroups(bundle.split("/")[-3])
    ] == []
