"""The pods directory: where a pod is says how far it has come, and whether its lock is held says whether it lives.

    embryo -> prepare -> prepared -> run -> exited-garbage -> gone
                   \\________________/ \\-> garbage -> gone

Every move is a rename(2) made under the pod's exclusive flock(2). The descriptor of a running pod's lock is inherited
by stage1, so that the kernel itself frees it at the pod's death. Source: rkt 1.30, devel/pod-lifecycle.
"""

from __future__ import annotations

import os

from pyrkt.base.atomic import write_all, write_file
from pyrkt.base.errors import Busy, CannotCreate, NotFound, UsageError
from pyrkt.base.record import Record
from pyrkt.kernel import lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

EMBRYO, PREPARE, PREPARED, RUN = "embryo", "prepare", "prepared", "run"
EXITED_GARBAGE, GARBAGE = "exited-garbage", "garbage"
PLACES = (EMBRYO, PREPARE, PREPARED, RUN, EXITED_GARBAGE, GARBAGE)
"""In the order of life: a pod that moves while the directories are read in this order is not missed."""

_WORDS = {  # place -> (state while nobody holds the lock, state while somebody does)
    EMBRYO: ("aborted prepare", "embryo"),
    PREPARE: ("aborted prepare", "preparing"),
    PREPARED: ("prepared", "prepared"),
    RUN: ("exited", "running"),
    EXITED_GARBAGE: ("exited garbage", "exited deleting"),
    GARBAGE: ("garbage", "deleting"),
}
_HEX = frozenset("0123456789abcdef-")
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME = _NAME_FIRST | frozenset("0123456789_.-")
MIN_PREFIX = 2


class Pod(Record):
    """A pod as it was found: its UUID, the ``place`` it was in, and its directory then."""

    uuid: str
    place: str
    path: str

    def state(self) -> str:
        """Return the state in rkt's words, as the lock says it now."""
        free, held = _WORDS[self.place]
        return free if free == held else held if lock.is_held(self.path) else free

    def read(self, name: str, default: str = "") -> str:
        """Return the text of the file ``name`` in the pod's directory; ``default`` if there is none."""
        try:
            # O_NONBLOCK: state is not trusted more than it must be; a fifo planted here must not block a list.
            descriptor = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return default
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            return file.read(_MOST)

    def name(self) -> str:
        """Return the short name; "" if it has none."""
        return self.read("name").strip()


_MOST = 16 << 20  # characters of one file of a pod


class Held(Record):
    """A pod whose exclusive lock this process holds by ``descriptor``."""

    uuid: str
    place: str
    path: str
    descriptor: int


