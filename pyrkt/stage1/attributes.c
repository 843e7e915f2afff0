/* What a process carries through exec(2) besides its ids: limits, filters, scheduling, session. */
#include "stage1.h"
#include "text.h"

#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { FIRST_FD = 3, NULL_DEVICE = 1 << 8 | 3 };

long step_SETSID(const struct step *step)
{
	(void)step;
	long r = sys(__NR_setsid);
	return r < 0 ? r : 0;
}

long step_KEYRING(const struct step *step)
{
	long r = sys(__NR_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, step_text(step, 0));
	return r < 0 && r != -ENOSYS ? r : 0; /* a kernel without keys has none to show */
}

long step_STDIO(const struct step *step)
{
	long fd = kept(step_number(step, 0)), number = step_number(step, 1);
	if (fd < 0)
		return fd;
	self.own_stdio |= 1u << (number & 3);
	return sys(__NR_dup3, fd, number, 0);
}

static bool is_null(long fd)
{
	struct stat found;
	return sys_stat(fd, &found) >= 0 && S_ISCHR(found.st_mode) && found.st_rdev == NULL_DEVICE;
}

/* Through a descriptor of the host's node its owner and mode could be changed for everybody. What cannot be had in the
 * root, as where a user namespace keeps devices back, changes nothing: there the host's node is not the root's either. */
long step_OWN_NULL(const struct step *step)
{
	(void)step;
	long own = -1, r = 0;
	for (int fd = 0; r >= 0 && fd < FIRST_FD; fd++) {
		if (!is_null(fd))
			continue;
		/* for reading and writing: then even a fifo in its place would not make us wait */
		if (own < 0)
			own = in_root("/dev/null", O_RDWR | O_NOCTTY | O_NOFOLLOW, 0);
		if (own < 0 || !is_null(own))
			break;
		r = sys(__NR_dup3, own, fd, 0);
	}
	sys_close(own);
	return r < 0 ? r : 0;
}

long step_RLIMIT(const struct step *step)
{
	u64 limit[2] = {(u64)step_number(step, 1), (u64)step_number(step, 2)};
	if (self.phase != PARENT)
		return sys(__NR_prlimit64, 0, step_number(step, 0), limit, NULL);
	/* The child lowers what it may itself, and later: until then it has more descriptors open than the program. */
	u64 now[2] = {0, 0};
	long r = sys(__NR_prlimit64, self.child, step_number(step, 0), NULL, now);
	if (r < 0 || limit[1] <= now[1])
		return r;
	limit[0] = now[0];
	return sys(__NR_prlimit64, self.child, step_number(step, 0), limit, NULL);
}

long step_UMASK(const struct step *step)
{
	/* set at the very end: the modes of what later steps make are theirs */
	self.umask = (u32)step_number(step, 0);
	return 0;
}

long step_NO_NEW_PRIVS(const struct step *step)
{
	(void)step;
	return sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static long filter(struct bytes code, u64 flags)
{
	struct sock_fprog program = {.len = (u16)(code.size / sizeof(struct sock_filter)),
				     .filter = (struct sock_filter *)(uintptr_t)code.at};
	if (!code.size || code.size % sizeof(struct sock_filter) || code.size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EINVAL;
	return sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

long step_SECCOMP(const struct step *step)
{
	return filter(step->arg[1], (u64)step_number(step, 0));
}

long step_SECCOMP_AGENT(const struct step *step)
{
	char digits[24];
	struct text pid = TEXT(digits);
	union {
		struct cmsghdr head;
		u8 bytes[CMSG_SPACE(sizeof(i32))];
	} control;
	/* both before the filter is there: it may well ask the agent about these calls */
	long agent = kept(step_number(step, 2));
	text_add_number(&pid, own_pid());
	if (agent < 0)
		return agent;
	i32 listener = (i32)filter(step->arg[1], (u64)step_number(step, 0) | SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (listener < 0)
		return listener;
	struct iovec data[] = {{(void *)(uintptr_t)step->arg[3].at, step->arg[3].size - 1},
			       {digits, pid.used},
			       {(void *)(uintptr_t)step->arg[4].at, step->arg[4].size},
			       {digits, step->arg[5].size ? pid.used : 0},
			       {(void *)(uintptr_t)step->arg[5].at, step->arg[5].size}};
	memset(&control, 0, sizeof control);
	control.head = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof listener), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.head), &listener, sizeof listener);
	struct msghdr head = {
		.msg_iov = data, .msg_iovlen = sizeof data / sizeof *data, .msg_control = &control, .msg_controllen = sizeof control};
	long r = sys(__NR_sendmsg, agent, &head, MSG_NOSIGNAL);
	sys_close(listener);
	return r < 0 ? r : 0;
}

long step_PERSONALITY(const struct step *step)
{
	long r = sys(__NR_personality, step_number(step, 0));
	return r < 0 ? r : 0;
}

long step_SCHEDULER(const struct step *step)
{
	return sys(__NR_sched_setattr, 0, step->arg[0].at, 0);
}

long step_AFFINITY(const struct step *step)
{
	u8 all[1024]; /* the most that the kernel reads: NR_CPUS is 8192 */
	if (step->arg[0].size)
		return sys(__NR_sched_setaffinity, 0, step->arg[0].size, step->arg[0].at);
	memset(all, 0xff, sizeof all);
	sys(__NR_sched_setaffinity, 0, sizeof all, all); /* the caller's own is no worse than what a sandbox leaves us */
	return 0;
}

long step_IO_PRIORITY(const struct step *step)
{
	return sys(__NR_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, step_number(step, 0));
}

long step_MEMORY_POLICY(const struct step *step)
{
	/* a mask of no bits is none: of a pointer the kernel would read one bit less */
	const u8 *nodes = step->arg[2].size ? step->arg[2].at : NULL;
	return sys(__NR_set_mempolicy, step_number(step, 0), nodes, step_number(step, 1));
}

long step_DUMPABLE(const struct step *step)
{
	return sys(__NR_prctl, PR_SET_DUMPABLE, step_number(step, 0), 0, 0, 0);
}
