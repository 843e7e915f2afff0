"""The steps of a plan: their codes, the kinds of their arguments, the phases they may stand in.

Made by scripts/gen-steps from pyrkt/stage1/steps.h; do not edit.
"""

from __future__ import annotations

TYPE_CHECKING = False

ON_FAILURE = 1
MKDIR = 2
WRITE = 3
OPEN = 4
CLOSE = 5
RMDIR = 6
UNLINK = 7
RENAME = 8
CREATE = 9
OPEN_TREE = 10
CGROUP_DEVICES = 11
CONNECT = 12
CLONE = 20
MAP_IDS = 21
MAP_HELPER = 22
ENTER_CGROUP = 23
PID_FILE = 24
RECORD = 25
ENTER_CGROUP_SLOT = 26
HOOK = 27
STARTED = 28
LEAVE = 29
MEET = 30
STILL = 31
SEND_PIDFD = 32
ADOPT = 33
SETNS = 40
UNSHARE = 41
SETSID = 42
KEYRING = 43
LOOPBACK = 44
HOSTNAME = 45
DOMAINNAME = 46
ROOT_IDS = 47
TIME = 48
PROPAGATION = 60
ROOT_BIND = 61
ROOT_OVERLAY = 62
MOUNT = 63
BIND = 64
SET_ATTR = 65
SET_PROPAGATION = 66
MKNOD = 67
SYMLINK = 68
MASK = 69
READ_ONLY = 70
PIVOT = 71
CHROOT = 72
ROOT_READ_ONLY = 73
MKDIR_IN = 74
ROOT_EMPTY = 75
ROOT_TREE = 76
TERMINAL = 90
STDIO = 91
SYSCTL = 92
RLIMIT = 93
OOM_SCORE = 94
UMASK = 95
CAPS_BOUND = 96
USER = 97
CAPS = 98
NO_NEW_PRIVS = 99
SECCOMP = 100
PERSONALITY = 101
APPARMOR = 102
SELINUX = 103
SCHEDULER = 104
IO_PRIORITY = 105
CHDIR = 106
CLOSE_FDS = 107
WAIT_START = 108
EXEC = 109
DUMPABLE = 110
SECCOMP_AGENT = 111
MEMORY_POLICY = 112
HOME = 113
INIT = 121
EXIT_FILE = 140
OWN_NULL = 160
AFFINITY = 170
NET_DEVICE = 171
HOLD = 172
LENIENT = 173
VOLUME = 180
ID_MAPS = 181
REMOUNT = 182
CHROOT_INTO = 183
DETACH = 184
UNLINK_IN = 185
CHOWN = 186
LET_GO = 190
POD = 200
POD_APP = 201
MEMBER = 202
GATE = 203
METADATA = 220
STREAMS = 230
STREAM_ENDS = 231
TELL = 240
LISTEN = 250

