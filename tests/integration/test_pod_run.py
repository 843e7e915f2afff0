"""Pods that run: exit codes, signals, confinement, limits, volumes, several apps; real images, real kernel."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.oci import cgroups, eventually
from tests.support.pods import Pyrkt, end, make_aci, make_layout, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one OCI image (id prefix by ``image``) and one ACI; checks at the end that nothing stayed."""
    base = tmp_path_factory.mktemp("pods")
    tool = Pyrkt(base)
    tool.ok("fetch", f"oci:{make_layout(base / 'layout')}:bb")
    tool.ok("fetch", str(make_aci(base / "box.aci")))
    yield tool
    assert tool.clean() == []


@pytest.fixture(scope="module")
def image(stored: Pyrkt) -> str:
    """The id of the OCI image."""
    found = json.loads(stored.ok("image", "list", "--format=json"))
    return str(next(record["id"] for record in found if record["kind"] == "oci"))


def test_output_and_exit_code_are_the_apps(stored: Pyrkt, image: str) -> None:
    answer = stored.call("run", image, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (answer.code, answer.out, answer.err) == (7, "out\n", "err\n")


def test_debug_prints_every_step_before_any_is_done(stored: Pyrkt, image: str) -> None:
    for _ in range(2):  # the second time from a record
        answer = stored.call("--debug", "run", image, "--", "sh", "-c", "echo done >&2")
        steps = [line for line in answer.err.splitlines() if line.startswith("debug: ")]
        assert any("pivot_root" in line for line in steps)
        assert any(line.startswith("debug: exec sh -c") for line in steps), steps[-20:]
        assert answer.err.endswith("done\n")


def test_a_signal_is_128_and_its_number(stored: Pyrkt, image: str) -> None:
    assert stored.call("run", image, "--", "sh", "-c", "kill -9 $$").code == 137


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 41), (signal.SIGINT, 42)])
def test_signals_are_passed_on(stored: Pyrkt, image: str, number: int, code: int) -> None:
    script = "trap 'exit 41' TERM; trap 'exit 42' INT; echo ready; while :; do sleep 0.1; done"
    process = stored.popen("run", image, "--", "sh", "-c", script)
    wait_for(process, b"ready")
    process.send_signal(number)
    assert end(process) == code


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        pytest.param(["/no/such"], 127, "/no/such", id="missing"),
        pytest.param(["nosuch"], 127, "nosuch", id="not-in-path"),
        pytest.param(["/etc/plain"], 126, "/etc/plain", id="not-executable"),
    ],
)
def test_a_program_that_cannot_run_is_named(stored: Pyrkt, image: str, words: list[str], code: int, text: str) -> None:
    answer = stored.call("run", image, "--", *words)
    assert answer.code == code
    assert text in answer.err
    assert "hint:" in answer.err
    assert "Traceback" not in answer.err


