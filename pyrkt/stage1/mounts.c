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
#define LOCKED (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

long attach(long tree, long target)
{
	struct stat one, other;
	self.detail = AT_ATTACH;
	long r = sys(__NR_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	/* what mount(2) says of a directory on a file and of a file on a directory; engines know it by that */
	if (r == -EINVAL && sys_stat(tree, &one) >= 0 && sys_stat(target, &other) >= 0 &&
	    S_ISDIR(one.st_mode) != S_ISDIR(other.st_mode))
		return -ENOTDIR;
	return r;
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

long propagate(long fd, u64 flags)
{
	struct mount_attr attr = {.propagation = flags & ~(u64)MS_REC};
	self.detail = AT_ATTRIBUTES;
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

/* The mount that was made last: what is changed about it is changed by its descriptor, for its name may lead elsewhere
 * meanwhile (CVE-2021-30465). */
static struct {
	long tree;
	const char *target;
} newest = {.tree = -1};

static void remember(long tree, const char *target)
{
	sys_close(newest.tree);
	newest.tree = tree;
	newest.target = target;
}

/* The file systems whose parts are hidden, where they are mounted: the name above them may be exchanged, too, and a mask
 * would then lie in a directory that is not there when the program looks. */
static struct {
	const char *point;
	long tree;
} views[] = {{"/proc", -1}, {"/sys", -1}};

enum { VIEWS = sizeof views / sizeof *views };

static long remember_view(long tree, const char *target)
{
	long r = 0;
	for (int i = 0; i < VIEWS; i++) {
		bool same = !strcmp(target, views[i].point);
		if (!same && strcmp(target, "/"))
			continue;
		sys_close(views[i].tree);
		views[i].tree = same ? r = sys(__NR_fcntl, tree, F_DUPFD_CLOEXEC, 3) : -1;
	}
	return r;
}

/* What is to be hidden; a negative number if it is not there. */
static long hidden(const char *path)
{
	for (int i = 0; i < VIEWS; i++) {
		size_t size = strlen(views[i].point);
		if (views[i].tree >= 0 && text_starts(path, views[i].point) && path[size] == '/') {
			self.detail = AT_TARGET;
			return in_tree(views[i].tree, path + size, O_PATH, 0);
		}
	}
	return target_in_root(path, MAKE_NOTHING, 0);
}

static long empty = -1; /* the tmpfs over masked directories */

void forget_mounts(void)
{
	remember(-1, NULL);
	remember_view(-1, "/");
	sys_close(empty);
	empty = -1;
}

/* A mount on the root is the root from then on. */
static long attach_there(long tree, long target, const char *path)
{
	long r = attach(tree, target);
	if (r >= 0 && !strcmp(path, "/")) {
		r = sys(__NR_fcntl, tree, F_DUPFD_CLOEXEC, 3);
		if (r >= 0) {
			sys_close(self.root);
			self.root = r;
		}
	}
	if (r >= 0)
		r = remember_view(tree, path);
	if (r >= 0)
		remember(tree, path);
	else
		sys_close(tree);
	return r < 0 ? r : 0;
}

/* Puts "mode=", and for a copy the owner, in front of the options of a tmpfs, which may say otherwise. */
static long lend(long target, bool owner, const char *data, char *room, size_t size)
{
	struct stat found;
	struct text text = {.start = room, .size = size};
	long r = sys_stat(target, &found);
	if (r < 0)
		return r;
	text_add(&text, "mode=");
	for (int shift = 9; shift >= 0; shift -= 3)
		text_add_number(&text, found.st_mode >> shift & 7);
	if (owner) {
		text_add(&text, ",uid=");
		text_add_number(&text, found.st_uid);
		text_add(&text, ",gid=");
		text_add_number(&text, found.st_gid);
	}
	text_add(&text, *data ? "," : "");
	text_add(&text, data);
	return text.cut ? -E2BIG : 0;
}

static long mount_on(const struct step *step, long target, const char *data, bool copy)
{
	const char *type = step_text(step, 0), *source = step_text(step, 1);
	u64 flags = (u64)step_number(step, 3);
	long tree = make_mount(type, source, flags, data);
	remember(-1, NULL); /* one by data has no descriptor: what is changed about it is found by its name */
	if (tree == -E2BIG)
		return mount_by_data(type, source, target, flags, data);
	long r = tree < 0 || !copy ? tree : copy_up(target, tree);
	if (r >= 0)
		return attach_there(tree, target, step_text(step, 2));
	sys_close(tree);
	return r;
}

long step_MOUNT(const struct step *step)
{
	enum { LENT = 3, COPIED = 4 };
	static char room[MOUNT_DATA_ROOM];
	const char *type = step_text(step, 0), *path = step_text(step, 2), *data = step_text(step, 4);
	/* the two file systems that others write gadgets of must be where their names say */
	u64 resolve = !strcmp(type, "proc") || !strcmp(type, "sysfs") ? RESOLVE_NO_SYMLINKS : 0;
	i64 make = step_number(step, 5);
	bool there = false;
	long target = make < LENT ? -ENOENT : mount_target(path, MAKE_NOTHING, resolve), r = 0;
	if (target >= 0) {
		there = true;
		r = lend(target, make == COPIED, data, room, sizeof room);
		data = room;
	} else if (target == -ENOENT) {
		r = target = mount_target(path, make < LENT ? (enum make)make : MAKE_DIRECTORY, resolve);
	} else {
		r = target;
	}
	if (r >= 0)
		r = mount_on(step, target, data, there && make == COPIED);
	sys_close(target);
	return r;
}

long step_REMOUNT(const struct step *step)
{
	long target = target_in_root(step_text(step, 0), MAKE_NOTHING, 0);
	if (target < 0)
		return target;
	self.detail = AT_CREATE;
	long fs = sys(__NR_fspick, target, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH), r = fs;
	if (r >= 0)
		r = set_flags(fs, (u64)step_number(step, 1));
	if (r >= 0)
		r = set_options(fs, step_text(step, 2));
	if (r >= 0) {
		self.detail = AT_OPTION;
		r = sys(__NR_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
	}
	sys_close(fs);
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

static long attach_to(long tree, const char *path, i64 make)
{
	long target = mount_target(path, like(tree, make), 0), r = target;
	if (r >= 0)
		return attach_there(tree, target, path);
	sys_close(tree);
	return r;
}

static long open_tree(const char *path, bool recursive)
{
	self.detail = AT_SOURCE;
	return sys(__NR_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? RECURSIVE : 0));
}

long step_BIND(const struct step *step)
{
	long tree = open_tree(step_text(step, 0), step_number(step, 2) != 0);
	if (tree < 0)
		return tree;
	long r = set_attributes(tree, false, (u64)step_number(step, 3), (u64)step_number(step, 4));
	if (r >= 0)
		return attach_to(tree, step_text(step, 1), step_number(step, 5));
	sys_close(tree);
	return r;
}

enum volume { WHOLE = 1, MAP_WHOLE = 2, TREE_FIRST = 4, LOCKS = 8, ASK = 16 };

long map_volume(const struct step *step, long tree)
{
	long names = kept(step_number(step, 7));
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (u64)names};
	u64 flags = AT_EMPTY_PATH | (step_number(step, 2) & MAP_WHOLE ? RECURSIVE : 0);
	self.detail = AT_MAPS;
	return names < 0 ? names : sys(__NR_mount_setattr, tree, "", flags, &attr, sizeof attr);
}

/* What statfs(2) tells of a mount, as MOUNT_ATTR_*; the four lowest bits are the same in both. */
static u64 attributes_found(u64 flags)
{
	enum { NOATIME = 0x400, NODIRATIME = 0x800, RELATIME = 0x1000, NOSYMFOLLOW = 0x2000 };
	u64 attributes = flags & LOCKED;
	if (flags & NODIRATIME)
		attributes |= MOUNT_ATTR_NODIRATIME;
	if (flags & NOSYMFOLLOW)
		attributes |= MOUNT_ATTR_NOSYMFOLLOW;
	if (flags & NOATIME)
		return attributes | MOUNT_ATTR_NOATIME;
	return flags & RELATIME ? attributes : attributes | MOUNT_ATTR_STRICTATIME;
}

/* Of a mount that the host made read-only and the like, root of a user namespace may take nothing away: what is only
 * implied is left as it is, what was asked for in words is an error.  The kernel sees to that where the copy is made
 * inside; for one that the supervisor made, it is done here. */
static long set_within_locks(long tree, u64 set, u64 clear, u64 yielding)
{
	const u64 times = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
	struct statfs found;
	self.detail = AT_ATTRIBUTES;
	long r = sys(__NR_fstatfs, tree, &found);
	if (r < 0)
		return r;
	u64 there = attributes_found((u64)found.f_flags);
	if (there & clear & LOCKED || (clear & MOUNT_ATTR__ATIME && (there & times) != (set & times)))
		return -EPERM;
	return set_attributes(tree, false, set & ~times, (clear | yielding) & MOUNT_ATTR_NOSYMFOLLOW);
}

static long set_of_volume(long tree, const struct step *step, bool locked)
{
	u64 set = (u64)step_number(step, 3), clear = (u64)step_number(step, 4), yielding = (u64)step_number(step, 5);
	if (!set && !clear && !yielding)
		return 0;
	long r = locked ? -EPERM : set_attributes(tree, false, set, clear | yielding);
	return r == -EPERM ? set_within_locks(tree, set, clear, yielding) : r;
}

long step_VOLUME(const struct step *step)
{
	i64 how = step_number(step, 2), maps = step_number(step, 7);
	long spare = kept(step_number(step, 6));
	bool lent = spare >= 0 && how & TREE_FIRST;
	long tree = lent ? spare : open_tree(step_text(step, 0), (how & WHOLE) != 0);
	if (tree < 0 && spare >= 0) {
		lent = true;
		tree = spare;
	}
	if (lent)
		tree = sys(__NR_fcntl, spare, F_DUPFD_CLOEXEC, 3);
	long r = tree;
	if (r >= 0 && maps >= 0)
		r = how & ASK ? hand_over(MAP, tree) : map_volume(step, tree);
	if (r >= 0)
		r = set_of_volume(tree, step, lent && how & LOCKS);
	if (r >= 0)
		return attach_to(tree, step_text(step, 1), 1);
	sys_close(tree);
	return r;
}

/* The mount that was made last is known; any other is looked for. */
static long mounted_at(const char *path)
{
	if (newest.tree >= 0 && !strcmp(newest.target, path))
		return sys(__NR_fcntl, newest.tree, F_DUPFD_CLOEXEC, 3);
	return target_in_root(path, MAKE_NOTHING, 0);
}

long step_SET_ATTR(const struct step *step)
{
	long target = mounted_at(step_text(step, 0));
	if (target < 0)
		return target;
	long r = set_attributes(target, step_number(step, 1) != 0, (u64)step_number(step, 2), (u64)step_number(step, 3));
	sys_close(target);
	return r;
}

long step_SET_PROPAGATION(const struct step *step)
{
	long target = mounted_at(step_text(step, 0));
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
	/* The node is the host's: read-only, a program can still write to it, but not give it another owner or mode. */
	if (tree >= 0)
		r = set_attributes(tree, false, MOUNT_ATTR_RDONLY, 0);
	if (r >= 0)
		r = attach(tree, target);
	sys_close(tree);
	return r;
}

/* Only what is missing needs no mask; anything else that keeps us from finding it is an error. */
static bool missing(long r)
{
	return r == -ENOENT || r == -ENOTDIR;
}

/* One empty tmpfs serves all directories: the superblock is what costs. */
static long empty_tree(void)
{
	static const char *const options[] = {"size", "4k", "nr_inodes", "1", "ro", NULL, NULL, NULL};
	if (empty >= 0)
		return clone_tree(empty, false);
	long tree = new_mount("tmpfs", options,
			      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	empty = tree < 0 ? tree : sys(__NR_fcntl, tree, F_DUPFD_CLOEXEC, 3);
	return tree;
}

long step_MASK(const struct step *step)
{
	struct stat found;
	long target = hidden(step_text(step, 0));
	if (target < 0)
		return missing(target) ? 0 : target;
	long r = sys_stat(target, &found);
	if (r >= 0 && !S_ISDIR(found.st_mode)) {
		r = attach_null(target);
	} else if (r >= 0) {
		long tree = r = empty_tree();
		if (tree >= 0)
			r = attach(tree, target);
		sys_close(tree);
	}
	sys_close(target);
	return r;
}

long step_READ_ONLY(const struct step *step)
{
	long target = hidden(step_text(step, 0));
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
