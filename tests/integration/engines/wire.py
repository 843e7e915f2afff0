"""The container runtime interface (CRI) of Kubernetes, as far as the tests speak it: messages as dictionaries.

Source: kubernetes/cri-api, pkg/apis/runtime/v1/api.proto; developers.google.com, Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import Any

import grpc

_PREFIX = "/runtime.v1.RuntimeService/"
_VARINT, _BYTES = 0, 2
_SECONDS = 60.0
# name -> (number, kind): "s" text, "i" integer, or the message that it is; a leading "*" says that it is repeated.
_METADATA = {"name": (1, "s"), "uid": (2, "s"), "namespace": (3, "s"), "attempt": (4, "i")}
_SPACES = {"network": (1, "i"), "pid": (2, "i"), "ipc": (3, "i")}
_RESOURCES = {
    "cpu_period": (1, "i"),
    "cpu_quota": (2, "i"),
    "cpu_shares": (3, "i"),
    "memory_limit_in_bytes": (4, "i"),
}
_SANDBOX = {
    "metadata": (1, _METADATA),
    "hostname": (2, "s"),
    "log_directory": (3, "s"),
    "linux": (8, {"cgroup_parent": (1, "s"), "security_context": (2, {"namespace_options": (1, _SPACES)})}),
}
_SECURITY = {
    "capabilities": (1, {"add_capabilities": (1, "*s"), "drop_capabilities": (2, "*s")}),
    "namespace_options": (3, _SPACES),
    "run_as_user": (5, {"value": (1, "i")}),
    "readonly_rootfs": (7, "i"),
    "no_new_privs": (11, "i"),
}
_CONTAINER = {
    "metadata": (1, {"name": (1, "s")}),
    "image": (2, {"image": (1, "s")}),
    "command": (3, "*s"),
    "log_path": (11, "s"),
    "linux": (15, {"resources": (1, _RESOURCES), "security_context": (2, _SECURITY)}),
}
_ID = {"id": (1, "s")}
_STATUS = {"id": (1, "s"), "state": (3, "i"), "exit_code": (7, "i"), "reason": (10, "s"), "message": (11, "s")}
_NUMBER = {"value": (1, "i")}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Status": ({}, {"status": (1, {"conditions": (1, {"type": (1, "s"), "status": (2, "i")})})}),
    "RunPodSandbox": ({"config": (1, _SANDBOX), "runtime_handler": (2, "s")}, _ID),
    "StopPodSandbox": (_ID, {}),
    "RemovePodSandbox": (_ID, {}),
    "CreateContainer": ({"id": (1, "s"), "config": (2, _CONTAINER), "sandbox_config": (3, _SANDBOX)}, _ID),
    "StartContainer": (_ID, {}),
    "StopContainer": ({"id": (1, "s"), "timeout": (2, "i")}, {}),
    "RemoveContainer": (_ID, {}),
    "ContainerStatus": (_ID, {"status": (1, _STATUS)}),
    "UpdateContainerResources": ({"id": (1, "s"), "linux": (2, _RESOURCES)}, {}),
    "ExecSync": (
        {"id": (1, "s"), "cmd": (2, "*s"), "timeout": (3, "i")},
        {"stdout": (1, "s"), "stderr": (2, "s"), "exit_code": (3, "i")},
    ),
    "ContainerStats": (_ID, {"stats": (1, {"memory": (3, {"working_set_bytes": (2, _NUMBER)})})}),
}


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def encode(shape: dict[str, Any], message: dict[str, Any]) -> bytes:
    """Return the bytes of ``message``."""
    found = b""
    for name, value in message.items():
        number, kind = shape[name]
        for one in value if str(kind).startswith("*") else (value,):
            if kind == "i":
                found += _number(number << 3 | _VARINT) + _number(int(one))
                continue
            data = encode(kind, one) if isinstance(kind, dict) else str(one).encode()
            found += _number(number << 3 | _BYTES) + _number(len(data)) + data
    return found


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def decode(shape: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Return the members of ``shape`` in ``data``; of what is repeated the last."""
    names = {number: (name, kind) for name, (number, kind) in shape.items()}
    found: dict[str, Any] = {name: 0 if kind == "i" else "" for name, kind in names.values()}
    at = 0
    while at < len(data):
        key, at = _read_number(data, at)
        value, at = _read_number(data, at)
        if key & 7 == _VARINT:
            content: Any = value
        else:
            content, at = data[at : at + value], at + value
        name, kind = names.get(key >> 3, ("", ""))
        if isinstance(kind, dict):
            content = decode(kind, content)
        elif kind == "s":
            content = content.decode()
        if name:
            found[name] = content
    return found


class Cri:
    """A client of a CRI socket."""

    def __init__(self, socket: str) -> None:
        self.channel = grpc.insecure_channel(f"unix://{socket}")

    def __call__(self, method: str, **message: Any) -> dict[str, Any]:
        """Call a method of RuntimeService. Raises: Refused with containerd's text."""
        request, answer = METHODS[method]
        call = self.channel.unary_unary(_PREFIX + method)
        try:
            return decode(answer, call(encode(request, message), timeout=_SECONDS))
        except grpc.RpcError as error:
            raise Refused(f"{method}: {error.details()}") from None

    def close(self) -> None:
        """Hang up."""
        self.channel.close()


class Refused(Exception):
    """The server said no."""