def test_environment_from_weakest_to_strongest(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("B=file\nC=file\nD=file\n")
    words = ["--inherit-env", f"--set-env-file={tmp_path}/env", "--set-env=C=flag", "--set-env=D=flag", image]
    out = stored.ok(
        "run",
        *words,
        "--environment=D=app",
        "--",
        "env",
        env={**os.environ, "A": "caller", "B": "caller", "PATH": "/caller"},
    )
    found = dict(line.split("=", 1) for line in out.splitlines())
    assert [found[name] for name in "ABCD"] == ["caller", "file", "flag", "app"]
    assert found["PATH"] == "/bin"


def test_nothing_of_the_callers_environment_comes_in_unasked(stored: Pyrkt, image: str) -> None:
    out = stored.ok("run", image, "--", "env", env={**os.environ, "SECRET": "x"})
    assert "SECRET" not in out


def test_user_group_directory_hostname(stored: Pyrkt, image: str) -> None:
    script = "id -u; id -g; id -G; pwd; hostname"
    flags = ["--user=user", "--group=1000", "--supplementary-gids=7,8", "--working-dir=/tmp"]
    out = stored.ok("run", "--hostname=box", image, *flags, "--", "sh", "-c", script)
    assert out.split("\n")[:5] == ["1000", "1000", "1000 7 8", "/tmp", "box"]


def test_the_default_confinement(stored: Pyrkt, image: str) -> None:
    out = stored.ok("run", image, "--", "cat", "/proc/self/status")
    found = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert found["NoNewPrivs"].strip() == "1"
    assert found["Seccomp"].strip() == "2"
    assert found["CapBnd"].strip() == "00000000a80425fb"
    assert found["CapInh"].strip() == found["CapAmb"].strip() == "0" * 16


def test_capabilities_are_what_is_asked(stored: Pyrkt, image: str) -> None:
    out = stored.ok(
        "run", image, "--caps-retain=CAP_KILL,net_bind_service", "--", "grep", "CapBnd", "/proc/self/status"
    )
    assert int(out.split()[1], 16) == 1 << 5 | 1 << 10
    out = stored.ok("run", image, "--caps-remove=CAP_MKNOD", "--", "grep", "CapBnd", "/proc/self/status")
    assert int(out.split()[1], 16) == 0xA80425FB & ~(1 << 27)


def test_insecure_options_switch_filter_and_masks_off(stored: Pyrkt, image: str) -> None:
    loose = Pyrkt(stored.base, insecure="image,seccomp,paths")
    script = "grep Seccomp: /proc/self/status; grep ' /proc/' /proc/mounts; true"
    assert loose.ok("run", image, "--", "sh", "-c", script) == "Seccomp:\t0\n"
    assert " /proc/sys " in stored.ok("run", image, "--", "sh", "-c", script)


def test_a_seccomp_choice_is_obeyed(stored: Pyrkt, image: str) -> None:
    script = "mkdir /tmp/x; echo $?"
    out = stored.call("run", image, "--seccomp=mode=remove,errno=ENOSYS,mkdir,mkdirat", "--", "sh", "-c", script)
    assert out.out.strip() == "1"
    assert "not implemented" in out.err


def test_namespaces_are_its_own(stored: Pyrkt, image: str) -> None:
    script = "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done"
    theirs = stored.ok("run", image, "--", "sh", "-c", script).split()
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup")]
    assert len(theirs) == 6
    assert not set(theirs) & set(ours)


def test_networks(stored: Pyrkt, image: str) -> None:
    assert stored.ok("run", image, "--", "ls", "/sys/class/net").split() == ["lo"]
    found = stored.ok("run", "--net=host", image, "--", "readlink", "/proc/self/ns/net").strip()
    assert found == os.readlink("/proc/self/ns/net")


def test_read_only_root(stored: Pyrkt, image: str) -> None:
    answer = stored.call("run", image, "--readonly-rootfs", "--", "touch", "/x")
    assert answer.code == 1
    assert "Read-only file system" in answer.err


def test_each_run_begins_with_a_clean_root(stored: Pyrkt, image: str) -> None:
    for _ in range(3):  # the third is written from the record of the second
        assert stored.ok("run", image, "--", "sh", "-c", "ls /x 2>/dev/null; touch /x; echo done").split() == ["done"]


def test_limits_as_the_cgroup_has_them(stored: Pyrkt, image: str) -> None:
    flags = ["--memory=64Mi", "--cpu=500m", "--cpu-shares=512", "--pids=33"]
    uuid = stored.detached(image, "--name=limited", *flags, "--", "sleep", "60")
    try:
        found = {Path(path).relative_to("/sys/fs/cgroup").parts[0]: Path(path) for path in cgroups(uuid)}
        if "memory" in found:
            assert (found["memory"] / "memory.limit_in_bytes").read_text().strip() == str(64 << 20)
            assert (found["pids"] / "pids.max").read_text().strip() == "33"
            cpu = found.get("cpu") or found["cpu,cpuacct"]
            assert (cpu / "cpu.cfs_quota_us").read_text().strip() == "50000"
            assert (cpu / "cpu.shares").read_text().strip() == "512"
        else:
            place = next(iter(found.values()))
            assert (place / "memory.max").read_text().strip() == str(64 << 20)
            assert (place / "pids.max").read_text().strip() == "33"
            assert (place / "cpu.max").read_text().split() == ["50000", "100000"]
    finally:
        stored.ok("stop", "--force", uuid)
    assert eventually(lambda: not cgroups(uuid))


def test_the_memory_limit_binds(stored: Pyrkt, image: str) -> None:
    hog = "x=a; while :; do x=$x$x$x$x; done"
    assert stored.call("run", image, "--memory=16Mi", "--", "sh", "-c", hog).code == 137


def test_the_pids_limit_binds(stored: Pyrkt, image: str) -> None:
    answer = stored.call(
        "run", image, "--pids=5", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    )
    assert "fork" in answer.err


def test_volumes(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("hello")
    volumes = [f"--volume=v,kind=host,source={tmp_path}", f"--volume=w,kind=host,source={tmp_path},readOnly=true"]
    script = "cat /deep/v/seen; echo new > /deep/v/made; echo no > /w/never"
    answer = stored.call(
        "run",
        *volumes,
        image,
        "--mount=volume=v,target=/deep/v",
        "--mount=volume=w,target=/w",
        "--",
        "sh",
        "-c",
        script,
    )
    assert answer.code != 0
    assert answer.out == "hello"
    assert "Read-only file system" in answer.err
    assert (tmp_path / "made").read_text() == "new\n"
    assert not (tmp_path / "never").exists()


def test_an_empty_volume_has_its_mode_and_owner_and_two_apps_share_it(stored: Pyrkt, image: str) -> None:
    write = "echo $(stat -c '%a %u' /v) > /v/one; while ! test -e /v/two; do sleep 0.05; done"
    read = "while ! test -e /v/one; do sleep 0.05; done; cat /v/one; touch /v/two"
    words = ["--volume=v,kind=empty,mode=0751,uid=5", "--mount=volume=v,target=/v"]
    out = stored.ok(
        "run", *words, image, "--name=a", "--", "sh", "-c", write, "---", image, "--name=b", "--", "sh", "-c", read
    )
    assert out.split() == ["751", "5"]


@pytest.mark.parametrize("source", ["/no/such/directory", "link"])
def test_a_source_that_is_missing_or_linked_is_refused(stored: Pyrkt, image: str, tmp_path: Path, source: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    path = source if source.startswith("/") else str(tmp_path / source)
    answer = stored.call("run", f"--volume=v,kind=host,source={path}", image, "--mount=volume=v,target=/v")
    assert answer.code in {64, 66}
    assert path in answer.err
    assert not Path("/no/such").exists()


def test_apps_of_a_pod_share_names_and_processes_but_not_files(stored: Pyrkt, image: str) -> None:
    see = "touch /only-a; sleep 0.3; ls -d /only-*; for n in uts pid mnt; do readlink /proc/self/ns/$n; done"
    other = "touch /only-b; " + see.removeprefix("touch /only-a; ")
    out = stored.ok("run", image, "--name=a", "--", "sh", "-c", see, "---", image, "--name=b", "--", "sh", "-c", other)
    lines = out.split()
    assert sorted(line for line in lines if line.startswith("/only")) == ["/only-a", "/only-b"]
    assert len({line for line in lines if line.startswith("uts")}) == 1
    assert len({line for line in lines if line.startswith("pid")}) == 1
    assert len({line for line in lines if line.startswith("mnt")}) == 2


def test_a_failing_app_ends_the_pod_and_a_finishing_one_does_not(stored: Pyrkt, image: str) -> None:
    quick, slow = ["--", "true", "---"], ["--", "sh", "-c", "sleep 0.3; echo still here"]
    assert stored.ok("run", image, "--name=a", *quick, image, "--name=b", *slow) == "still here\n"
    failing = ["--", "sh", "-c", "sleep 0.2; exit 5", "---"]
    answer = stored.call("run", image, "--name=a", *failing, image, "--name=b", "--", "sleep", "30")
    assert answer.code == 5


def test_an_aci_runs_with_what_appc_promises(stored: Pyrkt) -> None:
    out = stored.ok("run", "example.com/box", "--", "-c", "echo $AC_APP_NAME $container; pwd")
    assert out == "box pyrkt\n/\n"


def test_the_bundle_of_a_pod(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    uuid_file = tmp_path / "uuid"
    stored.ok("run", f"--uuid-file-save={uuid_file}", image, "--name=one", "--", "true")
    uuid = uuid_file.read_text().strip()
    home = stored.directory(uuid) / "apps/one"
    config = json.loads((home / "config.json").read_text())
    assert config["hostname"] == f"pyrkt-{uuid}"
    assert config["process"]["args"] == ["true"]
    assert json.loads((home / "runtime.json").read_text())["linux"]["namespaces"]
    assert (home / "rootfs").is_dir()
    assert not any((home / "rootfs").iterdir()), "the overlay belongs to the container alone"
    assert stat.S_IMODE(stored.directory(uuid).stat().st_mode) == 0o700


def test_a_copied_tree_instead_of_an_overlay(stored: Pyrkt, image: str) -> None:
    out = stored.ok("run", "--no-overlay", image, "--", "sh", "-c", "touch /x && head -n 1 /proc/mounts")
    assert "overlay" not in out


def test_a_user_namespace(stored: Pyrkt, image: str) -> None:
    out = stored.ok(
        "run",
        "--private-users",
        image,
        "--",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; stat -c %u /etc/passwd; touch /x",
    )
    identity, mapping, owner = out.splitlines()[:3]
    assert identity == owner == "0"
    inside, outside, size = mapping.split()
    assert (inside, size) == ("0", "65536")
    assert int(outside) > 65535


def test_two_apps_in_a_user_namespace_with_limits(stored: Pyrkt, image: str) -> None:
    one = [image, "--name=a", "--pids=9", "--", "sh", "-c", "echo $(id -u) $(wc -l < /proc/self/uid_map)", "---"]
    out = stored.ok("run", "--private-users", *one, image, "--name=b", "--", "id", "-u")
    assert sorted(out.splitlines()) == ["0", "0 1"]


def test_a_device_of_the_host(stored: Pyrkt, image: str) -> None:
    # A node may be made (CAP_MKNOD is a default), but the cgroup does not let it be opened.
    answer = stored.call("run", image, "--", "sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg")
    assert answer.code == 1
    assert "/tmp/kmsg: Operation not permitted" in answer.err
    out = stored.ok(
        "run", image, "--device=/dev/zero:/dev/nothing:r", "--", "sh", "-c", "head -c 1 /dev/nothing | wc -c"
    )
    assert out.strip() == "1"


def read_until(master: int, text: bytes, seconds: float = 20.0) -> bytes:
    """Read from a terminal until ``text`` came."""
    read = b""
    while text not in read:
        ready, _, _ = select.select([master], [], [], seconds)
        assert ready, read
        read += os.read(master, 4096)
    return read


def test_interactive_is_a_terminal(stored: Pyrkt, image: str) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        stored.argv("run", "--interactive", image, "--", "sh"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        os.write(master, b"tty; test -t 0 && test -t 1 && echo is-a-t''ty; exit 3\n")
        read = read_until(master, b"is-a-tty")
        assert b"/dev/" in read
        assert end(process) == 3
    finally:
        os.close(master)


def test_interactive_without_a_terminal_is_refused(stored: Pyrkt, image: str) -> None:
    answer = stored.call("run", "--interactive", image)
    assert answer.code == 2
    assert "needs a terminal" in answer.err


def test_pull_policy_never_takes_what_is_stored_only(stored: Pyrkt) -> None:
    answer = stored.call("run", "--pull-policy=never", "docker://registry.test/none")
    assert answer.code == 66
    assert "not in the store" in answer.err


def test_nothing_of_a_pod_that_cannot_be_made_stays(stored: Pyrkt, image: str) -> None:
    before = {pod["name"] for pod in stored.pods()}
    answer = stored.call("run", image, "--user=nobody-here", "--", "true")
    assert answer.code == 64
    assert {pod["name"] for pod in stored.pods()} == before


def test_two_apps_of_one_name_are_refused(stored: Pyrkt, image: str) -> None:
    answer = stored.call("run", image, image)
    assert answer.code == 2
    assert "--name=" in answer.err


HOT = {  # what may be loaded between the interpreter's own start and stage1, beside modules of ours
    "__future__", "_blake2", "_json", "_sha256", "_sha512", "errno", "fcntl", "time",
    "os", "posixpath", "genericpath", "stat", "_stat", "_collections_abc", "abc", "_abc",
}  # fmt: skip
OURS = {"base", "cli", "kernel", "metadata", "pod", "stage1", "tpm"}


def imported(tool: Pyrkt, *words: str) -> set[str]:
    """The modules that a command imports, the interpreter's own apart."""
    python, *rest = tool.argv(*words)
    done = subprocess.run([python, "-X", "importtime", *rest], capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [python, "-X", "importtime", "-I", "-S", "-c", ""], capture_output=True, text=True, check=True
    )
    names = [
        {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}
        for text in (done.stderr, bare.stderr)
    ]
    return names[0] - names[1] - {"imported package"}


def test_a_pod_that_was_run_before_starts_without_images_compiler_and_click(stored: Pyrkt, image: str) -> None:
    words = ["run", "--hostname=hot", image, "--", "true"]
    stored.ok(*words)  # leaves the record
    found = imported(stored, *words)
    assert {name.split(".")[1] for name in found if name.startswith("pyrkt.")} == OURS
    assert {name for name in found if not name.startswith("pyrkt")} <= HOT


def test_a_prepared_pod_starts_with_even_less(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--", "true").strip()
    found = imported(stored, "run-prepared", uuid)
    assert {name for name in found if not name.startswith("pyrkt")} <= HOT - {"_blake2"}
    assert not found & {"pyrkt.pod.replay", "pyrkt.cli.asking", "pyrkt.pod.ask"}
