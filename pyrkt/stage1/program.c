/* Programs that a step runs to their end: hooks and the helpers that map ids. */
#include "stage1.h"
#include "text.h"

#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { P_PIDFD_ID = 3, TIMED_OUT = 124 };

long wait_for(long pidfd)
{
	siginfo_t info;
	long r;
	memset(&info, 0, sizeof info);
	while ((r = sys(__NR_waitid, P_PIDFD_ID, pidfd, &info, WEXITED, NULL)) == -EINTR)
		;
	if (r < 0)
		return r;
	return info.si_code == CLD_EXITED ? info.si_status & 0xff : 128 + info.si_status;
}

/* Hooks of the runtime begin where the runtime is, in the bundle; those inside in the root, wherever that is then. */
static void choose_directory(void)
{
	if (self.phase == PARENT)
		return;
	if (self.phase == AFTER || self.root < 0)
		sys(__NR_chdir, "/");
	else
		sys(__NR_fchdir, self.root);
}

static _Noreturn void start_program(const struct program *program)
{
	u64 none = 0;
	/* its own group, so that a hook which takes too long is killed with what it has started */
	sys(__NR_setpgid, 0, 0);
	sys(__NR_dup3, program->input, 0, 0);
	for (int fd = 1; fd < 3 && program->output >= 0; fd++)
		sys(__NR_dup3, program->output, fd, 0);
	sys(__NR_umask, self.umask);
	choose_directory();
	default_signals();
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	/* closed before its path is looked up: inside a container that path may be a link to one of them */
	close_all_but(3, NULL, 0);
	long r = become(program->path, program->argv, program->envp);
	sys_exit(r == -ENOENT || r == -ENOTDIR ? PROGRAM_MISSING : NOT_EXECUTABLE);
}

/* Waits seconds (0: for ever) for the program; PROGRAM_FAILED unless it exits with 0. */
static long await(long pidfd, i64 pid, i64 seconds)
{
	struct pollfd poll = {.fd = (int)pidfd, .events = POLLIN};
	struct timespec limit = {.tv_sec = seconds};
	long r;
	while ((r = sys(__NR_ppoll, &poll, 1, seconds > 0 ? &limit : NULL, NULL, 8)) == -EINTR)
		;
	if (r == 0) {
		sys(__NR_kill, -pid, SIGKILL); /* not reaped yet, so the number is still its group's */
		sys(__NR_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	}
	long code = wait_for(pidfd);
	if (code < 0)
		return code;
	self.detail_of_program = r == 0 ? TIMED_OUT : code;
	return r == 0 || code ? PROGRAM_FAILED : 0;
}

long run_program(const struct program *program)
{
	i32 pidfd = -1;
	self.detail = AT_CLONE;
	i64 pid = clone_process(0, &pidfd, -1);
	if (pid == 0)
		start_program(program);
	if (pid < 0)
		return pid;
	long r = await(pidfd, pid, program->seconds);
	sys_close(pidfd);
	return r;
}

static i64 pid_of_container(void)
{
	return self.phase == PARENT ? self.child : self.phase == AFTER ? 0 : sys(__NR_getpid);
}

/* Runs it, and keeps what it says if it fails; closes its input. */
static long run_and_hear(struct program *program)
{
	/* a file, not a pipe: what it leaves running holds nobody up; without one it says what it says to our caller */
	program->output = sys(__NR_memfd_create, "said", 1 /* MFD_CLOEXEC */);
	long r = run_program(program);
	sys_close(program->input);
	if (r == PROGRAM_FAILED) {
		sys_close(self.said);
		self.said = program->output < 0 ? -1 : program->output;
	} else {
		sys_close(program->output);
	}
	return r;
}

/* The state as a file: a hook that does not read it blocks nobody. */
static long state_file(const struct step *step)
{
	char digits[24];
	struct text pid = TEXT(digits);
	text_add_number(&pid, pid_of_container());
	long fd = sys(__NR_memfd_create, "state", 1 /* MFD_CLOEXEC */);
	if (fd < 0)
		return fd;
	long r = write_all(fd, step_text(step, 4), strlen(step_text(step, 4)));
	if (r >= 0 && step->arg[5].size)
		r = write_all(fd, digits, pid.used);
	if (r >= 0)
		r = write_all(fd, step->arg[5].at, step->arg[5].size);
	if (r >= 0)
		r = sys(__NR_lseek, fd, 0, 0);
	if (r >= 0)
		return fd;
	sys_close(fd);
	return r;
}

/* A hook without an environment of its own has the program's, of which HOME is known only here. */
static void add_home(const struct step *step, u32 words)
{
	const struct step *exec = NULL;
	u32 at = self.phase == CHILD ? next_step(self.index, self.phase, STEP_EXEC) : self.plan.count;
	if (at < self.plan.count)
		exec = &self.plan.steps[at];
	if (!exec || !home_variable() || exec->arg[2].size != step->arg[2].size ||
	    memcmp(exec->arg[2].at, step->arg[2].at, step->arg[2].size))
		return;
	self.envp[words] = home_variable();
	self.envp[words + 1] = NULL;
}

long step_HOOK(const struct step *step)
{
	step_list(step, 1, self.argv);
	add_home(step, step_list(step, 2, self.envp));
	struct program program = {step_text(step, 0), self.argv, self.envp, state_file(step), -1, step_number(step, 3)};
	return program.input < 0 ? program.input : run_and_hear(&program);
}

long step_MAP_HELPER(const struct step *step)
{
	static const char *const no_environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	char digits[24];
	struct text pid = TEXT(digits);
	text_add_number(&pid, self.child);
	if (!step_list(step, 0, self.argv))
		return -EINVAL;
	for (const char **word = self.argv; *word; word++)
		if (!strcmp(*word, "{pid}"))
			*word = digits;
	long null = sys_open(AT_FDCWD, "/dev/null", O_RDONLY, 0);
	if (null < 0)
		return null;
	struct program program = {self.argv[0], self.argv, (const char **)(uintptr_t)no_environment, null, -1, 0};
	return run_and_hear(&program);
}
