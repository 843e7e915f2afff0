"""What ``features`` lists is what is read: features.md and features-linux.md of runtime-spec 1.3 ask for no less."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.plan import options
from pyrkt.runtime import features
from pyrkt.spec import capabilities
from pyrkt.spec.example import example_config
from pyrkt.spec.runtime import parse_config

if TYPE_CHECKING:
    from pyrkt.spec.runtime import Config

FEATURES = features.document()
LINUX = FEATURES["linux"]
SECCOMP = LINUX["seccomp"]


def read(**changes: Any) -> Config:
    """Read the example with members of it replaced."""
    return parse_config(json.dumps(example_config().dump() | changes).encode())


def with_linux(**changes: Any) -> Config:
    document = example_config().dump()
    return read(linux=document["linux"] | changes)


@pytest.mark.parametrize("version", [FEATURES["ociVersionMin"], FEATURES["ociVersionMax"]])
def test_versions(version: str) -> None:
    assert read(ociVersion=version).oci_version == version


def test_the_least_version_is_not_above_the_greatest() -> None:
    least, greatest = ([int(part) for part in FEATURES[name].split(".")] for name in ("ociVersionMin", "ociVersionMax"))
    assert least <= greatest


@pytest.mark.parametrize("kind", FEATURES["hooks"])
def test_hooks(kind: str) -> None:
    hooks = read(hooks={kind: [{"path": "/bin/true"}]}).hooks
    assert hooks is not None
    assert hooks.dump() == {kind: [{"path": "/bin/true"}]}


@pytest.mark.parametrize("word", FEATURES["mountOptions"])
def test_mount_options_are_no_data_of_a_file_system(word: str) -> None:
    assert options.parse((word,)).data == ""


@pytest.mark.parametrize("kind", LINUX["namespaces"])
def test_namespaces(kind: str) -> None:
    ids = [{"containerID": 0, "hostID": 1, "size": 1}]
    maps = {"uidMappings": ids, "gidMappings": ids} if kind == "user" else {}
    config = with_linux(namespaces=[{"type": kind}], **maps)
    assert config.linux is not None
    assert config.linux.namespace(kind) is not None


def test_capabilities() -> None:
    assert capabilities.names(capabilities.mask(tuple(LINUX["capabilities"]))) == tuple(LINUX["capabilities"])


@pytest.mark.parametrize("action", SECCOMP["actions"])
def test_seccomp_actions(action: str) -> None:
    agent = {"listenerPath": "/run/agent"} if action == "SCMP_ACT_NOTIFY" else {}
    rule = {"names": ["getcwd"], "action": action}
    assert with_linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], **agent})


@pytest.mark.parametrize("operator", SECCOMP["operators"])
def test_seccomp_operators(operator: str) -> None:
    rule = {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": operator}]}
    assert with_linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def test_seccomp_architectures_and_flags() -> None:
    flags = [flag for flag in SECCOMP["knownFlags"] if "KILLABLE" not in flag]  # that one is for an agent
    assert with_linux(
        seccomp={"defaultAction": "SCMP_ACT_ALLOW", "architectures": SECCOMP["archs"], "flags": flags, "syscalls": []}
    )
    assert set(SECCOMP["supportedFlags"]) <= set(SECCOMP["knownFlags"])


@pytest.mark.parametrize("mode", LINUX["memoryPolicy"]["modes"])
def test_memory_policies(mode: str) -> None:
    nodes = {} if mode in {"MPOL_DEFAULT", "MPOL_LOCAL"} else {"nodes": "0"}
    assert with_linux(memoryPolicy={"mode": mode, **nodes})


def test_the_host_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("features looked at the host")

    for name in ("open", "stat", "uname", "readlink"):
        monkeypatch.setattr(os, name, asked)
    monkeypatch.setattr("builtins.open", asked)
    assert features.document() == FEATURES
