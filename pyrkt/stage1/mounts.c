/* Mounts: made detached, attached by descriptor, so that no link in the image can turn one aside. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/statfs.h>

enum { FSCONFIG_ROOM = 256, MOUNT_DATA_ROOM = 4096, NULL_DEVICE = 1 << 8 | 3 /* makedev(1, 3) */ };
#define RECURSIVE 0x8000 /* AT_RECURSIVE */

long attach(long tree, long target)
{
	self.detail = AT_ATTACH;
	return sys(__NR_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

long clone_tree(long fd, bool recursive)
{
	return sys(__NR_open_tree, fd, "",
		   AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? RECURSIVE : 0));
}

long set_attributes(long fd, bool recursive, u64 set, u64 clear)
{
	if (!set && !clear)
		return 0;
	/* the times of access are one field: a new value needs the old one gone */
	if ((set | clear) & MOUNT_ATTR__ATIME)
		clear |= MOUNT_ATTR__ATIME;
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear};
	self.detail = AT_ATTRIBUTES;
	return sys(__NR_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? RECURSIVE : 0), &attr, sizeof attr);
}

static long propagate(long fd, u64 flags)
{
	struct mount_attr attr = {.propagation = flags & ~(u64)MS_REC};
	return sys(__NR_mount_setattr, fd, "", AT_EMPTY_PATH | (flags & MS_REC ? RECURSIVE : 0), &attr, sizeof attr);
}

static long set_option(long fs, const char *key, const char *value)
{
	self.detail = AT_OPTION;
	return sys(__NR_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0);
}

