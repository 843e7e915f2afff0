/* The step table: everything that stage1 can do, and the single source of it for C and for Python.
 *
 * STEP(code, NAME, "kinds", phases, "what a person would call it")
 *
 * kinds:  one letter an argument.  s string with its NUL; i int64; b bytes; l list of strings, each with its NUL.
 * phases: where the step may stand, as a bit mask.
 *         B before the clone, in the supervisor, on the host
 *         P in the supervisor after the clone, while the child waits
 *         C in the container's first process, inside its namespaces
 *         E in the supervisor, when the container has ended; a failing E step does not stop the others
 *
 * Codes are never used twice.  A slot is the number, 0..127, of a descriptor that the plan keeps.  The steps of a phase
 * are done in the order of the plan, whatever stands between them; the clone happens after the last B step.
 * Host paths in C steps are looked up before the PIVOT; a container that has none is left where it is.
 */
#define B 1
#define P 2
#define C 4
#define E 16

/* how to fail: the program (with arguments) that stage0 is run as to say what went wrong */
STEP(1, ON_FAILURE, "l", B,
     "argv; the step's index, errno, detail, the descriptor of the plan and that of what a failed program has said, or -1, "
     "are appended; for a HOOK that is E or LENIENT it runs beside, and the plan goes on")

/* the host side: directories, files, cgroups */
STEP(2, MKDIR, "si", B | E, "path, mode: make a directory; existing is fine")
STEP(3, WRITE, "sb", B | P | E, "path, data: one write(2) to an existing file (cgroup and proc files)")
STEP(4, OPEN, "isi", B | C, "slot, path, flags: keep a descriptor")
STEP(5, CLOSE, "i", B | P | C, "slot")
STEP(6, RMDIR, "s", E, "path: missing is fine; EBUSY is tried again for 10 s, after killing what is in a cgroup")
STEP(7, UNLINK, "s", B | E, "path: missing is fine")
STEP(8, RENAME, "ss", B | P | E, "from, to")
STEP(9, CREATE, "sbi", B | P | E, "path, data, mode: a whole file, by temporary file and rename")


STEP(10, OPEN_TREE, "isi", B,
     "slot, host path, copy (bit 0: the whole tree, bit 1: no peer of the host's mounts): a detached copy, made with the "
     "supervisor's rights")
STEP(11, CGROUP_DEVICES, "sb", B | P, "v2 cgroup directory, eBPF instructions: load as BPF_PROG_TYPE_CGROUP_DEVICE, attach")
STEP(12, CONNECT, "is", B, "slot, path of a listening unix stream socket")

/* the clone, and what only the parent can do for the child */
STEP(20, CLONE, "ii", B, "CLONE_NEW* flags, slot of the cgroup directory for CLONE_INTO_CGROUP or -1")
STEP(21, MAP_IDS, "bbi", P, "uid_map text, gid_map text, 1 to deny setgroups first")
STEP(22, MAP_HELPER, "l", P, "argv of newuidmap or newgidmap; {pid} is replaced")
STEP(23, ENTER_CGROUP, "s", P, "directory: write the child's pid to its cgroup.procs")
STEP(24, PID_FILE, "s", P, "path: the container's pid, decimal, no newline, by rename")
STEP(25, RECORD, "s", P, "path: 'pid start-time' of the container's first process, by rename")
STEP(26, ENTER_CGROUP_SLOT, "i", P | C,
     "slot of an open cgroup.procs or tasks: write the child's pid to it, in the child itself 0")
STEP(27, HOOK, "sllisb", P | C | E,
     "path, args (with argv[0]), env (that of EXEC gets its HOME too), timeout in s (0 none), state JSON up to the pid, as "
     "who runs it counts, state JSON after it (empty: no pid is put in); runs to its end; what it says is kept if it fails")
