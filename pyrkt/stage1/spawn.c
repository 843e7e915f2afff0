/* The clone, and the first process up to its first step. */
#include "stage1.h"

#include <linux/prctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/socket.h>

struct born { /* what the joining process tells the supervisor */
	i64 pid, error, detail;
	u32 index;
	i32 pidfd;
};

static i64 clone_words(u64 flags, u64 exit_signal, i32 *pidfd, long cgroup)
{
	struct clone_args args = {.flags = flags | CLONE_PIDFD, .pidfd = (u64)(uintptr_t)pidfd, .exit_signal = exit_signal};
	if (cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (u64)cgroup;
	}
	long r = sys(__NR_clone3, &args, sizeof args);
	/* Filters cannot look into clone3's arguments and say that it does not exist; a hook may run under one. */
	if (r == -ENOSYS && cgroup < 0)
		r = sys(__NR_clone, args.flags | exit_signal, 0, pidfd, 0, 0);
	return r;
}

i64 clone_process(u64 flags, i32 *pidfd, long cgroup)
{
	return clone_words(flags, SIGCHLD, pidfd, cgroup);
}

/* The caller's variables, secrets among them, are no concern of whoever can read /proc/1/environ inside. */
static void forget_environment(void)
{
	for (char **word = self.environment; *word; word++)
		memset(*word, 0, strlen(*word));
}

static _Noreturn void first_process(long channel)
{
	sys_close(self.channel);
	self.channel = channel;
	sys_close(self.report);
	sys_close(self.plan_fd);
	self.report = self.plan_fd = -1;
	self.phase = CHILD;
	forget_environment();
	if (!self.leaves)
		die_with_parent();
	await_go();
	/* Not before: until its ids are mapped, an unprivileged supervisor must be able to open our uid_map. */
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	sys(__NR_umask, 0);
	self.root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	give_up(run_steps(CHILD, 0, self.plan.count));
}

/* Joins what the plan's B SETNS steps name, and makes the clone from there with the supervisor as its parent. */
static _Noreturn void joining_process(u64 flags, long cgroup, long channel, long tell)
{
	struct born born = {.pidfd = -1};
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0); /* before anybody inside can see us (CVE-2019-5736) */
	forget_environment();
	self.joining = true;
	for (u32 i = 0; i < self.plan.count && born.error >= 0; i++)
		if (self.plan.steps[i].code == STEP_SETNS)
			born.error = run_steps(BEFORE, i, i + 1);
	if (born.error >= 0) {
		self.index = next_step(0, BEFORE, STEP_CLONE);
		self.detail = AT_CLONE;
		/* with CLONE_PARENT the exit signal is ours, SIGCHLD */
		born.pid = born.error = clone_words(flags | CLONE_PARENT, 0, &born.pidfd, cgroup);
		if (born.pid == 0)
			first_process(channel);
	}
	born.index = self.index;
	born.detail = self.detail;
	write_all(tell, &born, sizeof born);
	sys_exit(0);
}

/* The descriptors are one table for both, so the number of the pidfd is good here too. */
static i64 clone_joined(u64 flags, i32 *pidfd, long cgroup, long channel)
{
	struct born born = {.error = -ECHILD};
	i32 tell[2], helper = -1;
	long r = sys(__NR_pipe2, tell, O_CLOEXEC);
	if (r < 0)
		return r;
	i64 pid = clone_words(CLONE_FILES, SIGCHLD, &helper, -1);
	if (pid == 0)
		joining_process(flags, cgroup, channel, tell[1]);
	if (pid > 0) {
		wait_for(helper);
		sys_close(tell[1]); /* the helper, while it lived, shared it */
		tell[1] = -1;
		if (read_all(tell[0], &born, sizeof born) == sizeof born) {
			self.index = born.index;
			self.detail = born.detail;
		}
		*pidfd = born.pidfd;
		pid = born.error < 0 ? born.error : born.pid;
	}
	sys_close(helper);
	sys_close(tell[0]);
	sys_close(tell[1]);
	return pid;
}

/* Opened before any namespace is entered: later it may be out of reach, or of sight. */
static long open_fifo(void)
{
	u32 waiting = next_step(0, CHILD, STEP_WAIT_START);
	if (waiting == self.plan.count)
		return 0;
	self.index = waiting;
	self.detail = AT_SOURCE;
	self.fifo = sys_open(AT_FDCWD, step_text(&self.plan.steps[waiting], 0), O_PATH | O_NOFOLLOW, 0);
	return self.fifo < 0 ? self.fifo : 0;
}

long spawn(void)
{
	i32 pair[2], pidfd = -1;
	long r = open_fifo();
	if (r < 0)
		return r;
	self.index = next_step(0, BEFORE, STEP_CLONE);
	self.detail = AT_CLONE;
	const struct step *step = &self.plan.steps[self.index];
	u64 flags = (u64)step_number(step, 0);
	long cgroup = step_number(step, 1) < 0 ? -1 : kept(step_number(step, 1));
	if (cgroup < -1)
		return cgroup;
	r = sys(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (r < 0)
		return r;
	self.channel = pair[0];
	i64 pid = self.joins ? clone_joined(flags, &pidfd, cgroup, pair[1]) : clone_process(flags, &pidfd, cgroup);
	if (pid == 0)
		first_process(pair[1]);
	sys_close(pair[1]);
	if (pid < 0)
		return (long)pid;
	self.child = pid;
	self.child_fd = pidfd;
	return 0;
}
