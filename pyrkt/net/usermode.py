"""Networks of ordinary users: pasta or slirp4netns stands between a pod and the sockets of the one who runs it.

Neither needs a privilege beyond those over the pod's own namespaces. Each runs beside the pod, outside of it, and is
ended with it. Source: pasta(1) of passt; slirp4netns(1) and its API.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import select

from pyrkt.base import fastjson
from pyrkt.base.errors import NotFound, StartFailed, brief
from pyrkt.base.record import Record
from pyrkt.kernel import pidfd, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.net.ports import Published

PROGRAMS = ("pasta", "slirp4netns")
"""In the order of preference: pasta has IPv6, publishes on ::1 as well, and is faster.

But one of before August 2024 (Debian 12 has March 2023) never tells a program which has shut down its side that the
other side has ended: ``nc HOST PORT </dev/null`` hangs. It comes last.
"""
_MENDED = b"map-host-loopback"  # an option that came with 2024_08_21
ADDRESS, PREFIX, GATEWAY = "10.0.2.100", 24, "10.0.2.2"
"""What a pod has in either case; slirp4netns' own numbers."""
_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SLIRP_DNS, _PASTA_DNS = "10.0.2.3", "169.254.1.1"
_SECONDS = 20.0
_PID, _API, _DNS = "pid", "api", "dns"
_DOCTOR = "pyrkt doctor says what works here"
_LEAST_FREE = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


class Helper(Record):
    """A program that runs for a pod; ``dns`` is the address at which it answers for the host's resolver."""

    program: str
    pid: int
    dns: str = ""


def find() -> str:
    """Return the path of pasta or slirp4netns. Raises: NotFound."""
    found = [next(filter(_runs, (f"{place}/{name}" for place in _PLACES)), "") for name in PROGRAMS]
    pasta, slirp = found
    if pasta and (not slirp or _is_mended(pasta)):
        return pasta
    if slirp:
        return slirp
    raise NotFound(
        "failed to setup network: without root, a pod's network needs pasta or slirp4netns, and neither is here",
        hint="apt-get install passt; or --net=none, --net=host",
    )


def _runs(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_mended(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return _MENDED in file.read()
    except OSError:
        return False


def start(program: str, pid: int, directory: str, ports: Iterable[Published], *, resolver: bool) -> Helper:
    """Connect the namespaces of process ``pid`` to the world; return when that is done.

    ``directory`` is for its files; ``resolver``: it has to answer for a resolver that only the host itself reaches.
    Raises: StartFailed with what it said.
    """
    _check(ports := tuple(ports))
    if program.endswith("pasta"):
        return _pasta(program, pid, directory, ports, resolver=resolver)
    return _slirp(program, pid, directory, ports)


def _check(ports: Iterable[Published]) -> None:
    """Refuse what an ordinary user may not have, in better words than those programs."""
    with open(_LEAST_FREE, encoding="ascii") as file:
        least = int(file.read())
    for port in ports:
        if port.protocol not in ("tcp", "udp"):
            raise StartFailed(f"port {port.name}: {port.protocol} is published by root only", hint="leave it out")
        if port.host_port < least:
            raise StartFailed(f"port {port.host_port} of the host is root's", hint=f"choose one from {least} on; ip(7)")


def _pasta(program: str, pid: int, directory: str, ports: tuple[Published, ...], *, resolver: bool) -> Helper:
    file = f"{directory}/{_PID}"
    words = [program, "--config-net", "--quiet", "--no-map-gw", "--ns-ifname", "eth0", "--pid", file]
    words += ["--address", ADDRESS, "--netmask", str(PREFIX), "--gateway", GATEWAY]
    for flag, protocol in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        specs = [_pasta_port(port) for port in ports if port.protocol == protocol] or ["none"]
        words += [word for spec in specs for word in (flag, spec)]
    words += ["--tcp-ns", "none", "--udp-ns", "none"]
    words += ["--dns-forward", _PASTA_DNS] if resolver else []
    said = _run([*words, str(pid)])
    try:
        with open(file, encoding="ascii") as opened:
            number = int(opened.read())
    except (OSError, ValueError):
        raise StartFailed(
            brief(f"failed to setup network: pasta: {said or 'it did not say why'}"),
            hint=_DOCTOR,
        ) from None
    return Helper(program=program, pid=number, dns=_PASTA_DNS if resolver else "")


def _pasta_port(port: Published) -> str:
    where = f"{port.host_ip}/" if port.host_ip else ""
    return f"{where}{port.host_port}:{port.pod_port}"


def _run(words: list[str]) -> str:
    """Run a program that leaves a part of itself in the background; return what it has said until then."""
    inward, outward = os.pipe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, outward, 2)]
        child = _spawned(words, actions)
    finally:
        os.close(outward)
        os.close(null)
    handle = os.pidfd_open(child)
    try:
        if not pidfd.wait(handle, _SECONDS):
            os.killpg(child, _signal.SIGKILL)
        os.waitpid(child, 0)
        os.set_blocking(inward, False)  # what stays in the background has the other end, too
        said = os.read(inward, 1 << 16)
    except BlockingIOError:
        said = b""
    finally:
        os.close(handle)
        os.close(inward)
    # Of its lines, one about a log that is not there comes with each that counts.
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if "to syslog" not in line and line.strip()]
    return lines[-1] if lines else ""


