/* The last steps: nothing of the host's is inherited, and the process becomes the program. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

enum { FIRST_FD = 3, EXECUTE = 1 /* X_OK */, MOST_KEPT = SLOTS + 8, RESTORER = 0x04000000 /* SA_RESTORER */ };
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void default_signals(void)
{
	u64 none[4] = {0}; /* struct sigaction of the kernel: SIG_DFL, no flags, no mask */
	for (int number = 1; number <= 64; number++)
		if (number != SIGKILL && number != SIGSTOP)
			sys(__NR_rt_sigaction, number, none, NULL, sizeof(u64));
}

/* Cleared by any change of ids or capabilities, so asked for again at the end. */
void die_with_parent(void)
{
	struct pollfd poll = {.fd = (int)self.channel};
	struct timespec now = {0, 0};
	sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* it may have died before; then its end of the channel is closed */
	if (self.channel >= 0 && sys(__NR_ppoll, &poll, 1, &now, NULL, 8) > 0 && poll.revents & POLLHUP)
		sys_exit(START_FAILED);
}

long close_all_but(i64 first, const long *kept, u32 count)
{
	long sorted[MOST_KEPT];
	u32 used = 0;
	for (u32 i = 0; i < count && used < MOST_KEPT; i++) {
		u32 at = used;
		if (kept[i] < first)
			continue;
		for (; at && sorted[at - 1] > kept[i]; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = kept[i];
		used++;
	}
	long r = 0;
	for (u32 i = 0; i < used && r >= 0; i++) {
		if (first < sorted[i])
			r = sys(__NR_close_range, first, sorted[i] - 1, 0);
		first = sorted[i] + 1;
	}
	return r < 0 ? r : sys(__NR_close_range, first, ~0u, 0);
}

/* By number: where the caller had not open what it promised to the program, they lie among those that stay open. */
static long close_own(bool proc, bool slots)
{
	long *own[SLOTS + 3] = {&self.root};
	u32 count = 1;
	long r = 0;
	if (proc) {
		own[count++] = &self.proc;
		own[count++] = &self.fifo;
	}
	for (int i = 0; slots && i < SLOTS; i++)
		own[count++] = &self.slots[i];
	for (u32 i = 0; i < count; i++) {
		long closed = *own[i] < 0 ? 0 : sys(__NR_close, *own[i]);
		*own[i] = -1;
		if (closed < 0)
			r = closed;
	}
	return r;
}

static bool comes(enum code code)
{
	return next_step(self.index, self.phase, code) < next_step(self.index, self.phase, STEP_EXEC);
}

/* Closed, not close-on-exec: the image names the program, its interpreter and what links lead to, and
 * /proc/self/fd/N/... is looked up while N is still open.  Through the host's procfs that is the root of each process
 * with no more capabilities than ours (of the kind of CVE-2024-21626).  Before the filter, which may come from the
 * image too and could forbid it. */
long step_CLOSE_FDS(const struct step *step)
{
	i64 first = step_number(step, 0);
	if (first < FIRST_FD || first > INT_MAX)
		return -EINVAL;
	first += sockets_taken();
	bool agent = comes(STEP_SECCOMP_AGENT);
	bool proc = agent || comes(STEP_USER) || comes(STEP_WAIT_START);
	long r = close_own(!proc, !agent);
	if (r < 0)
		return r;
	long kept[SLOTS + 3] = {self.channel, self.proc, self.fifo};
	memcpy(kept + 3, self.slots, sizeof self.slots);
	return close_all_but(first, kept, SLOTS + 3);
}

static long change_directory(const char *path)
{
	static char where[PATH_MAX];
	long r = sys(__NR_chdir, path);
	if (r < 0)
		return r;
	/* a directory outside the root, by a descriptor that somebody left open (CVE-2024-21626) */
	r = sys(__NR_getcwd, where, sizeof where);
	if (r >= 0 && where[0] == '/')
		return 0;
	self.detail = AT_TYPE;
	return r < 0 && r != -ERANGE ? r : -EXDEV;
}

static u32 late_directory; /* the CHDIR step that only the user can do, as on a file system of his own; 0 is none */

long step_CHDIR(const struct step *step)
{
	long r = change_directory(step_text(step, 0));
	if ((r != -EACCES && r != -EPERM) || !comes(STEP_USER))
		return r;
	late_directory = self.index;
	return 0;
}

long enter_late_directory(void)
{
	if (!late_directory)
		return 0;
	u32 user = self.index;
	self.index = late_directory;
	self.detail = NOWHERE;
	long r = change_directory(step_text(&self.plan.steps[self.index], 0));
	if (r >= 0)
		self.index = user;
	return r;
}

static const char *search_path(const char *const *environment)
{
	for (; *environment; environment++)
		if (text_starts(*environment, "PATH="))
			return *environment + 5;
	return DEFAULT_PATH;
}

/* Only what execve(2) would do next is asked: that the file is there, is one, and may be executed. */
static long check(const char *path)
{
	struct stat found;
	long r = sys(__NR_newfstatat, AT_FDCWD, path, &found, 0);
	if (r < 0)
		return r;
	if (!S_ISREG(found.st_mode))
		return -EACCES;
	return sys(__NR_faccessat, AT_FDCWD, path, EXECUTE);
}

static long execute(const char *path)
{
	return sys(__NR_execve, path, self.argv, self.envp);
}

/* Tries the program in each directory of the path, as execvp(3), but never through a shell. */
static long find(const char *program, long (*act)(const char *))
{
	char path[PATH_MAX];
	long r = -ENOENT;
	if (!*program)
		return r;
	if (text_base(program) != program)
		return act(program);
	for (const char *at = search_path(self.envp); r < 0; at++) {
		const char *end = at;
		while (*end && *end != ':')
			end++;
		struct text text = TEXT(path);
		text_add_bytes(&text, at, (size_t)(end - at));
		text_add(&text, end == at ? "./" : "/");
		text_add(&text, program);
		long tried = text.cut ? -ENAMETOOLONG : act(path);
		if (tried >= 0)
			return tried;
		/* one that may not be executed is worth more as a reason than one that is not there; links that lead nowhere
		 * are no reason to look no further */
		if (tried != -ENOENT && tried != -ENOTDIR && (r == -ENOENT || tried != -EACCES))
			r = tried;
		if (tried != -ENOENT && tried != -ENOTDIR && tried != -EACCES && tried != -ELOOP)
			break;
		at = end;
		if (!*at)
			break;
	}
	return r;
}

long become(const char *program, const char **argv, const char **envp)
{
	self.argv = argv;
	self.envp = envp;
	return find(program, execute);
}

/* Says at once, as create must, that the program which start would run is not there. */
static long program_check(void)
{
	u32 waiting = self.index;
	self.index = next_step(waiting, CHILD, STEP_EXEC);
	if (self.index == self.plan.count)
		return 0;
	const struct step *exec = &self.plan.steps[self.index];
	step_list(exec, 2, self.envp);
	long r = find(step_text(exec, 0), check);
	if (r >= 0)
		self.index = waiting;
	return r;
}

static _Noreturn void end_by(int number)
{
	sys_exit(128 + number);
}

/* One that waits to be started ends by what would end its program: as PID 1 the kernel would let it ignore that. */
static void heed_signals(bool heed)
{
	static const int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM};
	u64 action[4] = {(u64)(uintptr_t)end_by, RESTORER, (u64)(uintptr_t)end_by, 0}; /* it never returns */
	u64 mask = 0;
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
		mask |= 1ull << (fatal[i] - 1);
		if (heed)
			sys(__NR_rt_sigaction, fatal[i], action, NULL, sizeof(u64));
	}
	sys(__NR_rt_sigprocmask, heed ? SIG_UNBLOCK : SIG_BLOCK, &mask, NULL, sizeof mask);
}

