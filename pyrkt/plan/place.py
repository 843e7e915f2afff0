"""Where a plan leaves its traces on the host, and how the container is watched: what config.json does not say."""

from __future__ import annotations

from struct import Struct

from pyrkt.base.record import Record
from pyrkt.spec.layout import ResctrlLayout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.base.reader import Reader

_POLICY, _MOST = Struct("<4I2q"), (1 << 31) - 1


class Streams(Record):
    """What becomes of what an app writes, and where what it reads comes from.

    ``log``: the file that gets it, as lines of the CRI; "" is none. ``most``: bytes such a file may have; ``files``:
    how many there may be, with the older ones (``log``.1 is the youngest of them).
    ``stdin``: "inherit" (the supervisor's), "null", "stream" (a pipe from those who attach), "tty" (a terminal for
    them), "own" (a terminal for the supervisor's as well).
    ``stdout``, ``stderr``: "log", "stream" (logged, and for those who attach), "null", "tty".
    ``pass_on``: the supervisor's own stdout and stderr get it too.
    ``attach``: the socket for those who attach; "" is none.
    ``name``: what stands before each line if the supervisor's own stdout is a terminal; "" is nothing.
    ``journal``: fields of each entry in systemd's journal; without any there is no entry.
    """

    log: str = ""
    most: int = 10 << 20
    files: int = 5
    stdin: str = "inherit"
    stdout: str = "stream"
    stderr: str = "stream"
    pass_on: bool = False
    attach: str = ""
    name: str = ""
    journal: tuple[tuple[str, str], ...] = ()

    def terminal(self) -> bool:
        """Tell whether the app gets a terminal."""
        return self.stdin in {"tty", "own"} or "tty" in {self.stdout, self.stderr}


class Place(Record):
    """Host-side paths and choices; "" means "none of it".

    ``id``: the container's id, for hooks and the seccomp agent.
    ``pid_file``: gets the first process' pid, decimal, no newline.
    ``pidfd_socket``: AF_UNIX socket that is sent a pidfd of the first process.
    ``record_file``: gets "pid start-time", which names a process for good.
    ``exec_fifo``: the container waits here until somebody opens it for reading; "" starts it at once.
    ``console_socket``: AF_UNIX socket that is sent the terminal; "" lets the supervisor relay it.
    ``foreground``: the supervisor stays: relays signals and terminal, does the steps after the end.
    ``keep``: what is there at the end stays, for ``delete`` to remove.
    ``exit_file``: gets the exit code at the end (``exit_dir``/NAME, one an app, for a pod).
    ``member``: the container is an app of a pod: its supervisor is made by the pod's, and ends with it.
    ``gate``: it runs when the pod's other apps can run, too.
    ``listen``: (port, whether of udp) of the sockets that it gets, of those that were opened for the pod.
    ``control``, ``supervisor_file``: a pod's control socket, and what gets "pid start-time" of its supervisor.
    ``is_mutable``: the pod goes on when no app runs.
    ``service``: the pod's metadata service; None: it has none.
    ``after_unlink``, ``after_rmdir``, ``rename_after``: what to remove and to move at the end, in this order.
    ``join_run``: the program, with its arguments, that is told the first process' pid before that begins.
    ``after_run``: the program, with its arguments, that tidies up when all else is done.
    ``preserve_fds``: how many descriptors from 3 on the program keeps.
    ``on_failure``: the program that tells the user which step failed.
    ``no_pivot``: the root of the host is a ramfs, which cannot be pivoted away from.
    ``host_network``: the network namespace that linux.namespaces joins by path is the caller's own.
    ``first_pid``: of the running container, which the process joins.
    ``resctrl``: the container's groups in resctrl.
    ``keyring``: the name of the new session keyring; "" keeps the caller's.
    ``grace_ms``: how long a pod's apps get between TERM and KILL.
    ``streams``: what the program reads and writes; None inherits all three from the supervisor.
    """

    id: str = ""
    pid_file: str = ""
    pidfd_socket: str = ""
    record_file: str = ""
    exec_fifo: str = ""
    console_socket: str = ""
    foreground: bool = True
    keep: bool = False
    join_run: tuple[str, ...] = ()
    after_run: tuple[str, ...] = ()
    exit_file: str = ""
    exit_dir: str = ""
    after_unlink: tuple[str, ...] = ()
    after_rmdir: tuple[str, ...] = ()
    rename_after: tuple[str, str] | None = None
    preserve_fds: int = 0
    on_failure: tuple[str, ...] = ()
    no_pivot: bool = False
    host_network: bool = False
    first_pid: int = 0
    resctrl: ResctrlLayout = ResctrlLayout()
    keyring: str = ""
    grace_ms: int = 10_000
    streams: Streams | None = None
    member: bool = False
    gate: bool = False
    listen: tuple[tuple[int, bool], ...] = ()
    control: str = ""
    supervisor_file: str = ""
    is_mutable: bool = False
    service: Service | None = None


class Service(Record):
    """A pod's metadata service: the files with what it serves and with its key, and where it listens in the pod."""

    table: str
    key: str
    address: str
    port: int


SAYS_READY = 4


class Policy(Record):
    """What the end of an app means; times in milliseconds.

    ``ends``: bit 0, the pod ends when the app has failed, bit 1, when it is done; bit 2 (SAYS_READY), the app itself
    tells when it is ready. ``restart``: never (0), when it has
    failed (1), always (2); ``most`` times, 0 without bound, each after ``delay_ms``. ``signal`` asks it to end, 0 is
    SIGTERM; ``grace_ms`` later it is killed.
    """

    ends: int = 1
    restart: int = 0
    most: int = 0
    signal: int = 0
    delay_ms: int = 1_000
    grace_ms: int = 10_000

    @classmethod
    def read(cls, r: Reader) -> Policy:
        """Read an object with all fields. Raises: InvalidSpec."""
        return cls(**{field: r[field].integer(0, _MOST) for field in cls._fields})

    def pack(self) -> bytes:
        """Return the bytes of stage1's ``struct policy``."""
        return _POLICY.pack(*(getattr(self, field) for field in self._fields))


class PodApp(Record):
    """An app of a pod, as its supervisor has to know it: each plan is a descriptor's number, -1 for none."""

    name: str
    plan: int
    pre_start: int = -1
    post_stop: int = -1
    policy: Policy = Policy()
