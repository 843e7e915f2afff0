/* PID 1 of a pod: starts the apps together, reaps, passes signals on, and ends the pod. */
#include "stage1.h"

#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

enum { ALL_CHILDREN = 0 /* P_ALL */, CAP_KILL_BIT = 5 };

struct app {
	u32 index; /* of its APP step */
	i64 pid;
	i32 pidfd;
	bool ended;
};

static struct {
	struct app apps[MAX_APPS];
	u32 count, left, ready;
	i64 code;	  /* of the first app that failed */
	i64 grace_ms, deadline; /* 0: nobody is being ended */
	bool released, announced, ending, interrupted;
	i32 ready_pipe[2], go_pipe[2];
	long signals, null;
} pod;

static i64 now_ms(void)
{
	struct timespec now = {0, 0};
	sys(__NR_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void signal_apps(int number)
{
	for (u32 i = 0; i < pod.count; i++)
		if (!pod.apps[i].ended)
			sys(__NR_pidfd_send_signal, pod.apps[i].pidfd, number, NULL, 0);
}

static void end_pod(int number)
{
	if (pod.ending)
		return;
	pod.ending = true;
	pod.deadline = now_ms() + pod.grace_ms;
	signal_apps(number);
}

static _Noreturn void app_process(u32 ordinal)
{
	u32 index = pod.apps[ordinal].index;
	self.phase = APP_PHASE;
	self.ready = pod.ready_pipe[1];
	self.go = pod.go_pipe[0];
	sys_close(pod.go_pipe[1]); /* or its end would never be seen */
	sys_close(pod.ready_pipe[0]);
	/* a new mount namespace has a root of its own: the old descriptor is the other one's */
	sys_close(self.root);
	self.root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	give_up(run_steps(APP_PHASE, index + 1, next_step(index + 1, CHILD, STEP_APP)));
}

static long fork_apps(void)
{
	for (u32 i = next_step(0, CHILD, STEP_APP); i < self.plan.count; i = next_step(i + 1, CHILD, STEP_APP)) {
		struct app *app = &pod.apps[pod.count];
		app->index = i;
		app->pid = clone_process((u64)step_number(&self.plan.steps[i], 1), &app->pidfd, -1);
		if (app->pid == 0)
			app_process(pod.count);
		if (app->pid < 0) {
			self.index = i;
			self.detail = AT_CLONE;
			return (long)app->pid;
		}
		pod.count++;
		pod.left++;
	}
	sys_close(pod.ready_pipe[1]);
	sys_close(pod.go_pipe[0]);
	return 0;
}

static void app_ended(u32 ordinal, i64 code)
{
	struct app *app = &pod.apps[ordinal];
	struct message message = {EXITED, ordinal, code, 0};
	if (!pod.released) {
		/* it has said why, unless it was killed: then its code must do */
		self.index = app->index;
		self.detail_of_program = code;
		give_up(PROGRAM_FAILED);
	}
	app->ended = true;
	sys_close(app->pidfd);
	app->pidfd = -1;
	pod.left--;
	send_message(self.channel, &message, NULL, 0);
	if (!code)
		return;
	if (!pod.code)
		pod.code = code;
	if (step_number(&self.plan.steps[app->index], 2))
		end_pod(SIGTERM);
}

static void reap(void)
{
	siginfo_t info;
	for (;;) {
		memset(&info, 0, sizeof info);
		long r = sys(__NR_waitid, ALL_CHILDREN, 0, &info, WEXITED | WNOHANG, NULL);
		if (r < 0 || !info.si_pid)
			return;
		i64 code = info.si_code == CLD_EXITED ? info.si_status & 0xff : 128 + info.si_status;
		for (u32 i = 0; i < pod.count; i++)
			if (!pod.apps[i].ended && pod.apps[i].pid == info.si_pid)
				app_ended(i, code);
	}
}

static void read_signals(void)
{
	struct signalfd_siginfo info;
	while (sys(__NR_read, pod.signals, &info, sizeof info) == sizeof info) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			reap();
			break;
		case SIGINT:
			if (pod.interrupted)
				signal_apps(SIGKILL); /* asked twice: no more patience */
			pod.interrupted = true;
			end_pod(SIGINT);
			break;
		case SIGTERM:
			end_pod(SIGTERM);
			break;
		default:
			signal_apps((int)info.ssi_signo);
		}
	}
}

