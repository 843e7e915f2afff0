/* A member: the stage1 that runs one app of a pod, as its supervisor makes it and hears of it. */
#include "stage1.h"
#include "text.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Where a member finds what it is given. */
enum { NAMESPACE_FDS = 100, NAMESPACES = 5, PLAN_FD = 105, REPORT_FD = 106, GIVEN = 7 };

static struct {
	i32 namespaces[NAMESPACES], image;
	u32 sockets; /* that were opened for the pod */
} given_to;

/* While PID 1 is still what its maker was: later only root of the host may look at its namespaces. */
long member_open(void)
{
	static const char *const kinds[NAMESPACES] = {"user", "pid", "ipc", "uts", "net"};
	u32 at = next_step(0, BEFORE, STEP_POD);
	if (at == self.plan.count)
		return 0;
	given_to.image = (i32)sys_open(self.proc, "self/exe", O_PATH, 0);
	for (int i = 0; i < NAMESPACES; i++) {
		char path[48];
		struct text text = TEXT(path);
		text_add_number(&text, self.child);
		text_add(&text, "/ns/");
		text_add(&text, kinds[i]);
		given_to.namespaces[i] = (i32)sys_open(self.proc, path, O_RDONLY, 0);
		if (given_to.namespaces[i] < 0 && given_to.namespaces[i] != -ENOENT) {
			self.index = at;
			self.detail = AT_SOURCE;
			return given_to.namespaces[i];
		}
	}
	return given_to.image;
}

void member_sockets(u32 count)
{
	given_to.sockets = count;
}

static _Noreturn void become_member(i32 plan, i32 report, bool tidying)
{
	const char *argv[] = {"pyrkt-stage1", "105", tidying ? "after" : "106", NULL};
	i32 given[GIVEN];
	for (int i = 0; i < NAMESPACES; i++)
		given[i] = given_to.namespaces[i];
	given[PLAN_FD - NAMESPACE_FDS] = plan;
	given[REPORT_FD - NAMESPACE_FDS] = report;
	/* in a pod of many apps they may lie where others of them are to be */
	for (int i = 0; i < GIVEN; i++)
		given[i] = given[i] < 0 ? -1 : (i32)sys(__NR_fcntl, given[i], F_DUPFD_CLOEXEC, NAMESPACE_FDS + GIVEN);
	for (int i = 0; i < GIVEN; i++)
		if (given[i] >= 0)
			sys(__NR_dup3, given[i], NAMESPACE_FDS + i, 0);
	sockets_hand_on(given_to.sockets);
	sys(__NR_execveat, given_to.image, "", argv, self.environment, AT_EMPTY_PATH);
	sys_exit(START_FAILED);
}

/* tidying: a member that only does the steps after the end */
long member_start(struct app *app, enum app_stage stage, bool tidying)
{
	i32 pair[2], pidfd = -1;
	long r = sys(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	if (r < 0)
		return r;
	i64 pid = clone_process(0, &pidfd, -1);
	if (pid == 0)
		become_member(app->plans[stage - FIRST], pair[1], tidying);
	sys_close(pair[1]);
	if (pid < 0) {
		sys_close(pair[0]);
		return (long)pid;
	}
	app->stage = stage;
	app->pidfd = pidfd;
	app->report = pair[0];
	app->deadline = 0;
	app->tidying = tidying;
	return 0;
}

/* The words of a program that failed, as a file again, for who makes the sentence. */
long member_said(long report)
{
	char words[MOST_SAID];
	long size = read_all(report, words, sizeof words);
	if (size <= 0)
		return -1;
	long fd = sys(__NR_memfd_create, "said", MFD_CLOEXEC);
	if (fd >= 0)
		write_all(fd, words, (size_t)size);
	return fd;
}

bool member_was_killed(const struct app *app)
{
	enum { BY_PIDFD = 3 /* P_PIDFD */, EXITED = 1 /* CLD_EXITED */ };
	siginfo_t info;
	return sys(__NR_waitid, BY_PIDFD, app->pidfd, &info, WEXITED | WNOWAIT, NULL) >= 0 && info.si_code != EXITED;
}
