/* Control groups: entering one, v2's device program, and leaving nothing behind. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/statfs.h>
#include <time.h>

enum { BATCH = 64, DEEPEST = 16, PATIENCE_MS = 10000, PAUSE_MS = 50 };

/* The child's pid from outside; "0", whoever writes, inside. */
static long write_pid(long fd)
{
	char digits[24];
	struct text text = TEXT(digits);
	text_add_number(&text, self.phase == PARENT ? self.child : 0);
	long r = sys(__NR_write, fd, digits, text.used);
	return r < 0 ? r : 0;
}

static long open_in(const char *directory, const char *name)
{
	char path[PATH_MAX];
	struct text text = TEXT(path);
	text_add(&text, directory);
	text_add(&text, name);
	return text.cut ? -ENAMETOOLONG : sys_open(AT_FDCWD, path, O_WRONLY, 0);
}

/* A thread that moves itself alone, by v1's "tasks", takes no lock that waits for all processors: 6 to 15 ms less
 * (kernel/cgroup/cgroup.c, cgroup_procs_write_start). */
long step_ENTER_CGROUP(const struct step *step)
{
	const char *directory = step_text(step, 0);
	self.detail = AT_SOURCE;
	long fd = self.phase == PARENT ? -ENOENT : open_in(directory, "/tasks");
	if (fd == -ENOENT)
		fd = open_in(directory, "/cgroup.procs");
	if (fd < 0)
		return fd;
	self.detail = AT_WRITE;
	long r = write_pid(fd);
	sys_close(fd);
	return r;
}

long step_ENTER_CGROUP_SLOT(const struct step *step)
{
	long fd = kept(step_number(step, 0));
	return fd < 0 ? fd : write_pid(fd);
}

long step_CGROUP_DEVICES(const struct step *step)
{
	static const char licence[] = "GPL"; /* the kernel asks for one; the program calls no helper that needs it */
	union bpf_attr attr;
	self.detail = AT_SOURCE;
	long directory = sys_open(AT_FDCWD, step_text(step, 0), O_RDONLY | O_DIRECTORY, 0);
	if (directory < 0)
		return directory;
	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (u64)(uintptr_t)step->arg[1].at;
	attr.insn_cnt = step->arg[1].size / sizeof(struct bpf_insn);
	attr.license = (u64)(uintptr_t)licence;
	self.detail = AT_CREATE;
	long program = sys(__NR_bpf, BPF_PROG_LOAD, &attr, sizeof attr), r = program;
	if (program >= 0) {
		memset(&attr, 0, sizeof attr);
		attr.target_fd = (u32)directory;
		attr.attach_bpf_fd = (u32)program;
		attr.attach_type = BPF_CGROUP_DEVICE;
		attr.attach_flags = BPF_F_ALLOW_MULTI;
		self.detail = AT_ATTACH;
		r = sys(__NR_bpf, BPF_PROG_ATTACH, &attr, sizeof attr);
	}
	sys_close(program);
	sys_close(directory);
	return r < 0 ? r : 0;
}

/* Files come and go with the controllers that a cgroup has. */
long step_CHOWN(const struct step *step)
{
	long r = sys(__NR_fchownat, AT_FDCWD, step_text(step, 0), step_number(step, 1), step_number(step, 2),
		     AT_SYMLINK_NOFOLLOW);
	return r == -ENOENT ? 0 : r;
}

