/* namespaces(7): joining, leaving, and what a new one needs before it is of use. */
#include "stage1.h"
#include "text.h"

#include <linux/if.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

long step_SETNS(const struct step *step)
{
	/* as B it is the joining process's step: the supervisor stays where it is */
	if (self.phase == BEFORE && !self.joining)
		return 0;
	long fd = kept(step_number(step, 0));
	return fd < 0 ? fd : sys(__NR_setns, fd, step_number(step, 1));
}

long step_UNSHARE(const struct step *step)
{
	return sys(__NR_unshare, step_number(step, 0));
}

long step_HOSTNAME(const struct step *step)
{
	return sys(__NR_sethostname, step_text(step, 0), strlen(step_text(step, 0)));
}

long step_DOMAINNAME(const struct step *step)
{
	return sys(__NR_setdomainname, step_text(step, 0), strlen(step_text(step, 0)));
}

long step_LOOPBACK(const struct step *step)
{
	(void)step;
	struct ifreq request = {.ifr_name = "lo"};
	long fd = sys(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	long r = sys(__NR_ioctl, fd, SIOCGIFFLAGS, &request);
	if (r >= 0) {
		request.ifr_flags |= IFF_UP;
		r = sys(__NR_ioctl, fd, SIOCSIFFLAGS, &request);
	}
	sys_close(fd);
	return r;
}

long step_TIME(const struct step *step)
{
	struct bytes offsets = step->arg[0];
	long r = sys(__NR_unshare, CLONE_NEWTIME);
	self.detail = AT_WRITE;
	if (r >= 0 && offsets.size)
		r = proc_write_own("self/timens_offsets", offsets.at, offsets.size);
	if (r < 0)
		return r;
	self.detail = AT_SOURCE;
	long fd = sys_open(self.proc, "self/ns/time_for_children", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	r = sys(__NR_setns, fd, CLONE_NEWTIME);
	sys_close(fd);
	return r;
}

/* A user namespace with these maps and nobody in it: its descriptor tells mount_setattr(2) which ids become which. */
static long map_namespace(struct bytes uids, struct bytes gids)
{
	i32 pidfd = -1;
	char path[40];
	self.detail = AT_CLONE;
	i64 pid = clone_process(CLONE_NEWUSER, &pidfd, -1);
	if (pid == 0) {
		die_with_parent();
		for (;;)
			sys(__NR_ppoll, NULL, 0, NULL, NULL, 0); /* until it is killed, below */
	}
	if (pid < 0)
		return pid;
	self.detail = AT_OPTION;
	long r = map_ids(pid, uids, gids, false);
	if (r >= 0) {
		struct text text = TEXT(path);
		text_add_number(&text, pid);
		text_add(&text, "/ns/user");
		r = sys_open(self.proc, path, O_RDONLY, 0);
	}
	sys(__NR_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	wait_for(pidfd);
	sys_close(pidfd);
	return r;
}

long step_ID_MAPS(const struct step *step)
{
	return keep(step_number(step, 0), map_namespace(step->arg[1], step->arg[2]));
}

long step_OPEN_TREE(const struct step *step)
{
	enum { WHOLE = 1, NO_PEER = 2 };
	i64 copy = step_number(step, 2);
	self.detail = AT_SOURCE;
	long tree = sys(__NR_open_tree, AT_FDCWD, step_text(step, 1),
			OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (copy & WHOLE ? AT_RECURSIVE : 0));
	if (tree < 0)
		return tree;
	long r = copy & NO_PEER ? propagate(tree, MS_PRIVATE | MS_REC) : 0;
	if (r >= 0)
		return keep(step_number(step, 0), tree);
	sys_close(tree);
	return r;
}
