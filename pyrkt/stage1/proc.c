/* procfs: only ever the host's, opened and checked before the image is in sight, and names that cannot lead out of it.
 *
 * An image may bring a /proc of its own making, or race ours away (CVE-2019-16884, CVE-2025-52881).  Inside the
 * namespaces the host's instance still serves: "self" is the process in the host's count, and sysctl(7) answers for
 * the namespaces of whoever writes.
 */
#include "stage1.h"
#include "text.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <sys/statfs.h>

enum { PROC_ROOT_INODE = 1 };

long open_proc(void)
{
	struct statfs found;
	struct stat root;
	long fd = sys_open(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	long r = sys(__NR_fstatfs, fd, &found);
	if (r >= 0)
		r = sys_stat(fd, &root);
	if (r >= 0 && (found.f_type != PROC_SUPER_MAGIC || root.st_ino != PROC_ROOT_INODE))
		r = -ENOTTY;
	if (r >= 0)
		return fd;
	sys_close(fd);
	return r;
}

long proc_open(const char *path, u64 flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	return sys(__NR_openat2, self.proc, path, &how, sizeof how);
}

long proc_write(const char *path, const void *data, size_t size)
{
	long fd = proc_open(path, O_WRONLY);
	if (fd < 0)
		return fd;
	/* One write: procfs takes a value whole or not at all. */
	long r = sys(__NR_write, fd, data, size);
	sys_close(fd);
	return r < 0 ? r : r == (long)size ? 0 : -EIO;
}

/* A process that is not dumpable owns none of its files in /proc once it is in another user namespace.  Where nobody
 * else can be in the namespaces yet, it may be dumpable for a moment. */
long proc_write_own(const char *path, const void *data, size_t size)
{
	long r = proc_write(path, data, size);
	if (r != -EACCES || self.joins)
		return r;
	sys(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
	r = proc_write(path, data, size);
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	return r;
}

i64 own_pid(void)
{
	char link[24];
	i64 pid = 0;
	long size = sys(__NR_readlinkat, self.proc, "self", link, sizeof link - 1);
	if (size < 0)
		return size;
	link[size] = 0;
	return text_number(link, &pid) ? pid : -ENOENT;
}

/* "net.ipv4.ip_forward" or "net/ipv4/ip_forward"; as sysctl(8), the separator that comes first decides what the other
 * one means: in "net/ipv4/conf/eth0.1/forwarding" the dot is a dot. */
long step_SYSCTL(const struct step *step)
{
	char path[512];
	struct text text = TEXT(path);
	text_add(&text, "sys/");
	text_add(&text, step_text(step, 0));
	if (text.cut)
		return -ENAMETOOLONG;
	char *at = path + 4;
	while (*at && *at != '.' && *at != '/')
		at++;
	if (*at == '.')
		for (; *at; at++)
			*at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
	const char *value = step_text(step, 1);
	return proc_write(path, value, strlen(value));
}

long step_OOM_SCORE(const struct step *step)
{
	char path[64] = "self/oom_score_adj", value[24];
	struct text text = TEXT(value);
	text_add_number(&text, step_number(step, 0));
	if (self.phase != PARENT)
		return proc_write_own(path, value, text.used);
	struct text name = TEXT(path);
	text_add_number(&name, self.child);
	text_add(&name, "/oom_score_adj");
	return proc_write(path, value, text.used);
}

/* Modules stack since Linux 5.8: each has a directory of its own; "attr/exec" is the first module's. */
static long set_exec_label(const char *own, const char *before, const char *label)
{
	char value[4096];
	struct text text = TEXT(value);
	text_add(&text, before);
	text_add(&text, label);
	if (text.cut)
		return -ENAMETOOLONG;
	long r = proc_write(own, value, text.used);
	return r == -ENOENT ? proc_write("self/attr/exec", value, text.used) : r;
}

long step_APPARMOR(const struct step *step)
{
	return set_exec_label("self/attr/apparmor/exec", "exec ", step_text(step, 0));
}

long step_SELINUX(const struct step *step)
{
	return set_exec_label("self/attr/selinux/exec", "", step_text(step, 0));
}