/* Leaves nothing to a program that breaks into PID 1: no tree, no capability but to signal, no descriptor. */
static long let_go_of_all(void)
{
	static const char *const options[] = {"size", "4k", "nr_inodes", "2", "mode", "555", NULL};
	const u64 kill_only = 1u << CAP_KILL_BIT;
	long r = 0;
	if (self.empty_root) {
		long tree = new_mount("tmpfs", options, 1 | 2 | 4 | 8 /* MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC */);
		if (tree < 0)
			return tree;
		long root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
		r = root < 0 ? root : attach(tree, root);
		if (r >= 0)
			r = enter_root(tree);
		sys_close(root);
		sys_close(tree);
	}
	if (r >= 0)
		r = bound_caps(kill_only);
	if (r >= 0)
		r = set_caps(kill_only, kill_only, 0, 0);
	if (r >= 0)
		r = sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int fd = 0; r >= 0 && fd < 3; fd++)
		r = sys(__NR_dup3, pod.null, fd, 0);
	die_with_parent();
	return r;
}

/* PID 1 never executes anything, so close-on-exec closes nothing here. */
static long close_the_rest(void)
{
	long kept_fds[MAX_APPS + 4] = {self.channel, pod.signals, pod.ready_pipe[0], pod.go_pipe[1]};
	u32 count = 4;
	for (u32 i = 0; i < pod.count; i++)
		if (!pod.apps[i].ended)
			kept_fds[count++] = pod.apps[i].pidfd;
	return close_all_but(3, kept_fds, count);
}

/* All apps are set up: nothing of the host is left to us before a program runs that could take it. */
static long release(void)
{
	static const u8 go[MAX_APPS];
	long r = let_go_of_all();
	if (r >= 0)
		r = close_the_rest();
	if (r < 0)
		return r;
	pod.released = true;
	r = write_all(pod.go_pipe[1], go, pod.count); /* a byte an app */
	sys_close(pod.go_pipe[1]);
	return r;
}

/* Bytes come from apps that are set up; the end comes when each of them has become its program. */
static long read_ready(void)
{
	u8 bytes[MAX_APPS];
	long got = sys(__NR_read, pod.ready_pipe[0], bytes, sizeof bytes);
	if (got > 0) {
		pod.ready += (u32)got;
		return pod.ready == pod.count ? release() : 0;
	}
	if (got == 0 && pod.released && !pod.announced) {
		struct message message = {READY, self.index, 0, 0};
		pod.announced = true;
		send_message(self.channel, &message, NULL, 0);
		sys_close(pod.ready_pipe[0]);
		pod.ready_pipe[0] = -1;
	}
	return 0;
}

static long watch(void)
{
	while (pod.left || !pod.announced) {
		struct pollfd polls[2] = {{.fd = (int)pod.signals, .events = POLLIN},
					  {.fd = pod.ready_pipe[0], .events = POLLIN}};
		i64 rest = pod.deadline ? pod.deadline - now_ms() : 0;
		struct timespec limit = {.tv_sec = rest / 1000, .tv_nsec = rest % 1000 * 1000000};
		if (pod.deadline && rest <= 0) {
			pod.deadline = 0;
			signal_apps(SIGKILL);
			continue;
		}
		if (sys(__NR_ppoll, polls, 2, pod.deadline ? &limit : NULL, NULL, 8) < 0)
			continue;
		if (polls[1].fd >= 0 && polls[1].revents) {
			long r = read_ready();
			if (r < 0)
				return r;
		}
		if (polls[0].revents)
			read_signals();
	}
	sys_exit((int)pod.code);
}

long step_INIT(const struct step *step)
{
	u64 all = ~0ull;
	pod.grace_ms = step_number(step, 0);
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
	default_signals();
	sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	pod.null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
	if (pod.null < 0)
		return pod.null;
	pod.signals = sys(__NR_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (pod.signals < 0)
		return pod.signals;
	long r = sys(__NR_pipe2, pod.ready_pipe, O_CLOEXEC);
	if (r >= 0)
		r = sys(__NR_pipe2, pod.go_pipe, O_CLOEXEC);
	if (r >= 0)
		r = fork_apps();
	return r < 0 ? r : watch();
}
