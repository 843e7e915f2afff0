/* Files and directories of the host: state, cgroup values, descriptors to keep. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <sys/socket.h>
#include <sys/un.h>

long step_MKDIR(const struct step *step)
{
	long r = sys(__NR_mkdirat, AT_FDCWD, step_text(step, 0), step_number(step, 1));
	return r == -EEXIST ? 0 : r;
}

long step_WRITE(const struct step *step)
{
	self.detail = AT_SOURCE;
	long fd = sys_open(AT_FDCWD, step_text(step, 0), O_WRONLY | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	self.detail = AT_WRITE;
	long r = sys(__NR_write, fd, step->arg[1].at, step->arg[1].size);
	sys_close(fd);
	return r < 0 ? r : r == (long)step->arg[1].size ? 0 : -EIO;
}

long step_OPEN(const struct step *step)
{
	u64 flags = (u64)step_number(step, 2);
	return keep(step_number(step, 0), sys_open(AT_FDCWD, step_text(step, 1), flags | O_NOCTTY, 0600));
}

long step_CLOSE(const struct step *step)
{
	long fd = kept(step_number(step, 0));
	if (fd < 0)
		return fd;
	sys_close(fd);
	self.slots[step_number(step, 0)] = -1;
	return 0;
}

/* A path longer than a socket address goes by the descriptor of its directory. */
static long shorten(const char *path, struct text *into)
{
	char directory[PATH_MAX];
	struct text text = TEXT(directory);
	const char *base = text_base(path);
	text_add_bytes(&text, path, (size_t)(base - path));
	if (text.cut || base == path)
		return -ENAMETOOLONG;
	long fd = sys_open(AT_FDCWD, directory, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	into->used = 0;
	into->cut = false;
	text_add(into, "/proc/self/fd/");
	text_add_number(into, fd);
	text_add(into, "/");
	text_add(into, base);
	return into->cut ? -ENAMETOOLONG : 0;
}

long connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct text text = TEXT(address.sun_path);
	text_add(&text, path);
	long r = text.cut ? shorten(path, &text) : 0;
	if (r < 0)
		return r;
	long fd = sys(__NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	r = sys(__NR_connect, fd, &address, sizeof address);
	if (r >= 0)
		return fd;
	sys_close(fd);
	return r;
}

long step_CONNECT(const struct step *step)
{
	return keep(step_number(step, 0), connect_to(step_text(step, 1)));
}

long step_UNLINK(const struct step *step)
{
	long r = sys(__NR_unlinkat, AT_FDCWD, step_text(step, 0), 0);
	return r == -ENOENT ? 0 : r;
}

long step_RENAME(const struct step *step)
{
	return sys(__NR_renameat2, AT_FDCWD, step_text(step, 0), AT_FDCWD, step_text(step, 1), 0);
}

long replace_file(const char *path, const void *data, size_t size, u32 mode)
{
	char temporary[PATH_MAX];
	struct text text = TEXT(temporary);
	text_add(&text, path);
	text_add(&text, ".");
	text_add_number(&text, sys(__NR_getpid));
	text_add(&text, ".tmp");
	if (text.cut)
		return -ENAMETOOLONG;
	self.detail = AT_CREATE;
	long fd = sys_open(AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd < 0)
		return fd;
	self.detail = AT_WRITE;
	long r = write_all(fd, data, size);
	if (r >= 0)
		r = sys(__NR_fchmod, fd, mode);
	sys_close(fd);
	if (r >= 0) {
		self.detail = AT_RENAME;
		r = sys(__NR_renameat2, AT_FDCWD, temporary, AT_FDCWD, path, 0);
	}
	if (r < 0)
		sys(__NR_unlinkat, AT_FDCWD, temporary, 0);
	return r;
}

long step_CREATE(const struct step *step)
{
	return replace_file(step_text(step, 0), step->arg[1].at, step->arg[1].size, (u32)step_number(step, 2));
}

long step_PID_FILE(const struct step *step)
{
	char digits[24];
	struct text text = TEXT(digits);
	text_add_number(&text, self.child);
	return replace_file(step_text(step, 0), digits, text.used, 0644);
}

/* proc(5): field 22 of stat, counted after the name, which may hold blanks and parentheses. */
static long start_time(i64 pid, struct text *into)
{
	char path[32], stat[1024];
	struct text name = TEXT(path);
	text_add_number(&name, pid);
	text_add(&name, "/stat");
	long fd = proc_open(path, O_RDONLY);
	if (fd < 0)
		return fd;
	long size = read_all(fd, stat, sizeof stat - 1);
	sys_close(fd);
	if (size < 0)
		return size;
	stat[size] = 0;
	const char *at = stat + size;
	while (at > stat && *at != ')')
		at--;
	for (int field = 2; field < 22; at++) {
		if (!*at)
			return -EBADMSG;
		field += *at == ' ';
	}
	const char *end = at;
	while (*end >= '0' && *end <= '9')
		end++;
	text_add_bytes(into, at, (size_t)(end - at));
	return 0;
}

long record_process(const char *path, i64 pid)
{
	char words[64];
	struct text text = TEXT(words);
	text_add_number(&text, pid);
	text_add(&text, " ");
	long r = start_time(pid, &text);
	return r < 0 ? r : replace_file(path, words, text.used, 0600);
}

long step_RECORD(const struct step *step)
{
	return record_process(step_text(step, 0), self.child);
}

long step_STILL(const struct step *step)
{
	char digits[24] = "";
	struct text text = TEXT(digits);
	i64 found;
	long r = start_time(step_number(step, 0), &text);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	return text_number(digits, &found) && found == step_number(step, 1) ? 0 : -ESRCH;
}

/* For a pod the supervisor has written each app's file when the app ended. */
long step_EXIT_FILE(const struct step *step)
{
	char digits[24];
	struct text text = TEXT(digits);
	if (has_step(CHILD, STEP_INIT))
		return 0;
	text_add_number(&text, self.exit_code);
	text_add(&text, "\n");
	return replace_file(step_text(step, 0), digits, text.used, 0644);
}