STEP(28, STARTED, "", P, "the P steps after it wait until the program runs (poststart hooks); failing, they end it")
STEP(30, MEET, "", P | C,
     "the supervisor waits until the first process has come to its MEET, does the P steps that follow, then lets it go on "
     "(prestart and createRuntime hooks: after the mounts, before the pivot)")
STEP(31, STILL, "ii", B, "pid, start time: that process has not ended, so what was opened by its number was its own")
STEP(32, SEND_PIDFD, "s", P, "path of a listening unix stream socket: it is sent a pidfd of the container's first process")
STEP(33, ADOPT, "ii", B,
     "pid of a child that runs already, descriptor of its terminal's master or -1: nothing is cloned, it is watched to "
     "its end")
STEP(29, LEAVE, "", B, "the supervisor ends as soon as the program runs: nobody relays, nobody does E steps")

/* namespaces */
STEP(40, SETNS, "ii", B | C, "slot, CLONE_NEW* kind; as B in a short-lived process that makes the clone with "
     "CLONE_PARENT, so that the supervisor stays outside and new namespaces belong to a joined user namespace")
STEP(41, UNSHARE, "i", C, "CLONE_NEW* flags")
STEP(42, SETSID, "", C, "setsid(2)")
STEP(43, KEYRING, "s", C, "name: join a new session keyring")
STEP(44, LOOPBACK, "", C, "bring lo up")
STEP(45, HOSTNAME, "s", C, "sethostname(2)")
STEP(46, DOMAINNAME, "s", C, "setdomainname(2)")
STEP(47, ROOT_IDS, "", C, "setresuid, setresgid to 0, setgroups to none: root of the new user namespace")
STEP(48, TIME, "b", C, "text for timens_offsets: unshare(CLONE_NEWTIME), write it if not empty, setns to it")

/* the root file system; targets are resolved inside the root by openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS) */
STEP(60, PROPAGATION, "si", C, "host path, MS_SLAVE|MS_PRIVATE|MS_SHARED|MS_UNBINDABLE [|MS_REC]")
STEP(61, ROOT_BIND, "si", C, "directory, recursive: bind it on itself and use that as the root")
STEP(62, ROOT_OVERLAY, "slssi", C,
     "directory to mount on, lower directories top first, upper, work (both empty: read-only), bit 0 volatile bit 1 "
     "userxattr")
STEP(63, MOUNT, "sssisi", C,
     "fstype, source, target, MS_* flags, data, make (0 no, 1 directory, 2 file, 3 directory whose mode, if it is there, "
     "a tmpfs takes, 4 as 3, and its content too): fsopen, fsmount, move_mount")
STEP(64, BIND, "ssiiii", C,
     "host source, target, recursive copy, MOUNT_ATTR_* to set, to clear (top mount only), make (0 no, else what "
     "the source is)")
STEP(65, SET_ATTR, "siii", C, "target, recursive, MOUNT_ATTR_* to set, to clear")
STEP(66, SET_PROPAGATION, "si", C, "target, MS_* propagation")
STEP(67, MKNOD, "siiii", C, "target, mode with type, makedev number, uid, gid; an existing equal node is fine")
STEP(68, SYMLINK, "ss", C, "text, target; an existing one stays")
STEP(69, MASK, "s", C,
     "target: a file under /dev/null, a directory under an empty read-only tmpfs; missing is fine; before the "
     "pivot, under host's /dev/null")
STEP(70, READ_ONLY, "s", C, "target: bind on itself read-only, missing is fine")
STEP(71, PIVOT, "", C, "pivot_root into the root, detach the old one, chdir /")
STEP(72, CHROOT, "", C,
     "hide the host's procfs and sysfs, move the root's mount to / and chroot into it (no pivot_root: ramfs)")
STEP(73, ROOT_READ_ONLY, "", C, "remount / read-only (after the pivot)")
STEP(74, MKDIR_IN, "siii", C, "target, mode, uid, gid; existing stays as it is")
STEP(75, ROOT_EMPTY, "", C,
     "before INIT: a pod's PID 1: pivot into an empty read-only tmpfs")
