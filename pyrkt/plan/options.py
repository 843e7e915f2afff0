"""Mount options: the words of mount(8) as flags, attributes, propagation and data."""

from __future__ import annotations

from pyrkt.base.record import Record

TYPE_CHECKING = False

# include/uapi/linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW = (
    1,
    2,
    4,
    8,
    16,
    32,
    64,
    128,
    256,
)
MS_NOATIME, MS_NODIRATIME, MS_REC, MS_SILENT = 1024, 2048, 16384, 32768
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_RELATIME, MS_I_VERSION, MS_STRICTATIME, MS_LAZYTIME = (
    1 << 17,
    1 << 18,
    1 << 19,
    1 << 20,
    1 << 21,
    1 << 23,
    1 << 24,
    1 << 25,
)
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOATIME, ATTR_STRICTATIME = 1, 2, 4, 8, 0x10, 0x20
ATTR_ATIME, ATTR_NODIRATIME, ATTR_NOSYMFOLLOW = 0x70, 0x80, 0x200000

_ATIMES = MS_NOATIME | MS_RELATIME | MS_STRICTATIME
_LASTING = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOSYMFOLLOW
_ATTRIBUTES = (
    (MS_NOSYMFOLLOW, ATTR_NOSYMFOLLOW),
    (MS_NODIRATIME, ATTR_NODIRATIME),
    (MS_NOATIME, ATTR_NOATIME),
    (MS_STRICTATIME, ATTR_STRICTATIME),
)
# What belongs to the file system rather than to its place in the tree.
OF_FILE_SYSTEM = MS_SYNCHRONOUS | MS_MANDLOCK | MS_DIRSYNC | MS_I_VERSION | MS_LAZYTIME

