/* stage1 PLAN REPORT: follows the plan in descriptor PLAN, a sealed memfd.
 *
 * REPORT is "-", and failures are said by the plan's ON_FAILURE; or a descriptor that takes one struct report:
 * index of the failed step, errno and detail; or -1 (stage1 stays) or -2 (it leaves), 0 and the container's pid;
 * or "after", and only the steps after the end are done.
 */
#include "metadata.h"
#include "stage1.h"
#include "text.h"

#include <linux/memfd.h>
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

enum { USAGE = 64, GET_SEALS = 1034, SEAL_SHRINK = 2, SEAL_WRITE = 8, APPENDED = 6 };

static void *room(size_t size)
{
	return (void *)sys(__NR_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static bool is_error(const void *pointer)
{
	return (uintptr_t)pointer > -4096ul;
}

/* What has been checked must not change any more. */
static const u8 *map_plan(size_t *size)
{
	struct stat found;
	long seals = sys(__NR_fcntl, self.plan_fd, GET_SEALS, 0);
	if (seals < 0 || ~seals & (SEAL_SHRINK | SEAL_WRITE) || sys_stat(self.plan_fd, &found) < 0 || !found.st_size)
		return NULL;
	*size = (size_t)found.st_size;
	void *data = (void *)sys(__NR_mmap, NULL, *size, PROT_READ, MAP_PRIVATE, self.plan_fd, 0);
	return is_error(data) ? NULL : data;
}

static bool load_plan(void)
{
	size_t size;
	u32 culprit;
	const u8 *data = map_plan(&size);
	long count = data ? plan_count(data, size) : -1;
	if (count < 0)
		return false;
	self.plan.steps = room((size_t)count * sizeof *self.plan.steps);
	if (is_error(self.plan.steps) || plan_decode(data, size, &self.plan, &culprit) < 0)
		return false;
	self.plan.data = data;
	self.plan.size = size;
	size_t words = (size_t)self.plan.longest_list + APPENDED;
	self.argv = room(2 * words * sizeof *self.argv);
	self.envp = self.argv + words;
	return !is_error(self.argv);
}

/* The kernel has it, and reads again what is needed: for as long as the program runs that is next to nothing. */
void forget_plan(void)
{
	sys(__NR_madvise, self.plan.data, self.plan.size, MADV_DONTNEED);
}

/* Until the container stands: whoever was killed while it waited for us must not find it made when it is cleaned up. */
static bool end_with_reader(void)
{
	struct pollfd reader = {.fd = (int)self.report};
	struct timespec now = {0, 0};
	sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return sys(__NR_ppoll, &reader, 1, &now, NULL, 8) == 0; /* POLLERR: it was dead before */
}

int main(int argc, char **argv, char **envp)
{
	i64 plan_fd, report = -1, holder = -1;
	if (argc == 3 && !strcmp(argv[1], "hold"))
		hold(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "metadata"))
		serve_metadata(argv[2]);
	if (argc < 3 || argc > 4 || !text_number(argv[1], &plan_fd) ||
	    (strcmp(argv[2], "-") && strcmp(argv[2], "after") && !text_number(argv[2], &report)) ||
	    (argc == 4 && !text_number(argv[3], &holder)))
		return USAGE;
	self.environment = envp;
	self.plan_fd = plan_fd;
	self.report = report;
	self.holder = holder;
	self.channel = self.fifo = self.child_fd = self.root = self.said = -1;
	for (int i = 0; i < SLOTS; i++)
		self.slots[i] = -1;
	sys(__NR_fcntl, plan_fd, F_SETFD, FD_CLOEXEC);
	sys(__NR_fcntl, holder, F_SETFD, FD_CLOEXEC);
	if (report >= 0) {
		sys(__NR_fcntl, report, F_SETFD, FD_CLOEXEC);
		if (!end_with_reader())
			return START_FAILED;
	}
	if (!load_plan()) {
		i32 words[4] = {-1, EBADMSG, 0, 0};
		if (report >= 0)
			write_all(report, words, sizeof words);
		return START_FAILED;
	}
	sys(__NR_prctl, PR_SET_NAME, "pyrkt", 0, 0, 0);
	self.umask = (u32)sys(__NR_umask, 0);
	sys(__NR_umask, self.umask);
	self.leaves = has_step(BEFORE, STEP_LEAVE) || has_step(CHILD, STEP_WAIT_START);
	self.joins = has_step(BEFORE, STEP_SETNS);
	if (!strcmp(argv[2], "after"))
		tidy_up();
	supervise();
}