STEP(76, ROOT_TREE, "is", C,
     "slot of an OPEN_TREE, directory: attach the tree there, or on / where that is out of reach, and use it as the root")

/* the process */
STEP(90, TERMINAL, "iisi", C,
     "rows, columns, path of the console socket or empty (then the supervisor relays), owner uid: a pty of the "
     "container's devpts")
STEP(91, STDIO, "ii", C, "slot, descriptor 0..2: dup2")
STEP(92, SYSCTL, "ss", C, "name with dots or slashes, value: through a procfs of its own")
STEP(93, RLIMIT, "iii", P | C,
     "resource, soft, hard (-1 is infinity); as P the child's hard limit, if that is lower: only the host's root may raise it")
STEP(94, OOM_SCORE, "i", P | C, "oom_score_adj; as P for the child, which a user namespace needs")
STEP(95, UMASK, "i", C, "")
STEP(96, CAPS_BOUND, "i", C, "mask: drop the rest from the bounding set")
STEP(97, USER, "iib", C, "uid, gid, u32 groups: setgroups, setresgid, setresuid, keeping permitted capabilities")
STEP(98, CAPS, "iiii", C, "effective, permitted, inheritable, ambient masks")
STEP(99, NO_NEW_PRIVS, "", C, "")
STEP(100, SECCOMP, "ib", C, "SECCOMP_FILTER_FLAG_*, struct sock_filter[]; the last before WAIT_START and EXEC")
STEP(101, PERSONALITY, "i", C, "")
STEP(102, APPARMOR, "s", C, "profile for exec; failing is fatal")
STEP(103, SELINUX, "s", C, "label for exec; failing is fatal")
STEP(104, SCHEDULER, "b", C, "struct sched_attr")
STEP(105, IO_PRIORITY, "i", C, "ioprio_set value")
STEP(106, CHDIR, "s", C, "inside the root; must not be unreachable")
STEP(107, CLOSE_FDS, "i", C,
     "first descriptor to close (3 + preserved); what USER, HOOK, SECCOMP_AGENT and WAIT_START still need is closed by EXEC")
STEP(108, WAIT_START, "si", C,
     "fifo path (opened first of all), 1 to let an ordinary creator join meanwhile: set up; block until somebody opens "
     "it for reading; the supervisor leaves")
STEP(109, EXEC, "sll", C, "program (searched in the PATH of env unless it has a slash), argv, env; never returns")
STEP(110, DUMPABLE, "i", C, "PR_SET_DUMPABLE")
STEP(111, SECCOMP_AGENT, "ibisbb", C,
     "SECCOMP_FILTER_FLAG_*, struct sock_filter[], slot of the CONNECTed agent, state JSON up to the pid, after it, after the "
     "pid again (empty: no second time): as SECCOMP, then send the JSON with the listener as SCM_RIGHTS")
STEP(113, HOME, "i", C, "uid: put HOME into the environment of EXEC, as the root's /etc/passwd has it, else /")
STEP(112, MEMORY_POLICY, "iib", C, "set_mempolicy(2): mode with flags, number of bits, node mask")

/* a pod's PID 1 */
STEP(121, INIT, "", C, "the last step of a pod's PID 1: give everything up, reap until the supervisor ends us")

/* the end */
STEP(140, EXIT_FILE, "s", E,
     "path: exit code as decimal with newline, by rename; for a pod a directory, in it one file NAME an app")

/* after the pivot */
STEP(160, OWN_NULL, "", C, "descriptors 0..2 that are /dev/null become the root's own: the host's is not the container's")

/* later additions; the last one has the highest code */
STEP(170, AFFINITY, "b", B | C,
     "mask for sched_setaffinity(2) of who does the step; empty is all processors, as far as it may")
