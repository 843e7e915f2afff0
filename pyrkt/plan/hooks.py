"""Hooks: programs run at the moments of the container's life, with its state on stdin."""

from __future__ import annotations

from pyrkt.base.fastjson import dumps
from pyrkt.spec import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.spec.runtime import Hook


_OWN_ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def state_text(subject: Subject, container: str, status: str) -> tuple[str, str]:
    """Return the state JSON up to the pid, and from there on (runtime-spec 1.3, runtime, State)."""
    state = _state(subject, container, status)
    if status == "stopped":
        return dumps(state), ""
    return '{"pid":', "," + dumps(state)[1:]


def agent_text(subject: Subject, container: str, metadata: str, first: int) -> tuple[str, str, str]:
    """Return what a seccomp agent is sent: up to the process' pid, up to it again, and from there on.

    ``first``: the pid of the running container's first process, to whom the process is joined; 0 if it is that one.
    Source: runtime-spec 1.3, config-linux, "The Container Process State".
    """
    outer: dict[str, Any] = {"ociVersion": subject.config.oci_version, "fds": ["seccompFd"]}
    if metadata:
        outer["metadata"] = metadata
    if first:
        outer["state"] = {"pid": first, **_state(subject, container, "running")}
        return '{"pid":', "," + dumps(outer)[1:], ""
    before = "," + dumps(outer)[1:-1] + ',"state":{"pid":'
    return '{"pid":', before, "," + dumps(_state(subject, container, "creating"))[1:] + "}"


def _state(subject: Subject, container: str, status: str) -> dict[str, Any]:
    config = subject.config
    state: dict[str, Any] = {"ociVersion": config.oci_version, "id": container, "status": status}
    state["bundle"] = subject.bundle
    if config.annotations:
        state["annotations"] = config.annotations
    return state


def ends_at_poststart(version: str) -> bool:
    """Tell whether a container of this version of the specification ends where a poststart hook fails.

    From 1.3 on that is an error, before it was to be warned of; as for runc's and runtime-tools' tests.
    """
    major, minor, *_ = version.split(".")
    return (int(major), int(minor)) >= (1, 3)


def add_program(draft: Draft, args: tuple[str, ...], phase: int, *, pid: bool = False) -> None:
    """Append a program of our own: no hook of config.json, but run as one; with ``pid`` it reads the state's."""
    before = '{"pid":' if pid else "{}"
    draft.add(steps.HOOK, args[0], args, _OWN_ENV, 0, before, b"}" if pid else b"", phase=phase)


def add_hooks(
    draft: Draft, subject: Subject, container: str, kind: str, phase: int, *, env: tuple[str, ...] = ()
) -> None:
    """Append the hooks of one kind ("create_runtime") to ``phase``; ``env`` is for those that have none."""
    hooks = subject.config.hooks
    if hooks is None:
        return
    # The runtime environment stands when prestart hooks run, and of old they are told so (crun and the validation
    # programs agree); the others of create are told what runc tells them.
    told = {"prestart": "created", "start_container": "created", "poststart": "running", "poststop": "stopped"}
    status = told.get(kind, "creating")
    member = {
        "create_runtime": "createRuntime",
        "create_container": "createContainer",
        "start_container": "startContainer",
    }.get(kind, kind)
    listed: tuple[Hook, ...] = getattr(hooks, kind)
    for place, hook in enumerate(listed):
        first, second = state_text(subject, container, status)
        args = (hook.path, hook.args or (hook.path,), hook.env or env, hook.timeout or 0, first, second.encode())
        draft.add(steps.HOOK, *args, cause=f"/hooks/{member}/{place}", phase=phase)