def _spawned(words: list[str], actions: list[tuple[int, int, int]]) -> int:
    # pasta takes it for an error that Python has left SIGPIPE ignored.
    return os.posix_spawn(
        words[0],
        words,
        {"PATH": ":".join(_PLACES)},
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=[_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGPIPE],
    )


def _slirp(program: str, pid: int, directory: str, ports: tuple[Published, ...]) -> Helper:
    os.chdir(directory)  # the path of a socket has 108 bytes at most
    inward, outward = os.pipe()
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    words = [program, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-seccomp", "--ready-fd=3"]
    try:
        child = _spawned(
            [*words, f"--api-socket={_API}", str(pid), "eth0"],
            [
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, outward, 3),
            ],
        )
    finally:
        for descriptor in (outward, log, null):
            os.close(descriptor)
    try:
        poll = select.poll()
        poll.register(inward, select.POLLIN)
        ready = bool(poll.poll(_SECONDS * 1000)) and os.read(inward, 1) == b"1"
        for port in ports if ready else ():
            _slirp_port(port)
    except BaseException:
        _abandon(child)
        raise
    finally:
        os.close(inward)
    if not ready:
        _abandon(child)
        with open("log", encoding="utf-8", errors="replace") as file:
            lines = [line for line in file.read().splitlines() if line.strip() and "WARNING" not in line]
        raise StartFailed(
            brief(f"failed to setup network: slirp4netns: {lines[0] if lines else 'it did not say why'}"), hint=_DOCTOR
        )
    return Helper(program=program, pid=child, dns=_SLIRP_DNS)


def _abandon(child: int) -> None:
    os.kill(child, _signal.SIGKILL)
    os.waitpid(child, 0)


def _slirp_port(port: Published) -> None:
    from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket  # noqa: PLC0415

    wish = {
        "execute": "add_hostfwd",
        "arguments": {
            "proto": port.protocol,
            "host_addr": port.host_ip or "0.0.0.0",
            "host_port": port.host_port,
            "guest_port": port.pod_port,
        },
    }
    plain = socket(AF_UNIX, SOCK_STREAM, 0)
    try:
        plain.connect(_API)
        plain.sendall(fastjson.dumps(wish).encode())
        plain.shutdown(SHUT_WR)
        answer = b""
        while more := plain.recv(1 << 16):
            answer += more
    finally:
        plain.close()
    value = fastjson.loads(answer or b"{}", "slirp4netns")
    if not isinstance(value, dict) or "error" in value or "return" not in value:
        raise StartFailed(
            brief(f"failed to setup network: slirp4netns does not publish port {port.host_port}: {value}"),
            hint="another process may have it: ss -lnp",
        )


def save(directory: str, helper: Helper) -> None:
    """Note the ``helper`` of a pod, so that whoever clears up finds it."""
    with open(f"{directory}/helper", "w", encoding="ascii") as file:
        file.write(f"{helper.pid} {process.start_time(helper.pid)}\n")
    with open(f"{directory}/{_DNS}", "w", encoding="ascii") as file:
        file.write(helper.dns)


def dns(directory: str) -> str:
    """Return the name server that the helper of a pod is; "" if it is none."""
    try:
        with open(f"{directory}/{_DNS}", encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def stop(directory: str) -> None:
    """End the helper of a pod, if it has one, and remove its files. What is gone already is fine."""
    try:
        with open(f"{directory}/helper", encoding="ascii") as file:
            number, started = map(int, file.read().split())
    except (OSError, ValueError):
        number, started = _unnoted(directory), -1
    if number > 0 and started in (-1, process.start_time(number)):
        _end(number)
    for name in ("helper", _DNS, _PID, _API, "log"):
        try:
            os.unlink(f"{directory}/{name}")
        except OSError:
            pass


def _unnoted(directory: str) -> int:
    """Return the pid of a pasta that nobody had time to note; 0 if there is none."""
    try:
        with open(f"{directory}/{_PID}", encoding="ascii") as file:
            number = int(file.read())
        with open(f"/proc/{number}/cmdline", "rb") as file:
            mine = os.fsencode(f"{directory}/{_PID}") in file.read().split(b"\0")
    except (OSError, ValueError):
        return 0
    return number if mine else 0


def _end(number: int) -> None:
    try:
        handle = os.pidfd_open(number)
    except OSError:
        return
    try:
        if not (pidfd.send_signal(handle, _signal.SIGTERM) and pidfd.wait(handle, 2.0)):
            pidfd.send_signal(handle, _signal.SIGKILL)
            pidfd.wait(handle, 2.0)
    except PermissionError:
        pass  # the number means another's process by now
    finally:
        os.close(handle)