static long finish_mount(long fs, u32 attributes)
{
	self.detail = AT_CREATE;
	long r = sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return r < 0 ? r : sys(__NR_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
}

long new_mount(const char *type, const char *const *options, u32 attributes)
{
	self.detail = AT_CREATE;
	long fs = sys(__NR_fsopen, type, FSOPEN_CLOEXEC), r = 0;
	if (fs < 0)
		return fs;
	for (; r >= 0 && *options; options += 2)
		r = set_option(fs, options[0], options[1]);
	if (r >= 0)
		r = finish_mount(fs, attributes);
	sys_close(fs);
	return r;
}

/* key or key=value, separated by commas; a value in double quotes (of an LSM) may hold commas */
static long set_options(long fs, const char *data)
{
	static char copy[MOUNT_DATA_ROOM];
	if (strlen(data) >= sizeof copy)
		return -E2BIG;
	memcpy(copy, data, strlen(data) + 1);
	for (char *at = copy, *next; *at; at = next) {
		bool quoted = false;
		char *end = at, *value = NULL;
		for (; *end && (quoted || *end != ','); end++) {
			quoted ^= *end == '"';
			if (*end == '=' && !value)
				value = end + 1;
		}
		next = *end ? end + 1 : end;
		*end = 0;
		if (value) {
			value[-1] = 0;
			if (*value == '"' && end > value + 1 && end[-1] == '"') {
				end[-1] = 0;
				value++;
			}
			if (strlen(value) >= FSCONFIG_ROOM)
				return -E2BIG;
		}
		long r = *at ? set_option(fs, at, value) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static long set_flags(long fs, u64 flags)
{
	static const struct {
		u64 flag;
		const char *name;
	} names[] = {{MS_RDONLY, "ro"}, {MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"}, {MS_MANDLOCK, "mand"},
		     {MS_LAZYTIME, "lazytime"}};
	long r = 0;
	for (size_t i = 0; r >= 0 && i < sizeof names / sizeof *names; i++)
		if (flags & names[i].flag)
			r = set_option(fs, names[i].name, NULL);
	return r;
}

static u32 attributes_of(u64 flags)
{
	static const struct {
		u64 flag;
		u32 attribute;
	} pairs[] = {{MS_RDONLY, MOUNT_ATTR_RDONLY},	 {MS_NOSUID, MOUNT_ATTR_NOSUID},
		     {MS_NODEV, MOUNT_ATTR_NODEV},	 {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		     {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW}};
	u32 attributes = flags & MS_STRICTATIME ? MOUNT_ATTR_STRICTATIME : flags & MS_NOATIME ? MOUNT_ATTR_NOATIME : 0;
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (flags & pairs[i].flag)
			attributes |= pairs[i].attribute;
	return attributes;
}

/* fsconfig(2) takes values of 255 bytes; the lower directories of an overlay may be longer. */
static long mount_by_data(const char *type, const char *source, long target, u64 flags, const char *data)
{
	self.detail = AT_CHDIR;
	long r = sys(__NR_fchdir, target);
	self.detail = AT_CREATE;
	return r < 0 ? r : sys(__NR_mount, source, ".", type, flags, data);
}

static long make_mount(const char *type, const char *source, u64 flags, const char *data)
{
	self.detail = AT_CREATE;
	long fs = sys(__NR_fsopen, type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return fs;
	long r = *source ? set_option(fs, "source", source) : 0;
	if (r >= 0)
		r = set_flags(fs, flags);
	if (r >= 0)
		r = set_options(fs, data);
	if (r >= 0)
		r = finish_mount(fs, attributes_of(flags));
	sys_close(fs);
	return r;
}

/* A target may be in procfs only if its name says so, which the compiler has judged: an image's link may not lead a
 * mount there (CVE-2019-16884, CVE-2023-27561). */
static long mount_target(const char *path, enum make make, u64 resolve)
{
	struct statfs found;
	long target = target_in_root(path, make, resolve);
	if (target < 0 || !strcmp(path, "/proc") || text_starts(path, "/proc/"))
		return target;
	long r = sys(__NR_fstatfs, target, &found);
	if (r >= 0 && found.f_type != PROC_SUPER_MAGIC)
		return target;
	self.detail = AT_PROC;
	sys_close(target);
	return r < 0 ? r : -EXDEV;
}

long step_MOUNT(const struct step *step)
{
	const char *type = step_text(step, 0), *source = step_text(step, 1), *data = step_text(step, 4);
	u64 flags = (u64)step_number(step, 3);
	/* the two file systems that others write gadgets of must be where their names say */
	bool exact = !strcmp(type, "proc") || !strcmp(type, "sysfs");
	long target = mount_target(step_text(step, 2), (enum make)step_number(step, 5), exact ? RESOLVE_NO_SYMLINKS : 0);
	if (target < 0)
		return target;
	long tree = make_mount(type, source, flags, data), r = tree;
	if (tree == -E2BIG)
		r = mount_by_data(type, source, target, flags, data);
	else if (tree >= 0)
		r = attach(tree, target);
	sys_close(tree);
	sys_close(target);
	return r;
}

static enum make like(long tree, i64 make)
{
	struct stat found;
	if (!make || sys_stat(tree, &found) < 0)
		return MAKE_NOTHING;
	return S_ISDIR(found.st_mode) ? MAKE_DIRECTORY : MAKE_FILE;
}

long step_BIND(const struct step *step)
{
	self.detail = AT_SOURCE;
	long tree = sys(__NR_open_tree, AT_FDCWD, step_text(step, 0),
			OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (step_number(step, 2) ? RECURSIVE : 0));
	if (tree < 0)
		return tree;
	long target = -1, r = set_attributes(tree, false, (u64)step_number(step, 3), (u64)step_number(step, 4));
	if (r >= 0)
		r = target = mount_target(step_text(step, 1), like(tree, step_number(step, 5)), 0);
	if (r >= 0)
		r = attach(tree, target);
	sys_close(target);
	sys_close(tree);
	return r;
}

long step_ATTACH(const struct step *step)
{
	long tree = kept(step_number(step, 0));
	if (tree < 0)
		return tree;
	long target = mount_target(step_text(step, 1), like(tree, step_number(step, 2)), 0);
	if (target < 0)
		return target;
	long r = attach(tree, target);
	sys_close(target);
	return r;
}

long step_SET_ATTR(const struct step *step)
{
	long target = target_in_root(step_text(step, 0), MAKE_NOTHING, 0);
	if (target < 0)
		return target;
	long r = set_attributes(target, step_number(step, 1) != 0, (u64)step_number(step, 2), (u64)step_number(step, 3));
	sys_close(target);
	return r;
}

long step_SET_PROPAGATION(const struct step *step)
{
	long target = target_in_root(step_text(step, 0), MAKE_NOTHING, 0);
	if (target < 0)
		return target;
	long r = propagate(target, (u64)step_number(step, 1));
	sys_close(target);
	return r;
}

long step_PROPAGATION(const struct step *step)
{
	long fd = sys_open(AT_FDCWD, step_text(step, 0), O_PATH, 0);
	if (fd < 0)
		return fd;
	long r = propagate(fd, (u64)step_number(step, 1));
	sys_close(fd);
	return r;
}

/* A container's /dev/null may be a link to what should be hidden (CVE-2025-31133): it must be the device. */
static long open_null(void)
{
	struct stat found;
	long fd = sys_open(AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	long r = sys_stat(fd, &found);
	if (r >= 0 && S_ISCHR(found.st_mode) && found.st_rdev == NULL_DEVICE)
		return fd;
	self.detail = AT_TYPE;
	sys_close(fd);
	return r < 0 ? r : -ENODEV;
}

long attach_null(long target)
{
	self.detail = AT_SOURCE;
	long null = open_null();
	if (null < 0)
		return null;
	long tree = clone_tree(null, false), r = tree;
	sys_close(null);
	if (tree >= 0)
		r = attach(tree, target);
	sys_close(tree);
	return r;
}

/* Only what is missing needs no mask; anything else that keeps us from finding it is an error. */
static bool missing(long r)
{
	return r == -ENOENT || r == -ENOTDIR;
}

long step_MASK(const struct step *step)
{
	static const char *const options[] = {"size", "4k", "nr_inodes", "1", "ro", NULL, NULL, NULL};
	struct stat found;
	long target = target_in_root(step_text(step, 0), MAKE_NOTHING, 0);
	if (target < 0)
		return missing(target) ? 0 : target;
	long r = sys_stat(target, &found);
	if (r >= 0 && !S_ISDIR(found.st_mode)) {
		r = attach_null(target);
	} else if (r >= 0) {
		long tree = r = new_mount("tmpfs", options,
					  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		if (tree >= 0)
			r = attach(tree, target);
		sys_close(tree);
	}
	sys_close(target);
	return r;
}

long step_READ_ONLY(const struct step *step)
{
	long target = target_in_root(step_text(step, 0), MAKE_NOTHING, 0);
	if (target < 0)
		return missing(target) ? 0 : target;
	self.detail = AT_SOURCE;
	long tree = clone_tree(target, true), r = tree;
	if (r >= 0)
		r = set_attributes(tree, true, MOUNT_ATTR_RDONLY, 0);
	if (r >= 0)
		r = attach(tree, target);
	sys_close(tree);
	sys_close(target);
	return r;
}
