"""What the words of a flag mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.base.errors import PyrktError, UsageError
from pyrkt.cli import asking, flags
from pyrkt.cli.grammar import parse
from pyrkt.pod.ask import App, Device, IoLimit, Mount, PodAsk, Volume


def ask(*words: str, environ: dict[str, str] | None = None) -> PodAsk:
    return asking.pod(parse(words, flags.RUN), frozenset(), environ or {})


def app(*words: str) -> App:
    return ask("a", *words).apps[0]


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        pytest.param(["--memory", "64M"], "memory", 64_000_000, id="decimal"),
        pytest.param(["--memory", "64Mi"], "memory", 64 << 20, id="binary"),
        pytest.param(["--cpu", "750m"], "cpu", 750, id="milli-cores"),
        pytest.param(["--cpu", "1.5"], "cpu", 1500, id="cores"),
        pytest.param(["--cpu-shares", "512"], "cpu_shares", 512, id="shares"),
        pytest.param(["--pids", "20"], "pids", 20, id="pids"),
        pytest.param(["--oom-score-adj", "-50"], "oom_score_adj", -50, id="oom"),
        pytest.param(["--oom-score-adj", "0"], "oom_score_adj", 0, id="oom-zero-is-not-unset"),
        pytest.param(["--caps-retain", "net_admin,CAP_KILL"], "caps_retain", ("CAP_NET_ADMIN", "CAP_KILL"), id="caps"),
        pytest.param(["--caps-retain", ""], "caps_retain", (), id="no-caps-at-all"),
        pytest.param([], "caps_retain", None, id="caps-not-asked"),
        pytest.param(
            ["--supplementary-gids", "1,2", "--supplementary-gids=3"], "supplementary_gids", (1, 2, 3), id="gids"
        ),
        pytest.param(
            ["--device", "/dev/fuse"], "devices", (Device(path="/dev/fuse", target="/dev/fuse"),), id="device"
        ),
        pytest.param(
            ["--device", "/dev/a:/dev/b:r"],
            "devices",
            (Device(path="/dev/a", target="/dev/b", access="r"),),
            id="device-all",
        ),
        pytest.param(
            ["--io", "/dev/sda:rbps=1M,wiops=5"], "io", (IoLimit(path="/dev/sda", rbps=1_000_000, wiops=5),), id="io"
        ),
        pytest.param(
            ["--environment", "A=1", "--environment", "A=2"], "environment", ("A=2",), id="last-variable-wins"
        ),
        pytest.param(["--annotation", "k=v=w"], "annotations", (("k", "v=w"),), id="annotation"),
    ],
)
def test_app_flags(words: list[str], field: str, value: object) -> None:
    assert getattr(app(*words), field) == value


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param(["a", "--memory", "16m"], "m is a thousandth", id="milli-bytes"),
        pytest.param(["a", "--memory", "lots"], "not a quantity", id="no-number"),
        pytest.param(["a", "--memory", "0"], "nothing at all", id="zero-memory"),
        pytest.param(["a", "--pids", "0"], "between 1 and", id="zero-pids"),
        pytest.param(["a", "--pids", "1_0"], "between 1 and", id="underscore"),
        pytest.param(["a", "--cpu-shares", "1"], "between 2 and", id="shares-low"),
        pytest.param(["a", "--working-dir", "x"], "not absolute", id="relative-dir"),
        pytest.param(["a", "--name", "Up"], "no name of an app", id="app-name"),
        pytest.param(["a", "--name", "x", "b", "--name", "x"], "two of the apps", id="same-app-twice"),
        pytest.param(["a", "--environment", "X"], "not NAME=VALUE", id="no-equals"),
        pytest.param(["a", "--device", "fuse"], "cannot be read", id="relative-device"),
        pytest.param(["a", "--device", "/dev/fuse:q"], "cannot be read", id="device-access"),
        pytest.param(["a", "--io", "/dev/sda:speed=1"], "none of rbps=", id="io-key"),
        pytest.param(["a", "--mount", "volume=v,target=/x"], "no --volume describes", id="unknown-volume"),
        pytest.param(["--volume", "v,kind=host,source=x", "a"], "not absolute", id="relative-source"),
        pytest.param(["--volume", "v,kind=host", "a"], "needs a source", id="no-source"),
        pytest.param(["--volume", "v,kind=empty,source=/x", "a"], "is not for kind=empty", id="empty-with-source"),
        pytest.param(["--volume", "v,kind=cloud", "a"], "neither host nor empty", id="kind"),
        pytest.param(["--volume", "v,kind=empty,mode=0999", "a"], "not an octal mode", id="mode"),
        pytest.param(["--volume", "v,kind=host,source=/x,readOnly=1", "a"], "neither true nor false", id="read-only"),
        pytest.param(
            ["--volume", "v,kind=empty", "--volume", "v,kind=empty", "a"], "two of the volumes", id="same-volume"
        ),
        pytest.param(["--net=br&", "a"], "names no network", id="net"),
        pytest.param(["--net=host", "--net=none", "a"], "exclude all others", id="two-nets"),
        pytest.param(["--hostname", "-x", "a"], "no host name", id="hostname"),
        pytest.param(["--interactive", "a", "b"], "one app only", id="interactive"),
        pytest.param(["--interactive", "-d", "a"], "terminal", id="interactive-detached"),
        pytest.param([], "at least one image", id="no-image"),
        pytest.param(["--ipc=host", "a"], "none of auto, private, parent", id="ipc"),
        pytest.param(["a", "--annotation", "A B=c"], "is no AC Identifier", id="annotation-name"),
        pytest.param(["--set-env", "=x", "a"], "not NAME=VALUE", id="no-name"),
        pytest.param(["--exec", "x", "a"], "must follow an image", id="app-flag-first"),
        pytest.param(["a", "--exec", "x", "--exec", "y"], "multiple times for the same image", id="app-flag-twice"),
        pytest.param(["--", "x"], "an image is required before any app arguments", id="arguments-first"),
    ],
)
def test_refuses_and_says_why(words: list[str], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(*words)
    assert problem in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


def test_volumes() -> None:
    found = ask(
        "--volume", "v,kind=host,source=/s,readOnly=true", "--volume", "w,kind=empty,mode=1777,uid=5", "a"
    ).volumes
    assert found == (
        Volume(name="v", kind="host", source="/s", read_only=True),
        Volume(name="w", kind="empty", mode=0o1777, uid=5),
    )


def test_a_comma_in_a_path_is_written_with_a_backslash() -> None:
    found = ask("--volume", r"v,kind=host,source=/a\,b: c,readOnly=false", "a", "--mount", r"volume=v,target=x\,y")
    assert found.volumes == (Volume(name="v", kind="host", source="/a,b: c", read_only=False),)
    assert found.apps[0].mounts == (Mount(volume="v", target="/x,y"),)
    with pytest.raises(UsageError, match="'b' is none of"):
        ask("--volume", "v,kind=host,source=/a,b", "a")


@pytest.mark.parametrize(
    ("words", "ipc"),
    [([], "private"), (["--ipc=auto"], "private"), (["--ipc=private"], "private"), (["--ipc=parent"], "host")],
)
def test_ipc(words: list[str], ipc: str) -> None:
    assert ask(*words, "a").ipc == ipc


def test_the_metadata_service_is_there_whatever_is_said() -> None:
    assert ask("--mds-register=false", "a") == ask("--mds-register", "a") == ask("a")


def test_strict_is_the_configurations_unless_a_flag_says_it() -> None:
    def strict(*words: str) -> bool:
        return asking.pod(parse([*words, "a"], flags.RUN), frozenset(), {}, strict=True).strict

    assert strict()
    assert not strict("--strict=false")
    assert ask("--strict", "a").strict
    assert not ask("a").strict


def test_a_mount_before_the_images_is_for_all_of_them() -> None:
    mounts = ["--mount", "volume=v,target=/x"]
    found = ask("--volume", "v,kind=empty", *mounts, "a", "b", "--mount", "volume=v,target=/y").apps
    assert [item.mounts for item in found] == [
        (Mount(volume="v", target="/x"),),
        (Mount(volume="v", target="/x"), Mount(volume="v", target="/y")),
    ]


def test_set_env_beats_the_file_and_comments_are_none(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# no\n; no\n\nA=file\nB=file\n")
    found = ask("--set-env-file", str(tmp_path / "env"), "--set-env", "A=flag", "a")
    assert sorted(found.env) == ["A=flag", "B=file"]


def test_a_missing_env_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PyrktError, match="no such file") as caught:
        ask("--set-env-file", str(tmp_path / "none"), "a")
    assert caught.value.exit_code == 66


def test_the_environment_is_inherited_only_when_asked() -> None:
    assert ask("a", environ={"X": "1"}).inherited == ()
    assert ask("--inherit-env", "a", environ={"X": "1"}).inherited == ("X=1",)


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        pytest.param([], "new", id="default"),
        pytest.param(["--pull-policy=never"], "never", id="never"),
        pytest.param(["--store-only"], "never", id="store-only"),
        pytest.param(["--no-store"], "update", id="no-store"),
    ],
)
def test_pull_policy(words: list[str], policy: str) -> None:
    line = parse([*words, "a"], flags.FETCH, app_args=False)
    assert asking.pull(line, frozenset(), "new").policy == policy