# code: (name, one letter an argument, mask of 1 << phase)
TABLE = {
    ON_FAILURE: ("ON_FAILURE", "l", 1),
    MKDIR: ("MKDIR", "si", 17),
    WRITE: ("WRITE", "sb", 19),
    OPEN: ("OPEN", "isi", 5),
    CLOSE: ("CLOSE", "i", 7),
    RMDIR: ("RMDIR", "s", 16),
    UNLINK: ("UNLINK", "s", 17),
    RENAME: ("RENAME", "ss", 19),
    CREATE: ("CREATE", "sbi", 19),
    OPEN_TREE: ("OPEN_TREE", "isi", 1),
    CGROUP_DEVICES: ("CGROUP_DEVICES", "sb", 3),
    CONNECT: ("CONNECT", "is", 1),
    CLONE: ("CLONE", "ii", 1),
    MAP_IDS: ("MAP_IDS", "bbi", 2),
    MAP_HELPER: ("MAP_HELPER", "l", 2),
    ENTER_CGROUP: ("ENTER_CGROUP", "s", 2),
    PID_FILE: ("PID_FILE", "s", 2),
    RECORD: ("RECORD", "s", 2),
    ENTER_CGROUP_SLOT: ("ENTER_CGROUP_SLOT", "i", 6),
    HOOK: ("HOOK", "sllisb", 22),
    STARTED: ("STARTED", "", 2),
    LEAVE: ("LEAVE", "", 1),
    MEET: ("MEET", "", 6),
    STILL: ("STILL", "ii", 1),
    SEND_PIDFD: ("SEND_PIDFD", "s", 2),
    ADOPT: ("ADOPT", "ii", 1),
    SETNS: ("SETNS", "ii", 5),
    UNSHARE: ("UNSHARE", "i", 4),
    SETSID: ("SETSID", "", 4),
    KEYRING: ("KEYRING", "s", 4),
    LOOPBACK: ("LOOPBACK", "", 4),
    HOSTNAME: ("HOSTNAME", "s", 4),
    DOMAINNAME: ("DOMAINNAME", "s", 4),
    ROOT_IDS: ("ROOT_IDS", "", 4),
    TIME: ("TIME", "b", 4),
    PROPAGATION: ("PROPAGATION", "si", 4),
    ROOT_BIND: ("ROOT_BIND", "si", 4),
    ROOT_OVERLAY: ("ROOT_OVERLAY", "slssi", 4),
    MOUNT: ("MOUNT", "sssisi", 4),
    BIND: ("BIND", "ssiiii", 4),
    SET_ATTR: ("SET_ATTR", "siii", 4),
    SET_PROPAGATION: ("SET_PROPAGATION", "si", 4),
    MKNOD: ("MKNOD", "siiii", 4),
    SYMLINK: ("SYMLINK", "ss", 4),
    MASK: ("MASK", "s", 4),
    READ_ONLY: ("READ_ONLY", "s", 4),
    PIVOT: ("PIVOT", "", 4),
    CHROOT: ("CHROOT", "", 4),
    ROOT_READ_ONLY: ("ROOT_READ_ONLY", "", 4),
    MKDIR_IN: ("MKDIR_IN", "siii", 4),
    ROOT_EMPTY: ("ROOT_EMPTY", "", 4),
    ROOT_TREE: ("ROOT_TREE", "is", 4),
    TERMINAL: ("TERMINAL", "iisi", 4),
    STDIO: ("STDIO", "ii", 4),
    SYSCTL: ("SYSCTL", "ss", 4),
    RLIMIT: ("RLIMIT", "iii", 6),
    OOM_SCORE: ("OOM_SCORE", "i", 6),
    UMASK: ("UMASK", "i", 4),
    CAPS_BOUND: ("CAPS_BOUND", "i", 4),
    USER: ("USER", "iib", 4),
    CAPS: ("CAPS", "iiii", 4),
    NO_NEW_PRIVS: ("NO_NEW_PRIVS", "", 4),
    SECCOMP: ("SECCOMP", "ib", 4),
    PERSONALITY: ("PERSONALITY", "i", 4),
    APPARMOR: ("APPARMOR", "s", 4),
    SELINUX: ("SELINUX", "s", 4),
    SCHEDULER: ("SCHEDULER", "b", 4),
    IO_PRIORITY: ("IO_PRIORITY", "i", 4),
    CHDIR: ("CHDIR", "s", 4),
    CLOSE_FDS: ("CLOSE_FDS", "i", 4),
    WAIT_START: ("WAIT_START", "si", 4),
    EXEC: ("EXEC", "sll", 4),
    DUMPABLE: ("DUMPABLE", "i", 4),
    SECCOMP_AGENT: ("SECCOMP_AGENT", "ibisbb", 4),
    MEMORY_POLICY: ("MEMORY_POLICY", "iib", 4),
    HOME: ("HOME", "i", 4),
    INIT: ("INIT", "", 4),
    EXIT_FILE: ("EXIT_FILE", "s", 16),
    OWN_NULL: ("OWN_NULL", "", 4),
    AFFINITY: ("AFFINITY", "b", 5),
    NET_DEVICE: ("NET_DEVICE", "ss", 2),
    HOLD: ("HOLD", "", 4),
    LENIENT: ("LENIENT", "", 2),
    VOLUME: ("VOLUME", "ssiiiiii", 4),
    ID_MAPS: ("ID_MAPS", "ibb", 1),
    REMOUNT: ("REMOUNT", "sis", 4),
    CHROOT_INTO: ("CHROOT_INTO", "i", 4),
    DETACH: ("DETACH", "i", 16),
    UNLINK_IN: ("UNLINK_IN", "s", 4),
    CHOWN: ("CHOWN", "sii", 1),
    LET_GO: ("LET_GO", "", 2),
    POD: ("POD", "ssii", 1),
    POD_APP: ("POD_APP", "siiib", 1),
    MEMBER: ("MEMBER", "", 1),
    GATE: ("GATE", "", 2),
    METADATA: ("METADATA", "sssi", 4),
    STREAMS: ("STREAMS", "siiissb", 1),
    STREAM_ENDS: ("STREAM_ENDS", "", 4),
    TELL: ("TELL", "ll", 1),
    LISTEN: ("LISTEN", "b", 4),
}
