/* PID 1 of a pod: holds the namespaces that its apps share, and reaps.  The apps are no children of it but join it, so it
 * needs nothing: no tree, no capability, no descriptor, and no signal means anything to it but the last one. */
#include "stage1.h"

#include <linux/prctl.h>
#include <signal.h>
#include <sys/wait.h>

enum { ALL_CHILDREN = 0 /* P_ALL */ };

static long empty_root(void)
{
	static const char *const options[] = {"size", "4k", "nr_inodes", "2", "mode", "555", NULL};
	long tree = new_mount("tmpfs", options, 1 | 2 | 4 | 8 /* MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC */);
	if (tree < 0)
		return tree;
	long root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	long r = root < 0 ? root : attach(tree, root);
	if (r >= 0)
		r = enter_root(tree);
	sys_close(root);
	sys_close(tree);
	return r;
}

static long let_go_of_all(void)
{
	long r = 0, null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
	if (null < 0)
		return null;
	if (self.empty_root)
		r = empty_root();
	if (r >= 0)
		r = bound_caps(0);
	if (r >= 0)
		r = set_caps(0, 0, 0, 0);
	if (r >= 0)
		r = sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int fd = 0; r >= 0 && fd < 3; fd++)
		r = sys(__NR_dup3, null, fd, 0);
	die_with_parent();
	return r < 0 ? r : close_all_but(3, &self.channel, 1);
}

static _Noreturn void reap(void)
{
	u64 child = 1ull << (SIGCHLD - 1);
	siginfo_t info;
	for (;;)
		if (sys(__NR_waitid, ALL_CHILDREN, 0, &info, WEXITED, NULL) < 0)
			sys(__NR_rt_sigtimedwait, &child, NULL, NULL, sizeof child);
}

long step_INIT(const struct step *step)
{
	struct message ready = {READY, self.index, 0, 0};
	u64 all = ~0ull;
	(void)step;
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
	default_signals();
	long r = let_go_of_all();
	if (r >= 0)
		r = send_message(self.channel, &ready, NULL, 0);
	if (r < 0)
		return r;
	sys_close(self.channel);
	reap();
}