# word: (flags it sets, flags it takes back)
FLAGS = {
    "defaults": (0, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0),
    "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0),
    "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0),
    "exec": (0, MS_NOEXEC),
    "nosymfollow": (MS_NOSYMFOLLOW, 0),
    "symfollow": (0, MS_NOSYMFOLLOW),
    "sync": (MS_SYNCHRONOUS, 0),
    "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "mand": (MS_MANDLOCK, 0),
    "nomand": (0, MS_MANDLOCK),
    "silent": (MS_SILENT, 0),
    "loud": (0, MS_SILENT),
    "iversion": (MS_I_VERSION, 0),
    "noiversion": (0, MS_I_VERSION),
    "lazytime": (MS_LAZYTIME, 0),
    "nolazytime": (0, MS_LAZYTIME),
    "noatime": (MS_NOATIME, MS_RELATIME | MS_STRICTATIME),
    "atime": (0, MS_NOATIME),
    "relatime": (MS_RELATIME, MS_NOATIME | MS_STRICTATIME),
    "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, MS_NOATIME | MS_RELATIME),
    "nostrictatime": (0, MS_STRICTATIME),
    "nodiratime": (MS_NODIRATIME, 0),
    "diratime": (0, MS_NODIRATIME),
}
PROPAGATION = {
    "private": MS_PRIVATE,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
    "rprivate": MS_PRIVATE | MS_REC,
    "rshared": MS_SHARED | MS_REC,
    "rslave": MS_SLAVE | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
# word: (attributes set, attributes cleared) on the whole tree; the access times are one field of several values, and
# what takes one of them away leaves the kernel's choice, relatime.
RECURSIVE = {
    "rro": (ATTR_RDONLY, 0),
    "rrw": (0, ATTR_RDONLY),
    "rnosuid": (ATTR_NOSUID, 0),
    "rsuid": (0, ATTR_NOSUID),
    "rnodev": (ATTR_NODEV, 0),
    "rdev": (0, ATTR_NODEV),
    "rnoexec": (ATTR_NOEXEC, 0),
    "rexec": (0, ATTR_NOEXEC),
    "rnosymfollow": (ATTR_NOSYMFOLLOW, 0),
    "rsymfollow": (0, ATTR_NOSYMFOLLOW),
    "rnodiratime": (ATTR_NODIRATIME, 0),
    "rdiratime": (0, ATTR_NODIRATIME),
    "rrelatime": (0, ATTR_ATIME),
    "rnorelatime": (0, ATTR_ATIME),
    "rnoatime": (ATTR_NOATIME, ATTR_ATIME),
    "ratime": (0, ATTR_ATIME),
    "rstrictatime": (ATTR_STRICTATIME, ATTR_ATIME),
    "rnostrictatime": (0, ATTR_ATIME),
}
# Words that mean something to mount(8) and fstab only.
_FSTAB = ("auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group")


class Options(Record):
    """The options of one mount, sorted out.

    ``flags``: MS_* of the mount and its file system; ``cleared``: MS_* that words take away, and no later word sets.
    ``data``: what is left, for the file system, comma-separated.
    ``bind``: 0 no, 1 one mount, 2 the whole tree.
    ``propagation``: MS_* in order; ``tree_set`` and ``tree_clear``: MOUNT_ATTR_* for the whole tree.
    ``idmap``: 0 no, 1 one mount, 2 the whole tree; ``copy_up``: fill the tmpfs with what it covers.
    """

    flags: int = 0
    data: str = ""
    bind: int = 0
    remount: bool = False
    propagation: tuple[int, ...] = ()
    tree_set: int = 0
    tree_clear: int = 0
    idmap: int = 0
    copy_up: bool = False
    cleared: int = 0

    def attributes(self) -> tuple[int, int]:
        """Return (MOUNT_ATTR_* to set, to clear) that change a mount that stands: what no word names stays."""
        clear = _attributes(self.cleared)
        if (self.flags & _ATIMES) or self.cleared & (MS_NOATIME | MS_STRICTATIME):
            clear |= ATTR_ATIME
        return _attributes(self.flags), clear

    def of_bind(self) -> tuple[int, int, int]:
        """Return MOUNT_ATTR_* for a bind mount: to set, to clear, and to clear unless a user namespace may not.

        Without any word about flags it keeps those of its source; with one it has the named flags and no other, as
        with runc and crun. The times of access are kept unless a word sets some; taking one away says nothing.
        """
        if not self.flags | self.cleared:
            return 0, 0, 0
        given, taken = _attributes(self.flags), _attributes(self.cleared) & _LASTING
        rest = _LASTING & ~(given | taken)
        if self.flags & (_ATIMES | MS_NODIRATIME):
            taken |= ATTR_ATIME | ATTR_NODIRATIME & ~given
        return given, taken, rest


def _attributes(flags: int) -> int:
    attributes = flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for flag, attribute in _ATTRIBUTES:
        if flags & flag:
            attributes |= attribute
    return attributes


_BIND = {"bind": 1, "rbind": 2}
_IDMAP = {"idmap": 1, "ridmap": 2}


def parse(words: tuple[str, ...]) -> Options:
    """Sort out the options of a mount; of two that contradict each other the later counts, as for mount(8)."""
    flags = cleared = bind = idmap = tree_set = tree_clear = 0
    remount = copy_up = False
    propagation, data = [], []
    for word in words:
        if word in FLAGS:
            given, taken = FLAGS[word]
            flags = flags & ~taken | given
            cleared = cleared & ~given if given else cleared | taken
        elif word in RECURSIVE:
            given, taken = RECURSIVE[word]
            tree_set, tree_clear = tree_set & ~taken | given, tree_clear & ~given | taken
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word in _BIND:
            bind = _BIND[word]
        elif word in _IDMAP:
            idmap = _IDMAP[word]
        elif word == "remount":
            remount = True
        elif word == "tmpcopyup":
            copy_up = True
        elif word and word not in _FSTAB and not word.startswith("x-"):
            data.append(word)
    return Options(
        flags=flags,
        data=",".join(data),
        bind=bind,
        remount=remount,
        propagation=tuple(propagation),
        tree_set=tree_set,
        tree_clear=tree_clear,
        idmap=idmap,
        copy_up=copy_up,
        cleared=cleared,
    )
