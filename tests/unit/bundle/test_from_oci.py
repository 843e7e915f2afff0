"""From an OCI image and options to a container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.base.reader import Reader
from pyrkt.bundle import defaults, from_oci
from pyrkt.bundle.options import DeviceNode, IdRange, RunOptions, VolumeMount
from pyrkt.bundle.volumes import OwnVolume
from pyrkt.spec.image import Platform
from pyrkt.spec.runtime import Capabilities, Config, Device, IdMapping, Namespace, User
from tests.unit.bundle.support import environment, linux, make_rootfs, mount, oci, process, resources

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.store.rootfs import Rootfs


@pytest.fixture(name="rootfs", scope="module")
def _rootfs(tmp_path_factory: pytest.TempPathFactory) -> Rootfs:
    return make_rootfs(tmp_path_factory.mktemp("rootfs"))


def configure(rootfs: Rootfs, image: dict[str, Any] | None = None, **options: Any) -> Config:
    made = from_oci.configure(oci(**(image or {})), rootfs, RunOptions(**options))
    assert Config.parse(Reader(made.dump(), "config.json")) == made
    return made


@pytest.mark.parametrize(
    ("image", "options", "args"),
    [
        pytest.param({}, {}, ("/bin/tool",), id="entrypoint"),
        pytest.param({"cmd": ("-a",)}, {}, ("/bin/tool", "-a"), id="entrypoint-and-cmd"),
        pytest.param({"entrypoint": (), "cmd": ("sh", "-c")}, {}, ("sh", "-c"), id="cmd"),
        pytest.param({"cmd": ("-a",)}, {"args": ("-b", "c")}, ("/bin/tool", "-b", "c"), id="args-replace-cmd"),
        pytest.param({"cmd": ("-a",)}, {"args": ()}, ("/bin/tool",), id="no-args-replace-cmd"),
        pytest.param({"cmd": ("-a",)}, {"exec": "/x"}, ("/x",), id="exec-clears-both"),
        pytest.param({"cmd": ("-a",)}, {"exec": "/x", "args": ("y",)}, ("/x", "y"), id="exec-with-args"),
        pytest.param({"entrypoint": ()}, {"args": ("sh",)}, ("sh",), id="args-alone"),
    ],
)
def test_args(rootfs: Rootfs, image: dict[str, Any], options: dict[str, Any], args: tuple[str, ...]) -> None:
    assert process(configure(rootfs, image, **options)).args == args


@pytest.mark.parametrize("image", [{"entrypoint": ()}, {"entrypoint": ("",)}], ids=["none", "empty"])
def test_refuses_to_guess_a_program(rootfs: Rootfs, image: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the image names no program") as caught:
        configure(rootfs, image)
    assert "--exec" in caught.value.hint


@pytest.mark.parametrize(
    ("image", "options", "user"),
    [
        pytest.param("", {}, User(), id="root"),
        pytest.param("web", {}, User(uid=33, gid=34, additional_gids=(44, 50)), id="name"),
        pytest.param("web:adm", {}, User(uid=33, gid=44), id="name-and-group"),
        pytest.param("1000:1001", {}, User(uid=1000, gid=1001), id="numbers"),
        pytest.param("web:adm", {"user": "0"}, User(), id="users-user-drops-the-images-group"),
        pytest.param("web:adm", {"user": "5", "group": "staff"}, User(uid=5, gid=50), id="both-replaced"),
        pytest.param("web:adm", {"group": "7"}, User(uid=33, gid=7), id="group-replaced"),
        pytest.param("", {"group": "7"}, User(uid=0, gid=7), id="group-alone"),
        pytest.param(
            "web", {"supplementary_gids": (9,)}, User(uid=33, gid=34, additional_gids=(9,)), id="groups-replaced"
        ),
        pytest.param("web", {"supplementary_gids": ()}, User(uid=33, gid=34), id="groups-dropped"),
    ],
)
def test_user(rootfs: Rootfs, image: str, options: dict[str, Any], user: User) -> None:
    assert process(configure(rootfs, {"user": image}, **options)).user == user


def test_an_unknown_user_is_an_error(rootfs: Rootfs) -> None:
    with pytest.raises(InvalidSpec, match="user 'nobody' does not exist"):
        configure(rootfs, {"user": "nobody"})


def test_environment_by_weight(rootfs: Rootfs) -> None:
    image = {"env": ("A=image", "B=image", "C=image", "D=image", "PATH=/image", "MULTI=a=b\nc")}
    found = environment(
        configure(
            rootfs,
            image,
            inherit_env={"A": "parent", "Z": "parent"},
            set_env={"B": "set", "C": "set"},
            env={"C": "app"},
        )
    )
    assert found == {
        "PATH": "/image",
        "HOME": "/root",
        "A": "image",
        "B": "set",
        "C": "app",
        "D": "image",
        "MULTI": "a=b\nc",
        "Z": "parent",
    }


@pytest.mark.parametrize(
    ("user", "options", "expected"),
    [
        pytest.param("", {}, {"PATH": defaults.PATH, "HOME": "/root"}, id="root"),
        pytest.param("web", {}, {"PATH": defaults.PATH, "HOME": "/srv/www"}, id="user"),
        pytest.param("5000", {}, {"PATH": defaults.PATH, "HOME": "/"}, id="unknown"),
        pytest.param(
            "", {"interactive": True}, {"PATH": defaults.PATH, "HOME": "/root", "TERM": "xterm"}, id="terminal"
        ),
    ],
)
def test_environment_defaults(rootfs: Rootfs, user: str, options: dict[str, Any], expected: dict[str, str]) -> None:
    made = configure(rootfs, {"user": user}, **options)
    assert environment(made) == expected
    assert process(made).terminal is options.get("interactive", False)


def test_environment_of_an_app_in_a_pod(rootfs: Rootfs) -> None:
    own = {"AC_APP_NAME": "web", "AC_METADATA_URL": "http://127.1.2.3:4/5", "container": "pyrkt"}
    image = {"env": tuple(f"{name}=x" for name in own)}
    asked = {"name": "web", "metadata_url": own["AC_METADATA_URL"], "env": dict.fromkeys(own, "y")}
    inside = environment(configure(rootfs, image, pod_uuid="u-1", **asked))
    assert {name: inside[name] for name in own} == own
    assert set(environment(configure(rootfs, image, **asked)).values()) >= {"y"}


@pytest.mark.parametrize(
    ("image", "options", "cwd"),
    [({}, {}, "/"), ({"working_dir": "/w"}, {}, "/w"), ({"working_dir": "/w"}, {"working_dir": "/o"}, "/o")],
    ids=["default", "image", "user"],
)
def test_working_directory(rootfs: Rootfs, image: dict[str, Any], options: dict[str, Any], cwd: str) -> None:
    assert process(configure(rootfs, image, **options)).cwd == cwd


def test_annotations_of_the_conversion(rootfs: Rootfs) -> None:
    made = configure(
        rootfs,
        {
            "platform": Platform(os="linux", architecture="arm64", variant="v8"),
            "os_version": "5",
            "author": "A",
            "created": "2015-10-31T22:22:56Z",
            "stop_signal": "SIGQUIT",
            "exposed_ports": ("80/tcp", "53/udp"),
            "labels": {"org.opencontainers.image.author": "B", "com.example.x": "1"},
        },
        annotations={"com.example.x": "2", "run.oci.handler": "mine"},
    )
    prefix = "org.opencontainers.image."
    assert made.annotations == {
        f"{prefix}os": "linux",
        f"{prefix}architecture": "arm64",
        f"{prefix}variant": "v8",
        f"{prefix}os.version": "5",
        f"{prefix}author": "B",
        f"{prefix}created": "2015-10-31T22:22:56Z",
        f"{prefix}stopSignal": "SIGQUIT",
        f"{prefix}exposedPorts": "80/tcp,53/udp",
        "com.example.x": "2",
        "run.oci.handler": "mine",
    }


@pytest.mark.parametrize(
    "label",
    [
        "run.oci.keep_original_groups",
        "Run.OCI.hooks.stdout",
        "org.systemd.property.ExecStartPre",
        "io.kubernetes.cri.sandbox-id",
        "io.podman.annotations.privileged",
        "io.katacontainers.config.hypervisor.path",
        "org.criu.config",
        "pyrkt.anything",
        "",
    ],
)
def test_labels_of_an_image_give_no_orders(rootfs: Rootfs, label: str) -> None:
    image = oci(labels={label: "x", "com.example": "y", "module.wasm.image/variant": "compat"})
    made = from_oci.compose(image, rootfs, RunOptions())
    assert label not in made.config.annotations
    assert made.config.annotations["com.example"] == "y"
    assert "and others gives no orders" in made.warnings[0]
    assert "gives no orders" in from_oci.compose(oci(labels={label: "x"}), rootfs, RunOptions()).warnings[0]


def test_confined_by_default(rootfs: Rootfs) -> None:
    made = configure(rootfs)
    assert made.root is not None
    assert (made.root.path, made.root.readonly) == ("rootfs", False)
    assert made.hostname == "pyrkt"
    assert process(made).no_new_privileges is True
    held = defaults.CAPABILITIES
    assert process(made).capabilities == Capabilities(bounding=held, effective=held, permitted=held)
    half = linux(made)
    assert [each.type for each in half.namespaces] == ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    assert half.masked_paths == defaults.MASKED_PATHS
    assert half.readonly_paths == defaults.READONLY_PATHS
    assert half.seccomp is not None
    assert resources(made).devices[0].allow is False
    assert "/proc/kcore" in half.masked_paths
    assert "/proc/sys" in half.readonly_paths
    assert [each.destination for each in made.mounts] == [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
        "/dev/console",
        "/etc/hosts",
    ]
    for target in ("/sys", "/sys/fs/cgroup", "/etc/hosts"):
        assert "ro" in mount(made, target).options
    for target in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"):
        assert "nosuid" in mount(made, target).options


def test_insecure_options_open_one_thing_each(rootfs: Rootfs) -> None:
    paths = configure(rootfs, insecure=frozenset({"paths"}))
    assert (linux(paths).masked_paths, linux(paths).readonly_paths) == ((), ())
    assert [rule.allow for rule in resources(paths).devices] == [True]
    assert linux(paths).seccomp is not None
    seccomp = configure(rootfs, insecure=frozenset({"seccomp", "image"}))
    assert linux(seccomp).seccomp is None
    assert linux(seccomp).masked_paths == defaults.MASKED_PATHS
    caps = configure(rootfs, insecure=frozenset({"capabilities"}))
    assert process(caps).capabilities != process(paths).capabilities
    assert linux(caps).masked_paths == defaults.MASKED_PATHS


def test_the_hosts_network(rootfs: Rootfs) -> None:
    made = from_oci.compose(oci(), rootfs, RunOptions(net="host"))
    assert "network" not in [each.type for each in linux(made.config).namespaces]
    assert made.files == ("hosts", "resolv.conf")
    assert mount(made.config, "/etc/resolv.conf").source == "files/resolv.conf"
    assert mount(made.config, "/sys").type == "sysfs"


def test_a_hosts_file_of_the_image_is_left_alone(tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path)
    (tmp_path / "etc/hosts").write_text("127.0.0.1 mine\n")
    assert from_oci.compose(oci(), rootfs, RunOptions()).files == ()
    assert from_oci.compose(oci(), rootfs, RunOptions(net="host")).files == ("hosts", "resolv.conf")


def test_nothing_is_made_in_the_users_volumes(rootfs: Rootfs) -> None:
    made = from_oci.compose(oci(), rootfs, RunOptions(net="host", mounts=(VolumeMount(target="/etc", source="/s"),)))
    assert made.files == ()
    assert [each.destination for each in made.config.mounts if each.destination.startswith("/etc")] == ["/etc"]


def test_a_volume_takes_the_place_of_a_default_mount(rootfs: Rootfs) -> None:
    made = configure(
        rootfs, mounts=(VolumeMount(target="/dev/shm", source="/s"), VolumeMount(target="/sys", source="/t"))
    )
    assert mount(made, "/dev/shm").source == "/s"
    assert mount(made, "/sys").source == "/t"
    assert not [each for each in made.mounts if each.destination.startswith("/sys/")]


def test_volumes_of_the_image(rootfs: Rootfs) -> None:
    image = oci(volumes=("/data", "/var/Log"))
    made = from_oci.compose(image, rootfs, RunOptions())
    assert made.volumes == (
        OwnVolume(path="volumes/0-data", seed="/data"),
        OwnVolume(path="volumes/1-var-Log", seed="/var/Log"),
    )
    named = VolumeMount(name="volume-var-log", source="/srv/log")
    made = from_oci.compose(image, rootfs, RunOptions(mounts=(named,), implicit_volumes=False))
    assert made.volumes == ()
    assert mount(made.config, "/var/Log").source == "/srv/log"
    assert from_oci.volume_name("/var//tmp/") == "volume-var-tmp"


MAP = (IdRange(container=0, host=100_000, size=5),)


def test_user_namespace(rootfs: Rootfs) -> None:
    made = configure(rootfs, userns=True, uid_mappings=MAP, gid_mappings=MAP)
    assert linux(made).namespaces[-1] == Namespace(type="user")
    assert linux(made).uid_mappings == (IdMapping(container_id=0, host_id=100_000, size=5),)
    assert "gid=5" not in mount(made, "/dev/pts").options
    more = (IdRange(container=0, host=100_000, size=65536),)
    made = configure(rootfs, userns=True, uid_mappings=more, gid_mappings=more, net="host")
    assert "gid=5" in mount(made, "/dev/pts").options
    assert mount(made, "/sys").options[0] == "rbind"
    assert linux(configure(rootfs, uid_mappings=MAP, gid_mappings=MAP)).uid_mappings == ()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"user": "5"}, "the user namespace has no user 5"),
        ({"group": "5"}, "the user namespace has no group 5"),
        ({"supplementary_gids": (1, 9)}, "the user namespace has no group 9"),
    ],
)
def test_user_namespace_has_the_ids_of_the_process(rootfs: Rootfs, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        configure(rootfs, userns=True, uid_mappings=MAP, gid_mappings=MAP, **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "pyrkt"),
        ({"name": "app"}, "app"),
        ({"name": "app", "pod_uuid": "u-1"}, "pyrkt-u-1"),
        ({"hostname": "h", "pod_uuid": "u-1"}, "h"),
    ],
)
def test_hostname(rootfs: Rootfs, options: dict[str, Any], name: str) -> None:
    assert configure(rootfs, **options).hostname == name


def test_options_reach_their_members(rootfs: Rootfs) -> None:
    made = configure(
        rootfs,
        readonly_rootfs=True,
        memory=1 << 20,
        pids=5,
        oom_score_adj=7,
        cgroups_path="/pyrkt/x",
        no_new_privileges=False,
        devices=(DeviceNode(path="/dev/fuse", kind="c", major=10, minor=229, mode=0o600),),
    )
    assert made.root is not None
    assert made.root.readonly
    assert resources(made).dump()["memory"] == {"limit": 1 << 20}
    assert resources(made).dump()["pids"] == {"limit": 5}
    assert process(made).oom_score_adj == 7
    assert process(made).no_new_privileges is False
    assert linux(made).cgroups_path == "/pyrkt/x"
    assert linux(made).devices == (
        Device(path="/dev/fuse", type="c", major=10, minor=229, file_mode=0o600, uid=0, gid=0),
    )
