/* What stage1 was doing within a step when a call failed: the number goes with the error, the words are stage0's.
 *
 * DETAIL(number, NAME, "what was tried")
 *
 * A step that runs a program reports errno 0 and, as its detail, the program's exit code or 128 + its signal.
 */
DETAIL(0, NOWHERE, "")
DETAIL(1, AT_SOURCE, "opening the source")
DETAIL(2, AT_TARGET, "finding the target inside the root")
DETAIL(3, AT_MAKE, "making the target inside the root")
DETAIL(4, AT_OPTION, "setting an option of the file system")
DETAIL(5, AT_CREATE, "creating the file system")
DETAIL(6, AT_ATTRIBUTES, "setting the attributes of the mount")
DETAIL(7, AT_ATTACH, "attaching the mount")
DETAIL(8, AT_PROC, "the target lies in a procfs of the image's making")
DETAIL(9, AT_WRITE, "writing")
DETAIL(10, AT_RENAME, "putting the new file in place")
DETAIL(11, AT_CLONE, "making the process")
DETAIL(12, AT_SYNC, "waiting for the other process")
DETAIL(13, AT_SOCKET, "reaching the console socket")
DETAIL(14, AT_TYPE, "it is not what it should be")
DETAIL(15, AT_TIMEOUT, "it took too long")
DETAIL(16, AT_GROUPS, "setting the groups")
DETAIL(17, AT_GID, "setting the group id")
DETAIL(18, AT_UID, "setting the user id")
DETAIL(19, AT_AMBIENT, "raising an ambient capability")
DETAIL(20, AT_OLD_ROOT, "detaching the host's root")
DETAIL(21, AT_CHDIR, "changing the directory")
