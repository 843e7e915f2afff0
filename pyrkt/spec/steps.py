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
APP = 120
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

# code: (name, one letter an argument, mask of 1 << phase)
TABLE = {
    ON_FAILURE: ("ON_FAILURE", "l", 1),
    MKDIR: ("MKDIR", "si", 17),
    WRITE: ("WRITE", "sb", 19),
    OPEN: ("OPEN", "isi", 13),
    CLOSE: ("CLOSE", "i", 15),
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
    ENTER_CGROUP: ("ENTER_CGROUP", "s", 10),
    PID_FILE: ("PID_FILE", "s", 2),
    RECORD: ("RECORD", "s", 2),
    ENTER_CGROUP_SLOT: ("ENTER_CGROUP_SLOT", "i", 14),
    HOOK: ("HOOK", "sllisb", 30),
    STARTED: ("STARTED", "", 2),
    LEAVE: ("LEAVE", "", 1),
    MEET: ("MEET", "", 6),
    STILL: ("STILL", "ii", 1),
    SEND_PIDFD: ("SEND_PIDFD", "s", 2),
    ADOPT: ("ADOPT", "ii", 1),
    SETNS: ("SETNS", "ii", 13),
    UNSHARE: ("UNSHARE", "i", 12),
    SETSID: ("SETSID", "", 12),
    KEYRING: ("KEYRING", "s", 4),
    LOOPBACK: ("LOOPBACK", "", 4),
    HOSTNAME: ("HOSTNAME", "s", 4),
    DOMAINNAME: ("DOMAINNAME", "s", 4),
    ROOT_IDS: ("ROOT_IDS", "", 4),
    TIME: ("TIME", "b", 4),
    PROPAGATION: ("PROPAGATION", "si", 12),
    ROOT_BIND: ("ROOT_BIND", "si", 12),
    ROOT_OVERLAY: ("ROOT_OVERLAY", "slssi", 12),
    MOUNT: ("MOUNT", "sssisi", 12),
    BIND: ("BIND", "ssiiii", 12),
    SET_ATTR: ("SET_ATTR", "siii", 12),
    SET_PROPAGATION: ("SET_PROPAGATION", "si", 12),
    MKNOD: ("MKNOD", "siiii", 12),
    SYMLINK: ("SYMLINK", "ss", 12),
    MASK: ("MASK", "s", 12),
    READ_ONLY: ("READ_ONLY", "s", 12),
    PIVOT: ("PIVOT", "", 12),
    CHROOT: ("CHROOT", "", 12),
    ROOT_READ_ONLY: ("ROOT_READ_ONLY", "", 12),
    MKDIR_IN: ("MKDIR_IN", "siii", 12),
    ROOT_EMPTY: ("ROOT_EMPTY", "", 4),
    ROOT_TREE: ("ROOT_TREE", "is", 12),
    TERMINAL: ("TERMINAL", "iisi", 12),
    STDIO: ("STDIO", "ii", 12),
    SYSCTL: ("SYSCTL", "ss", 4),
    RLIMIT: ("RLIMIT", "iii", 14),
    OOM_SCORE: ("OOM_SCORE", "i", 14),
    UMASK: ("UMASK", "i", 12),
    CAPS_BOUND: ("CAPS_BOUND", "i", 12),
    USER: ("USER", "iib", 12),
    CAPS: ("CAPS", "iiii", 12),
    NO_NEW_PRIVS: ("NO_NEW_PRIVS", "", 12),
    SECCOMP: ("SECCOMP", "ib", 12),
    PERSONALITY: ("PERSONALITY", "i", 12),
    APPARMOR: ("APPARMOR", "s", 12),
    SELINUX: ("SELINUX", "s", 12),
    SCHEDULER: ("SCHEDULER", "b", 12),
    IO_PRIORITY: ("IO_PRIORITY", "i", 12),
    CHDIR: ("CHDIR", "s", 12),
    CLOSE_FDS: ("CLOSE_FDS", "i", 12),
    WAIT_START: ("WAIT_START", "si", 4),
    EXEC: ("EXEC", "sll", 12),
    DUMPABLE: ("DUMPABLE", "i", 12),
    SECCOMP_AGENT: ("SECCOMP_AGENT", "ibisbb", 12),
    MEMORY_POLICY: ("MEMORY_POLICY", "iib", 12),
    HOME: ("HOME", "i", 12),
    APP: ("APP", "sii", 4),
    INIT: ("INIT", "i", 4),
    EXIT_FILE: ("EXIT_FILE", "s", 16),
    OWN_NULL: ("OWN_NULL", "", 12),
    AFFINITY: ("AFFINITY", "b", 5),
    NET_DEVICE: ("NET_DEVICE", "ss", 2),
    HOLD: ("HOLD", "", 4),
    LENIENT: ("LENIENT", "", 2),
    VOLUME: ("VOLUME", "ssiiiiii", 12),
    ID_MAPS: ("ID_MAPS", "ibb", 1),
    REMOUNT: ("REMOUNT", "sis", 12),
    CHROOT_INTO: ("CHROOT_INTO", "i", 12),
    DETACH: ("DETACH", "i", 16),
    UNLINK_IN: ("UNLINK_IN", "s", 12),
    CHOWN: ("CHOWN", "sii", 1),
    LET_GO: ("LET_GO", "", 2),
}