class Pods:
    """The pods of one data directory."""

    __slots__ = ("root",)

    def __init__(self, data: str) -> None:
        """Name the data directory; nothing is touched."""
        self.root = f"{data}/pods"

    def path(self, place: str, uuid: str) -> str:
        """Return where pod ``uuid`` lies when it is in ``place``."""
        return f"{self.root}/{place}/{uuid}"

    def create(self) -> Held:
        """Make a new pod, locked, in ``prepare``."""
        uuid = new_uuid()
        path = self.path(EMBRYO, uuid)
        for attempt in (1, 2):
            try:
                os.mkdir(path, 0o700)
                break
            except FileNotFoundError:
                if attempt == 2:
                    raise
                self._make_places()
        # Between the two calls gc may see an embryo without a lock; it leaves young ones alone.
        descriptor = lock.acquire(path, exclusive=True, wait=False, directory=True)
        return self.move(Held(uuid=uuid, place=EMBRYO, path=path, descriptor=descriptor), PREPARE)

    def _make_places(self) -> None:
        for directory in (self.root, *(f"{self.root}/{place}" for place in PLACES)):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                pass

    def move(self, pod: Held, place: str) -> Held:
        """Move a pod that this process has locked."""
        target = self.path(place, pod.uuid)
        os.rename(pod.path, target)
        return pod.replace(place=place, path=target)

    def each(self) -> Iterator[Pod]:
        """Yield every pod once, by place in the order of life, then by UUID."""
        seen: set[str] = set()
        for place in PLACES:
            try:
                names = sorted(os.listdir(f"{self.root}/{place}"))
            except FileNotFoundError:
                continue
            for name in names:
                if name not in seen and is_uuid(name):
                    seen.add(name)
                    yield Pod(uuid=name, place=place, path=self.path(place, name))

    def look(self, uuid: str) -> Pod | None:
        """Return the pod ``uuid`` where it is now; None if there is none (any more)."""
        for place in PLACES:
            if os.path.isdir(path := self.path(place, uuid)):
                return Pod(uuid=uuid, place=place, path=path)
        return None

    def find(self, text: str) -> Pod:
        """Return the one pod that ``text`` means: a UUID, an unambiguous beginning of one, or a short name.

        Raises: NotFound; UsageError if it is empty, too short or ambiguous.
        """
        text = text.strip()
        if not text:
            raise UsageError("UUID cannot be empty", hint="pyrkt list shows the pods")
        pods = list(self.each())
        named = [pod for pod in pods if pod.name() == text]
        found = named or [pod for pod in pods if len(text) >= MIN_PREFIX and pod.uuid.startswith(text.lower())]
        if not found:
            short = len(text) < MIN_PREFIX
            hint = f"give {MIN_PREFIX} characters of a UUID at least" if short else "pyrkt list shows the pods"
            raise NotFound(f"no matches found for {text!r}", hint=hint)
        if len(found) > 1:
            listed = ", ".join(pod.uuid for pod in found[:6])
            raise UsageError(f"{text!r} is ambiguous: {listed}", hint="give more of the UUID")
        return found[0]

    def hold(self, pod: Pod, *, wait: bool = False) -> Held:
        """Lock ``pod`` exclusively.

        Raises: Busy if somebody else holds it (a running pod), NotFound if it is gone or has moved meanwhile.
        """
        try:
            descriptor = lock.acquire(pod.path, exclusive=True, wait=wait, directory=True)
        except FileNotFoundError:
            raise NotFound(f"pod {pod.uuid} is no longer {pod.state()}", hint="pyrkt list shows where it is") from None
        except Busy:
            raise Busy(f"pod {pod.uuid} is {pod.state()}", hint=f"pyrkt stop {pod.uuid[:8]}") from None
        try:
            if not os.path.samestat(os.fstat(descriptor), os.stat(pod.path)):
                raise NotFound(f"pod {pod.uuid} was replaced meanwhile", hint="try again")
        except FileNotFoundError:
            os.close(descriptor)
            raise NotFound(f"pod {pod.uuid} has moved meanwhile", hint="try again") from None
        except BaseException:
            os.close(descriptor)
            raise
        return Held(uuid=pod.uuid, place=pod.place, path=pod.path, descriptor=descriptor)

    def claim_name(self, name: str) -> int:
        """Make sure that no pod has the short ``name``, and keep others from taking it until the result is closed.

        Raises: UsageError if it cannot be one, CannotCreate if it is taken.
        """
        check_name(name)
        self._make_places()
        descriptor = lock.acquire(f"{self.root}/names.lock", exclusive=True)
        for pod in self.each():
            if pod.place not in (EXITED_GARBAGE, GARBAGE) and pod.name() == name:
                os.close(descriptor)
                raise CannotCreate(
                    f"the name {name!r} is taken by pod {pod.uuid} ({pod.state()})",
                    hint=f"choose another, or remove that pod: pyrkt rm {name}",
                )
        return descriptor


def check_name(name: str) -> None:
    """Refuse what cannot be a pod's short name: letters, digits, ``_.-``, a letter first, 64 at most."""
    if not name or len(name) > 64 or name[0] not in _NAME_FIRST or not set(name) <= _NAME:
        raise UsageError(
            f"--name {name!r} is no name of a pod", hint="letters, digits, _ . and -, a letter first, 64 at most"
        )


def save_uuid(path: str, pod: Held) -> None:
    """Write the pod's UUID to the file that --uuid-file-save names."""
    write_file(path, f"{pod.uuid}\n", mode=0o644, durable=False)


def new_uuid() -> str:
    """Return a random UUID. Source: RFC 9562, section 5.4 (version 4)."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid(text: str) -> bool:
    """Tell whether ``text`` has the form of a UUID, in lower case."""
    return len(text) == 36 and [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12] and set(text) <= _HEX


def write_new(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file of a pod that nobody else can see yet: it needs no rename, and the pod is synced as a whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
