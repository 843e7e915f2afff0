/* What a new tmpfs covers, copied into it (tmpcopyup).  Every name is opened from its directory's descriptor, and no link
 * is followed: the files are the image's. */
#include "stage1.h"

#include <limits.h>
#include <linux/limits.h>

enum { DEEPEST = 100, ENTRIES_ROOM = 2048, XATTR_NAMES_ROOM = 4096, AT_ONCE = 1 << 20 };

struct entry { /* struct linux_dirent64 */
	u64 inode;
	i64 next;
	u16 size;
	u8 type;
	char name[];
};

static long copy_bytes(long from, long to)
{
	long r;
	while ((r = sys(__NR_sendfile, to, from, NULL, AT_ONCE)) > 0)
		;
	return r;
}

/* Capabilities of programs, for one.  What the new file system cannot hold is left out. */
static long copy_xattrs(long from, long to)
{
	static char names[XATTR_NAMES_ROOM], value[XATTR_SIZE_MAX];
	long size = sys(__NR_flistxattr, from, names, sizeof names);
	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : size;
	for (long at = 0; at < size; at += (long)strlen(names + at) + 1) {
		long found = sys(__NR_fgetxattr, from, names + at, value, sizeof value);
		long r = found < 0 ? 0 : sys(__NR_fsetxattr, to, names + at, value, found, 0);
		if (r < 0 && r != -EOPNOTSUPP && r != -EPERM)
			return r;
	}
	return 0;
}

static long copy_link(long from, long to, const char *name)
{
	char target[PATH_MAX];
	long size = sys(__NR_readlinkat, from, name, target, sizeof target);
	if (size < 0)
		return size;
	if (size == sizeof target)
		return -ENAMETOOLONG;
	target[size] = 0;
	return sys(__NR_symlinkat, target, to, name);
}

static long copy_directory(long from, long to, int depth);

/* Regular files and directories: content, then owner, then the mode, which a change of owner cuts. */
static long copy_open(long from, long to, const char *name, const struct stat *found, int depth)
{
	bool directory = S_ISDIR(found->st_mode);
	u64 kind = directory ? O_DIRECTORY : O_NONBLOCK;
	long r = directory ? sys(__NR_mkdirat, to, name, 0700) : 0, target = -1;
	long source = r < 0 ? r : sys_open(from, name, O_RDONLY | O_NOFOLLOW | kind, 0);
	if (source < 0)
		return source;
	r = target = directory ? sys_open(to, name, O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0)
			       : sys_open(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (r >= 0)
		r = directory ? copy_directory(source, target, depth + 1) : copy_bytes(source, target);
	if (r >= 0)
		r = sys(__NR_fchown, target, found->st_uid, found->st_gid);
	if (r >= 0)
		r = copy_xattrs(source, target);
	if (r >= 0)
		r = sys(__NR_fchmod, target, found->st_mode & 07777);
	sys_close(target);
	sys_close(source);
	return r;
}

static long copy_entry(long from, long to, const char *name, int depth)
{
	struct stat found;
	long r = sys(__NR_newfstatat, from, name, &found, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return r;
	if (S_ISSOCK(found.st_mode))
		return 0; /* its listener is elsewhere */
	if (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)) {
		r = copy_open(from, to, name, &found, depth);
	} else {
		r = S_ISLNK(found.st_mode) ? copy_link(from, to, name)
					   : sys(__NR_mknodat, to, name, found.st_mode, found.st_rdev);
		if (r >= 0)
			r = sys(__NR_fchownat, to, name, found.st_uid, found.st_gid, AT_SYMLINK_NOFOLLOW);
	}
	struct timespec times[2] = {found.st_atim, found.st_mtim};
	return r < 0 ? r : sys(__NR_utimensat, to, name, times, AT_SYMLINK_NOFOLLOW);
}

static long copy_directory(long from, long to, int depth)
{
	union {
		struct entry first; /* for its alignment */
		char bytes[ENTRIES_ROOM];
	} room;
	long size;
	if (depth > DEEPEST)
		return -ELOOP;
	while ((size = sys(__NR_getdents64, from, room.bytes, sizeof room)) > 0) {
		for (long at = 0; at < size;) {
			const struct entry *entry = (const struct entry *)(const void *)(room.bytes + at);
			at += entry->size;
			if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
				continue;
			long r = copy_entry(from, to, entry->name, depth);
			if (r < 0)
				return r;
		}
	}
	return size;
}

long copy_up(long from, long to)
{
	self.detail = AT_COPY;
	long source = sys_open(from, ".", O_RDONLY | O_DIRECTORY, 0);
	if (source < 0)
		return source;
	long r = copy_directory(source, to, 0);
	sys_close(source);
	return r;
}