static long read_file(long directory, const char *name, char *into, size_t size)
{
	long fd = sys_open(directory, name, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	long r = read_all(fd, into, size - 1);
	sys_close(fd);
	into[r < 0 ? 0 : r] = 0;
	return r;
}

static bool write_file(long directory, const char *name, const char *value)
{
	long fd = sys_open(directory, name, O_WRONLY, 0);
	if (fd < 0)
		return false;
	long r = write_all(fd, value, strlen(value));
	sys_close(fd);
	return r >= 0;
}

/* Takes the next number of a list, one a line; 0 at its end. */
static i64 next_pid(const char **at)
{
	i64 pid = 0;
	while (**at == '\n')
		++*at;
	while (**at >= '0' && **at <= '9')
		pid = pid * 10 + (*(*at)++ - '0');
	return pid;
}

/* A number that was read may mean another process by now; one that is still listed after it was opened does not. */
static void kill_listed(long directory)
{
	static char before[BATCH * 8], after[4096];
	long fds[BATCH];
	i64 pids[BATCH];
	u32 count = 0;
	if (read_file(directory, "cgroup.procs", before, sizeof before) <= 0)
		return;
	/* the last number may be cut short: leave it for the next round */
	char *end = before + strlen(before);
	while (end > before && end[-1] != '\n')
		*--end = 0;
	for (const char *at = before; count < BATCH; count++) {
		pids[count] = next_pid(&at);
		if (!pids[count])
			break;
		fds[count] = sys(__NR_pidfd_open, pids[count], 0);
	}
	if (read_file(directory, "cgroup.procs", after, sizeof after) > 0)
		for (const char *at = after; *at;) {
			i64 pid = next_pid(&at);
			if (!pid)
				break;
			for (u32 i = 0; i < count; i++)
				if (pids[i] == pid && fds[i] >= 0)
					sys(__NR_pidfd_send_signal, fds[i], SIGKILL, NULL, 0);
		}
	for (u32 i = 0; i < count; i++)
		sys_close(fds[i]);
}

static void kill_cgroup(long directory)
{
	if (write_file(directory, "cgroup.kill", "1"))
		return;
	kill_listed(directory);
	/* a frozen process dies once it is thawed */
	write_file(directory, "freezer.state", "THAWED");
	write_file(directory, "cgroup.freeze", "0");
}

struct entry { /* struct linux_dirent64 */
	u64 inode;
	i64 offset;
	u16 size;
	u8 type;
	char name[];
};

/* What a container that was given its cgroup has made below it goes first, deepest first. */
static void empty_cgroup(long directory, int depth)
{
	u64 buffer[128];
	kill_cgroup(directory);
	if (depth == DEEPEST || sys(__NR_lseek, directory, 0, 0) < 0)
		return;
	for (long size; (size = sys(__NR_getdents64, directory, buffer, sizeof buffer)) > 0;)
		for (const u8 *at = (const u8 *)buffer; at < (const u8 *)buffer + size;) {
			const struct entry *entry = (const void *)at;
			at += entry->size;
			if (entry->type != 4 /* DT_DIR */ || entry->name[0] == '.')
				continue;
			long below = sys_open(directory, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
			if (below < 0)
				continue;
			empty_cgroup(below, depth + 1);
			sys_close(below);
			sys(__NR_unlinkat, directory, entry->name, AT_REMOVEDIR);
		}
}

static bool is_cgroup(long directory)
{
	struct statfs found;
	return sys(__NR_fstatfs, directory, &found) >= 0 &&
	       (found.f_type == CGROUP_SUPER_MAGIC || found.f_type == CGROUP2_SUPER_MAGIC);
}

long step_RMDIR(const struct step *step)
{
	const char *path = step_text(step, 0);
	long r = sys(__NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
	if (r != -EBUSY)
		return r == -ENOENT ? 0 : r;
	long directory = sys_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (directory < 0)
		return directory == -ENOENT ? 0 : directory;
	bool cgroup = is_cgroup(directory);
	/* The dead leave a cgroup a moment after their end is known. */
	for (i64 waited = 0, pause = 1; r == -EBUSY && waited < PATIENCE_MS; waited += pause) {
		if (cgroup)
			empty_cgroup(directory, 0);
		r = sys(__NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
		if (r != -EBUSY)
			break;
		pause = pause < PAUSE_MS ? pause * 2 : PAUSE_MS;
		struct timespec nap = {0, pause * 1000000};
		sys(__NR_nanosleep, &nap, NULL);
	}
	sys_close(directory);
	return r == -ENOENT ? 0 : r;
}
