"""From an ACI and options to a container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.bundle import defaults, from_appc, handlers
from pyrkt.bundle.options import RunOptions, VolumeMount
from pyrkt.spec.appc import EventHandler, ImageManifest, Isolator, MountPoint
from pyrkt.spec.runtime import Config, Hook, User
from tests.unit.bundle.support import appc, environment, linux, make_rootfs, mount, process, resources

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.store.rootfs import Rootfs


@pytest.fixture(name="rootfs", scope="module")
def _rootfs(tmp_path_factory: pytest.TempPathFactory) -> Rootfs:
    return make_rootfs(tmp_path_factory.mktemp("rootfs"))


def configure(rootfs: Rootfs, app: dict[str, Any] | None = None, **options: Any) -> Config:
    made = from_appc.configure(appc(**(app or {})), rootfs, RunOptions(**options))
    assert Config.parse(Reader(made.dump(), "config.json")) == made
    return made


@pytest.mark.parametrize(
    ("app", "options", "args"),
    [
        pytest.param({"exec": ("/bin/tool", "-a")}, {}, ("/bin/tool", "-a"), id="image"),
        pytest.param({"exec": ("tool", "-a")}, {"args": ("-b",)}, ("tool", "-a", "-b"), id="args-are-appended"),
        pytest.param({"exec": ("tool", "-a")}, {"exec": "/x"}, ("/x",), id="exec-replaces"),
        pytest.param({"exec": ()}, {"exec": "/x", "args": ("y",)}, ("/x", "y"), id="exec-alone"),
    ],
)
def test_args(rootfs: Rootfs, app: dict[str, Any], options: dict[str, Any], args: tuple[str, ...]) -> None:
    assert process(configure(rootfs, app, **options)).args == args


def test_refuses_to_guess_a_program(rootfs: Rootfs) -> None:
    with pytest.raises(UsageError, match="the image names no program"):
        configure(rootfs, {"exec": ()})


def test_an_image_without_app_runs_what_the_user_says(rootfs: Rootfs) -> None:
    made = from_appc.configure(ImageManifest(name="a"), rootfs, RunOptions(exec="/bin/tool"))
    assert process(made).args == ("/bin/tool",)
    assert process(made).user == User()


@pytest.mark.parametrize(
    ("app", "options", "user"),
    [
        pytest.param({"user": "web", "group": "adm"}, {}, User(uid=33, gid=44), id="names"),
        pytest.param({"user": "1234", "group": "1234"}, {}, User(uid=77, gid=79), id="names-before-numbers"),
        pytest.param({"user": "5", "group": "6"}, {}, User(uid=5, gid=6), id="numbers"),
        pytest.param({"supplementary_gids": (1, 2)}, {}, User(additional_gids=(1, 2)), id="supplementary"),
        pytest.param(
            {"supplementary_gids": (1,)}, {"supplementary_gids": (3,)}, User(additional_gids=(3,)), id="replaced"
        ),
        pytest.param({"user": "web"}, {"user": "9", "group": "staff"}, User(uid=9, gid=50), id="user-says"),
    ],
)
def test_user(rootfs: Rootfs, app: dict[str, Any], options: dict[str, Any], user: User) -> None:
    assert process(configure(rootfs, app, **options)).user == user


def test_user_by_the_owner_of_a_file(tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path)
    status = (tmp_path / "bin/tool").stat()
    made = configure(rootfs, {"user": "/bin/tool", "group": "/bin/tool"})
    assert process(made).user == User(uid=status.st_uid, gid=status.st_gid)


def test_environment_of_the_specification(rootfs: Rootfs) -> None:
    assert environment(configure(rootfs)) == {
        "PATH": defaults.PATH,
        "SHELL": "/bin/sh",
        "USER": "root",
        "LOGNAME": "root",
        "HOME": "/root",
        "AC_APP_NAME": "the-app",
        "container": "pyrkt",
    }
    web = environment(configure(rootfs, {"user": "web"}, name="other", interactive=True))
    assert (web["USER"], web["HOME"], web["AC_APP_NAME"], web["TERM"]) == ("web", "/srv/www", "other", "xterm")
    unknown = environment(configure(rootfs, {"user": "5000"}))
    assert (unknown["USER"], unknown["HOME"]) == ("5000", "/")


def test_environment_by_weight(rootfs: Rootfs) -> None:
    found = environment(
        configure(
            rootfs,
            {"environment": {"A": "image", "B": "image", "C": "image", "AC_APP_NAME": "x"}},
            inherit_env={"A": "parent", "D": "parent", "PATH": "/parent"},
            set_env={"B": "set", "C": "set", "container": "x"},
            env={"C": "app", "AC_METADATA_URL": "x"},
            metadata_url="http://127.1.2.3:4/5",
        )
    )
    assert [found[name] for name in ("A", "B", "C", "D", "PATH")] == ["image", "set", "app", "parent", "/parent"]
    assert (found["AC_APP_NAME"], found["container"]) == ("the-app", "pyrkt")
    assert found["AC_METADATA_URL"] == "http://127.1.2.3:4/5"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("example.com/a", {}, "a"),
        ("a.b_c", {}, "a-b-c"),
        ("example.com/a", {"name": "mine"}, "mine"),
    ],
)
def test_app_name(name: str, options: dict[str, Any], expected: str) -> None:
    assert from_appc.app_name(ImageManifest(name=name), RunOptions(**options)) == expected


def test_the_working_directory_must_exist(rootfs: Rootfs) -> None:
    assert process(configure(rootfs, {"working_directory": "/work"})).cwd == "/work"
    assert process(configure(rootfs, {"working_directory": "/none"}, working_dir="/work")).cwd == "/work"
    with pytest.raises(NotFound, match="the image has no working directory '/none'"):
        configure(rootfs, {"working_directory": "/none"})
    with pytest.raises(NotFound):
        configure(rootfs, {"working_directory": "/etc/passwd"})
    volume = VolumeMount(target="/vol", source="/s")
    assert process(configure(rootfs, {"working_directory": "/vol/x"}, mounts=(volume,))).cwd == "/vol/x"


def test_mount_points(rootfs: Rootfs) -> None:
    points = (MountPoint(name="db", path="/db"), MountPoint(name="logs", path="/logs", read_only=True))
    wanted = (VolumeMount(name="db", source="/srv/db"),)
    made = from_appc.compose(appc(mount_points=points), rootfs, RunOptions(mounts=wanted))
    assert mount(made.config, "/db").source == "/srv/db"
    assert mount(made.config, "/logs").source == "volumes/0-logs"
    assert "ro" in mount(made.config, "/logs").options
    assert [each.path for each in made.volumes] == ["volumes/0-logs"]


def test_isolators_are_enforced_and_reported(rootfs: Rootfs) -> None:
    app = {
        "isolators": (
            Isolator(name="resource/memory", value={"limit": "64Mi"}),
            Isolator(name="os/linux/capabilities-retain-set", value={"set": ["CAP_KILL"]}),
            Isolator(name="os/linux/no-new-privileges", value=False),
            Isolator(name="os/linux/oom-score-adj", value=5),
            Isolator(name="os/linux/apparmor-profile", value={"profile": "p"}),
            Isolator(name="example.com/magic", value=1),
        )
    }
    made = from_appc.compose(appc(**app), rootfs, RunOptions())
    assert resources(made.config).dump()["memory"] == {"limit": 64 << 20}
    held = process(made.config).capabilities
    assert held is not None
    assert held.bounding == held.effective == held.permitted == ("CAP_KILL",)
    assert (held.inheritable, held.ambient) == ((), ())
    assert process(made.config).no_new_privileges is False
    assert process(made.config).oom_score_adj == 5
    assert process(made.config).apparmor_profile == "p"
    assert [(report.name, report.verdict) for report in made.reports] == [
        ("resource/memory", "enforced"),
        ("os/linux/capabilities-retain-set", "enforced"),
        ("os/linux/no-new-privileges", "enforced"),
        ("os/linux/oom-score-adj", "enforced"),
        ("os/linux/apparmor-profile", "enforced"),
        ("example.com/magic", "ignored"),
    ]


def test_kernel_settings_of_the_pod(rootfs: Rootfs) -> None:
    pod = (Isolator(name="os/unix/sysctl", value={"net.ipv4.ip_forward": "1"}),)
    made = from_appc.compose(appc(), rootfs, RunOptions(pod_isolators=pod))
    assert linux(made.config).sysctl == {"net.ipv4.ip_forward": "1"}
    with pytest.raises(InvalidSpec):
        from_appc.compose(appc(), rootfs, RunOptions(net="host", pod_isolators=pod))


def test_event_handlers(rootfs: Rootfs) -> None:
    both = (
        EventHandler(name="pre-start", exec=("tool", "before")),
        EventHandler(name="post-stop", exec=("/bin/tool", "after")),
    )
    manifest = appc(event_handlers=both, user="web", group="www")
    made = from_appc.compose(manifest, rootfs, RunOptions())
    assert made.config.hooks is not None
    hook = Hook(path="/bin/tool", args=("tool", "before"), env=process(made.config).env)
    assert made.config.hooks.start_container == (hook,)
    assert "container=pyrkt" in hook.env
    assert made.pre_start == ("tool", "before")
    assert made.post_stop == ("/bin/tool", "after")
    for words in (made.pre_start, made.post_stop):
        alone = handlers.container(made.config, words)
        assert process(alone) == process(made.config).replace(args=words, user=User())
        assert alone.hooks is None
    assert handlers.without(made.config) == made.config.replace(hooks=None)
    with pytest.raises(InvalidSpec):
        handlers.container(made.config.replace(process=None), ("x",))
    none = from_appc.compose(appc(), rootfs, RunOptions())
    assert (none.pre_start, none.post_stop) == ((), ())


@pytest.mark.parametrize("program", ["none", "/bin/none", "/bin/text", "text", "/bin", "../bin/tool"])
def test_event_handlers_must_be_programs_of_the_image(rootfs: Rootfs, program: str) -> None:
    with pytest.raises(InvalidSpec, match="the image has no program"):
        configure(rootfs, {"event_handlers": (EventHandler(name="pre-start", exec=(program,)),)})