/* Whoever made the container, and is not root of the host, may join its namespaces only while this process is dumpable.
 * Then what others in there see of it must be nothing of the host's: our procfs becomes the container's. */
static bool open_up(void)
{
	long proc = open_proc();
	if (proc < 0)
		return false;
	sys_close(self.proc);
	self.proc = proc;
	return sys(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

long step_WAIT_START(const struct step *step)
{
	char path[40] = "";
	struct text text = TEXT(path);
	struct message message = {READY, self.index, 0, 0};
	long r = program_check();
	bool open = r >= 0 && step_number(step, 1) && open_up();
	if (r >= 0)
		r = send_message(self.channel, &message, NULL, 0);
	if (r < 0)
		return r;
	/* through procfs, as the descriptor only names the fifo; this blocks until somebody reads */
	text_add(&text, "self/fd/");
	text_add_number(&text, self.fifo);
	heed_signals(true);
	long fifo = sys_open(self.proc, path, O_WRONLY, 0);
	heed_signals(false);
	if (open)
		sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (fifo < 0)
		return fifo;
	sys(__NR_write, fifo, "0", 1); /* SIGPIPE is blocked: a reader that has gone again has started us all the same */
	return 0; /* it is closed when the program runs: whoever reads sees then that it does */
}

/* The signals of a container that nobody can start find the process as they would find one that waits. */
long step_HOLD(const struct step *step)
{
	struct message message = {READY, self.index, 0, 0};
	(void)step;
	long r = send_message(self.channel, &message, NULL, 0);
	if (r < 0)
		return r;
	close_all_but(0, NULL, 0);
	for (;;)
		sys(__NR_ppoll, NULL, 0, NULL, NULL, 0); /* until it is killed */
}

long step_EXEC(const struct step *step)
{
	u64 none = 0;
	long r = close_own(true, true);
	if (r < 0)
		return r;
	if (!step_list(step, 1, self.argv))
		return -EINVAL;
	u32 words = step_list(step, 2, self.envp);
	words += sockets_variables(self.envp + words);
	self.envp[words] = home_variable();
	self.envp[words + 1] = NULL;
	sys(__NR_umask, self.umask);
	default_signals();
	if (!self.leaves)
		die_with_parent();
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	r = find(step_text(step, 0), execute);
	if (r == -ENOENT && find(step_text(step, 0), check) >= 0)
		self.detail = AT_INTERPRETER;
	return r;
}
