"""What ``run`` and ``exec`` decide, done some times before an image of the interpreter is made; nothing is carried out.

CPython rewrites functions for the types they meet, from their eighth call on, and fills caches behind each name. An
image that holds the functions like that decides in 0.9 ms instead of 2.
"""

from __future__ import annotations

from pyrkt.base import fastjson
from pyrkt.base.errors import PyrktError
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.kernel import host as kernel_host
from pyrkt.plan import compile as compiler
from pyrkt.plan.place import Place
from pyrkt.plan.steps import encode
from pyrkt.runtime import exec as exec_verb
from pyrkt.runtime import joining, options
from pyrkt.runtime import run as run_verb
from pyrkt.runtime.main import FLAGS
from pyrkt.spec import example
from pyrkt.spec.runtime import parse_config

_ROUNDS = 24
_ID = "rehearsal"


def rehearse() -> bool:
    """Compile the example configuration, and a process in its container; tell whether this host lets it.

    The host's facts are read, as for a container, and forgotten.
    """
    data = fastjson.dumps(example.example_config().dump()).encode()
    try:
        for _ in range(_ROUNDS):
            _once(data)
    except (PyrktError, OSError):  # a host without what the example needs; what was done is done
        return False
    return True


def _once(data: bytes) -> None:
    options.parse(FLAGS, ("--root", "/rehearsal", "run"), ordered=True)
    options.parse(run_verb.VERB.flags, ("--bundle", "/rehearsal", _ID), ordered=False)
    values, _ = options.parse(exec_verb.VERB.flags, ("--env", "A=b", _ID, "true"), ordered=True)
    config = parse_config(data)
    host = kernel_host.probe()
    linux = config.linux
    mounts = cgroup_host.probe(_ID, host.cgroup_mounts, rootless=not host.privileged)
    layout = cgroup_plan.layout(linux.resources if linux else None, _ID, mounts, rootless=not host.privileged)
    place = Place(id=_ID, record_file="/rehearsal/pid", on_failure=("failed",), keyring=_ID)
    encode(compiler.container(config, "/rehearsal", host, layout, place))
    process = exec_verb.wanted_process(config, values, ["true"])
    joined = joining.joined(config.replace(process=process), 1)
    encode(joining.plan_of(joined, "/rehearsal", host, layout, place, b"", (1, 1)))
