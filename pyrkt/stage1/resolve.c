/* Paths inside the root: resolved by the kernel as if the root were "/", and held as descriptors from then on. */
#include "stage1.h"

#include <limits.h>
#include <linux/openat2.h>

enum { RACES = 128 };

long in_root(const char *path, u64 flags, u64 resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve};
	long r = -EAGAIN;
	/* EAGAIN: a rename somewhere on the host went on meanwhile, and ".." could not be trusted */
	for (int i = 0; i < RACES && (r == -EAGAIN || r == -EINTR); i++)
		r = sys(__NR_openat2, self.root, *path ? path : "/", &how, sizeof how);
	return r;
}

/* Opens the directory path, making what is missing; path is changed and restored on the way. */
static long make_directories(char *path, u64 resolve)
{
	long at = in_root("/", O_PATH | O_DIRECTORY, resolve);
	for (char *begin = path; at >= 0;) {
		while (*begin == '/')
			begin++;
		if (!*begin)
			break;
		char *end = begin;
		while (*end && *end != '/')
			end++;
		char kept = *end;
		*end = 0;
		long next = in_root(path, O_PATH | O_DIRECTORY, resolve);
		if (next == -ENOENT) {
			/* a dangling symlink is EEXIST here and ENOENT again below: nothing is made through it */
			next = sys(__NR_mkdirat, at, begin, 0755);
			if (next >= 0 || next == -EEXIST)
				next = in_root(path, O_PATH | O_DIRECTORY, resolve);
		}
		*end = kept;
		sys_close(at);
		at = next;
		begin = end;
	}
	return at;
}

static long copy_path(char *into, const char *path)
{
	size_t size = strlen(path);
	while (size > 1 && path[size - 1] == '/')
		size--;
	if (size >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(into, path, size);
	into[size] = 0;
	return (long)size;
}

long parent_in_root(const char *path, bool make, char *last)
{
	static char copy[PATH_MAX];
	long size = copy_path(copy, path);
	if (size < 0)
		return size;
	char *base = copy + size;
	while (base > copy && base[-1] != '/')
		base--;
	size_t length = strlen(base);
	if (!length || !strcmp(base, ".") || !strcmp(base, ".."))
		return -EINVAL;
	if (length > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(last, base, length + 1);
	*base = 0;
	long parent = in_root(copy, O_PATH | O_DIRECTORY, 0);
	return parent == -ENOENT && make ? make_directories(copy, 0) : parent;
}

static long make_file(const char *path)
{
	char last[NAME_MAX + 1];
	long parent = parent_in_root(path, true, last);
	if (parent < 0)
		return parent;
	long fd = sys_open(parent, last, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0644);
	sys_close(parent);
	sys_close(fd);
	return fd == -EEXIST ? 0 : fd;
}

long target_in_root(const char *path, enum make make, u64 resolve)
{
	static char copy[PATH_MAX];
	self.detail = AT_TARGET;
	long target = in_root(path, O_PATH, resolve);
	if (target != -ENOENT || make == MAKE_NOTHING)
		return target;
	self.detail = AT_MAKE;
	if (make == MAKE_DIRECTORY) {
		long size = copy_path(copy, path);
		return size < 0 ? size : make_directories(copy, resolve);
	}
	long r = make_file(path);
	return r < 0 ? r : in_root(path, O_PATH, resolve);
}
