/* Files inside the root that are no mounts: devices, links, directories.  A parent is found first and held (R8). */
#include "stage1.h"

#include <limits.h>

long step_MKNOD(const struct step *step)
{
	char last[NAME_MAX + 1];
	struct stat found;
	u32 mode = (u32)step_number(step, 1), device = (u32)step_number(step, 2);
	self.detail = AT_TARGET;
	long parent = parent_in_root(step_text(step, 0), true, last);
	if (parent < 0)
		return parent;
	self.detail = AT_MAKE;
	long r = sys(__NR_mknodat, parent, last, mode, device);
	if (r >= 0)
		r = sys(__NR_fchownat, parent, last, step_number(step, 3), step_number(step, 4), AT_SYMLINK_NOFOLLOW);
	if (r == -EEXIST) {
		self.detail = AT_TYPE;
		long node = sys_open(parent, last, O_PATH | O_NOFOLLOW, 0);
		bool same = node >= 0 && sys_stat(node, &found) >= 0 && (found.st_mode & S_IFMT) == (mode & S_IFMT) &&
			    (S_ISFIFO(mode) || found.st_rdev == device);
		sys_close(node);
		r = same ? 0 : r;
	}
	sys_close(parent);
	return r;
}

long step_UNLINK_IN(const struct step *step)
{
	char last[NAME_MAX + 1];
	self.detail = AT_TARGET;
	long parent = parent_in_root(step_text(step, 0), false, last);
	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	long r = sys(__NR_unlinkat, parent, last, 0);
	sys_close(parent);
	return r == -ENOENT ? 0 : r;
}

long step_SYMLINK(const struct step *step)
{
	char last[NAME_MAX + 1];
	self.detail = AT_TARGET;
	long parent = parent_in_root(step_text(step, 1), true, last);
	if (parent < 0)
		return parent;
	self.detail = AT_MAKE;
	long r = sys(__NR_symlinkat, step_text(step, 0), parent, last);
	sys_close(parent);
	return r == -EEXIST ? 0 : r;
}

long step_MKDIR_IN(const struct step *step)
{
	const char *path = step_text(step, 0);
	char last[NAME_MAX + 1];
	self.detail = AT_TARGET;
	long there = in_root(path, O_PATH | O_DIRECTORY, 0);
	if (there != -ENOENT) {
		sys_close(there);
		return there < 0 ? there : 0;
	}
	long parent = parent_in_root(path, true, last);
	if (parent < 0)
		return parent;
	self.detail = AT_MAKE;
	long r = sys(__NR_mkdirat, parent, last, step_number(step, 1));
	if (r >= 0)
		r = sys(__NR_fchownat, parent, last, step_number(step, 2), step_number(step, 3), AT_SYMLINK_NOFOLLOW);
	sys_close(parent);
	return r;
}
