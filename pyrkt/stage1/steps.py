"""The step table of steps.h and details.h for Python; written by tests/unit/stage1/table.py, not by hand."""

ON_FAILURE = 1
MKDIR = 2
WRITE = 3
OPEN = 4
CLOSE = 5
RMDIR = 6
UNLINK = 7
RENAME = 8
CREATE = 9
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
SETNS = 40
UNSHARE = 41
SETSID = 42
KEYRING = 43
LOOPBACK = 44
HOSTNAME = 45
DOMAINNAME = 46
ROOT_IDS = 47
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
INIT = 121
EXIT_FILE = 140

# code: (name, kinds of the arguments, phases as a mask)
TABLE = {
    1: ("ON_FAILURE", "l", 1),
    2: ("MKDIR", "si", 17),
    3: ("WRITE", "sb", 19),
    4: ("OPEN", "isi", 13),
    5: ("CLOSE", "i", 15),
    6: ("RMDIR", "s", 16),
    7: ("UNLINK", "s", 17),
    8: ("RENAME", "ss", 19),
    9: ("CREATE", "sbi", 19),
    20: ("CLONE", "ii", 1),
    21: ("MAP_IDS", "bbi", 2),
    22: ("MAP_HELPER", "l", 2),
    23: ("ENTER_CGROUP", "s", 10),
    24: ("PID_FILE", "s", 2),
    25: ("RECORD", "s", 2),
    26: ("ENTER_CGROUP_SLOT", "i", 10),
    27: ("HOOK", "sllisb", 22),
    28: ("STARTED", "", 2),
    29: ("LEAVE", "", 1),
    40: ("SETNS", "ii", 13),
    41: ("UNSHARE", "i", 12),
    42: ("SETSID", "", 12),
    43: ("KEYRING", "s", 4),
    44: ("LOOPBACK", "", 4),
    45: ("HOSTNAME", "s", 4),
    46: ("DOMAINNAME", "s", 4),
    47: ("ROOT_IDS", "", 4),
    60: ("PROPAGATION", "si", 12),
    61: ("ROOT_BIND", "si", 12),
    62: ("ROOT_OVERLAY", "slssi", 12),
    63: ("MOUNT", "sssisi", 12),
    64: ("BIND", "ssiiii", 12),
    65: ("SET_ATTR", "siii", 12),
    66: ("SET_PROPAGATION", "si", 12),
    67: ("MKNOD", "siiii", 12),
    68: ("SYMLINK", "ss", 12),
    69: ("MASK", "s", 12),
    70: ("READ_ONLY", "s", 12),
    71: ("PIVOT", "", 12),
    72: ("CHROOT", "", 12),
    73: ("ROOT_READ_ONLY", "", 12),
    74: ("MKDIR_IN", "siii", 12),
    75: ("ROOT_EMPTY", "", 4),
    90: ("TERMINAL", "iisi", 12),
    91: ("STDIO", "ii", 12),
    92: ("SYSCTL", "ss", 4),
    93: ("RLIMIT", "iii", 12),
    94: ("OOM_SCORE", "i", 14),
    95: ("UMASK", "i", 12),
    96: ("CAPS_BOUND", "i", 12),
    97: ("USER", "iib", 12),
    98: ("CAPS", "iiii", 12),
    99: ("NO_NEW_PRIVS", "", 12),
    100: ("SECCOMP", "ib", 12),
    101: ("PERSONALITY", "i", 12),
    102: ("APPARMOR", "s", 12),
    103: ("SELINUX", "s", 12),
    104: ("SCHEDULER", "b", 12),
    105: ("IO_PRIORITY", "i", 12),
    106: ("CHDIR", "s", 12),
    107: ("CLOSE_FDS", "i", 12),
    108: ("WAIT_START", "s", 4),
    109: ("EXEC", "sll", 12),
    110: ("DUMPABLE", "i", 12),
    121: ("INIT", "i", 4),
    140: ("EXIT_FILE", "s", 16),
}

# what stage1 was doing within the step that failed
DETAILS = {
    0: "",
    1: "opening the source",
    2: "finding the target inside the root",
    3: "making the target inside the root",
    4: "setting an option of the file system",
    5: "creating the file system",
    6: "setting the attributes of the mount",
    7: "attaching the mount",
    8: "the target lies in a procfs of the image's making",
    9: "writing",
    10: "putting the new file in place",
    11: "making the process",
    12: "waiting for the other process",
    13: "reaching the console socket",
    14: "it is not what it should be",
    15: "it took too long",
    16: "setting the groups",
    17: "setting the group id",
    18: "setting the user id",
    19: "raising an ambient capability",
    20: "detaching the host's root",
    21: "changing the directory",
}