STEP(171, NET_DEVICE, "ss", P, "network device, its name there: move it into the child's network namespace with its addresses, up")
STEP(172, HOLD, "", C, "in the place of WAIT_START: set up; nothing is ever started")
STEP(173, LENIENT, "", P, "a HOOK after this that fails is told of by ON_FAILURE, and passed over")

/* mounts, continued */
STEP(180, VOLUME, "ssiiiiii", C,
     "host source, target, how (bit 0: the whole tree, bit 1: map the ids of the whole tree, bit 2: the OPEN_TREE comes "
     "first, bit 3: what the host has set on it is locked, bit 4: the supervisor maps the ids), MOUNT_ATTR_* to set, to clear, to clear unless a user "
     "namespace may not, slot of an OPEN_TREE for a source that is out of reach or -1, slot of a user namespace whose "
     "maps it gets or -1: bind a directory or file")
STEP(181, ID_MAPS, "ibb", B, "slot, uid_map text, gid_map text: a user namespace with these maps and nobody in it")
STEP(182, REMOUNT, "sis", C, "target, MS_* flags of the file system, data: fspick, fsconfig")
STEP(183, CHROOT_INTO, "i", C,
     "slot of a directory, or -1 for the root: chroot there; the mounts stay where they are (no mount namespace)")
STEP(184, DETACH, "i", E, "slot of an OPEN_TREE that ROOT_TREE has attached: umount it with all that is on it")
STEP(185, UNLINK_IN, "s", C, "target: remove the file or link; missing is fine")

/* cgroups, continued */
STEP(186, CHOWN, "sii", B, "path, uid, gid: make a cgroup or a file of it another user's; missing is fine")

STEP(190, LET_GO, "", P, "end the process that held the container's unit until now, and wait until it is gone")

/* pods: the supervisor of the plan with POD runs its apps, each by a stage1 of its own with a plan of its own, which finds
 * PID 1's namespaces user, pid, ipc, uts, net as descriptors 100 to 104 */
STEP(200, POD, "ssii", B,
     "path of the control socket or empty, path that gets 'pid start-time' of the supervisor or empty, bit 0: goes on "
     "without apps, ms between the signal that ends an app and KILL")
STEP(201, POD_APP, "siiib", B,
     "name, descriptors (-1 none) of the sealed plans of its pre-start, of the app, of its post-stop, struct policy")
STEP(203, GATE, "", P, "the member waits until all apps that the pod starts with have come here")
STEP(202, MEMBER, "", B, "the supervisor belongs to an app of a pod: it ends with its maker, whose signals it obeys, not the terminal's")
STEP(220, METADATA, "sssi", C,
     "path of the table, path of the key, IPv4 address, port: listen there, and have a process beside the supervisor serve it "
     "(pyrkt/metadata)")

/* what an app writes and reads */
STEP(230, STREAMS, "siiissb", B,
     "log file or empty, most bytes a file, files, modes (bits 0..3 stdin: 0 inherited, 1 null, 2 a pipe for those who attach, "
     "3 a terminal for them, 4 a terminal for us too; then four each for what comes from the terminal, stdout and stderr: 1 "
     "logged, 2 passed on to our own, 4 for those who attach, none: null, 8 alone: it is the terminal), socket to "
     "attach to or empty, name before each line on a terminal of ours or empty, journal fields or empty: make the pipes")
STEP(231, STREAM_ENDS, "", C, "put the program's ends of STREAMS in the place of descriptors 0..2; after the TERMINAL")

/* pods whose apps are another runtime's */
STEP(240, TELL, "ll", B,
     "argv, env of a program that tells the container of a signal, {signal} being its number: the first process does not "
     "pass on what it is sent")

/* sockets that somebody has opened for the pod */
STEP(250, LISTEN, "b", C,
     "u16 port, u16 0 for tcp or 1 for udp, ...: of the supervisor's LISTEN_FDS keep those at these ports, as 3 and on, and tell "
     "the program; before the CLOSE_FDS")

#undef B
#undef P
#undef C
#undef E
