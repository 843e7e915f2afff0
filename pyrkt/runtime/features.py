"""``features``: what this runtime knows, as runtime-spec 1.3, features.md, writes it."""

from __future__ import annotations

from pyrkt.base import fastjson
from pyrkt.plan import options as mount_options
from pyrkt.runtime import options
from pyrkt.runtime.options import Verb
from pyrkt.spec import capabilities
from pyrkt.spec.runtime import SPEC_VERSION
from pyrkt.spec.runtime_linux import (
    ACTIONS,
    ARCHITECTURES,
    MEMORY_FLAGS,
    MEMORY_MODES,
    NAMESPACES,
    OPERATORS,
    SECCOMP_FLAGS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(name="features", summary="show what this runtime knows, as JSON", arguments="", least=0, most=0)


def document() -> dict[str, Any]:
    """Return the features; what depends on the host (an LSM) is said as far as the runtime can use it."""
    words = {*mount_options.FLAGS, *mount_options.PROPAGATION, *mount_options.RECURSIVE, "bind", "rbind", "remount"}
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted(words | {"idmap", "ridmap", "tmpcopyup"}),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": list(SECCOMP_FLAGS),
                "supportedFlags": list(SECCOMP_FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": sorted(MEMORY_MODES), "flags": sorted(MEMORY_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        # As engines ask for it: whether to offer their users checkpoints.
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "true"},
        # A file that criu reads; what systemd is told of the unit.
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property."],
    }


def main(_settings: Settings, _values: dict[str, Any], _arguments: list[str]) -> int:
    """Print them."""
    options.say(fastjson.pretty(document(), "    "))
    return 0
