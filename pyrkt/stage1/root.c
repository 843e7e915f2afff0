/* The root file system: what it is made of, and going into it. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <linux/mount.h>

enum { FSCONFIG_ROOM = 256, MOUNT_DATA_ROOM = 4096, VOLATILE = 1, USERXATTR = 2 };
#define RECURSIVE 0x8000 /* AT_RECURSIVE */

static long use_root(long tree, const char *directory)
{
	self.detail = AT_TARGET;
	long target = sys_open(AT_FDCWD, directory, O_PATH | O_DIRECTORY, 0);
	if (target < 0)
		return target;
	long r = attach(tree, target);
	sys_close(target);
	if (r < 0)
		return r;
	sys_close(self.root);
	self.root = tree;
	return 0;
}

static long bind_root(const char *source, const char *directory, bool recursive, u64 attributes)
{
	self.detail = AT_SOURCE;
	long tree = sys(__NR_open_tree, AT_FDCWD, source,
			OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? RECURSIVE : 0));
	if (tree < 0)
		return tree;
	long r = set_attributes(tree, false, attributes, 0);
	if (r >= 0)
		r = use_root(tree, directory);
	if (r < 0)
		sys_close(tree);
	return r;
}

long step_ROOT_BIND(const struct step *step)
{
	return bind_root(step_text(step, 0), step_text(step, 0), step_number(step, 1) != 0, 0);
}

/* Root of a user namespace may not be let into the directories above; what is made on "/" comes to light by the pivot. */
long step_ROOT_TREE(const struct step *step)
{
	long tree = kept(step_number(step, 0));
	if (tree < 0)
		return tree;
	tree = sys(__NR_fcntl, tree, F_DUPFD_CLOEXEC, 3);
	long r = tree < 0 ? tree : use_root(tree, step_text(step, 1));
	if (r == -EACCES)
		r = use_root(tree, "/");
	if (r < 0)
		sys_close(tree);
	return r;
}

long step_DETACH(const struct step *step)
{
	long tree = kept(step_number(step, 0));
	if (tree < 0)
		return 0;
	long r = sys(__NR_fchdir, tree);
	if (r >= 0)
		r = sys(__NR_umount2, ".", 2 /* MNT_DETACH */);
	sys(__NR_chdir, "/");
	return r == -EINVAL ? 0 : r; /* it was never attached, or somebody else has taken it away */
}

/* overlayfs cuts and unescapes its paths in ways that differ from version to version; what could be cut goes by number. */
static const char *plain(const char *path, char *room, size_t size)
{
	bool odd = strlen(path) >= FSCONFIG_ROOM;
	for (const char *at = path; *at && !odd; at++)
		odd = *at == ':' || *at == ',' || *at == '\\';
	if (!odd)
		return path;
	long fd = sys_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return path; /* the mount will say what is wrong with it */
	struct text text = {.start = room, .size = size};
	text_add(&text, "/proc/self/fd/");
	text_add_number(&text, fd);
	return room;
}

static long overlay_option(long fs, const char *key, const char *path)
{
	char room[40];
	return sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, key, plain(path, room, sizeof room), 0);
}

static long overlay_mount(const struct step *step)
{
	u64 flags = (u64)step_number(step, 4);
	const char *upper = step_text(step, 2);
	long fs = sys(__NR_fsopen, "overlay", FSOPEN_CLOEXEC), r = fs;
	self.detail = AT_OPTION;
	for (const char **lower = self.argv; r >= 0 && *lower; lower++)
		r = overlay_option(fs, "lowerdir+", *lower);
	if (r >= 0 && *upper)
		r = overlay_option(fs, "upperdir", upper);
	if (r >= 0 && *upper)
		r = overlay_option(fs, "workdir", step_text(step, 3));
	if (r >= 0 && flags & VOLATILE)
		r = sys(__NR_fsconfig, fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
	if (r >= 0 && flags & USERXATTR)
		r = sys(__NR_fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0);
	if (r >= 0) {
		self.detail = AT_CREATE;
		r = sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	}
	if (r >= 0)
		r = sys(__NR_fsmount, fs, FSMOUNT_CLOEXEC, *upper ? 0 : MOUNT_ATTR_RDONLY);
	sys_close(fs);
	return r;
}

/* Before Linux 6.7 there is no lowerdir+, and before 6.5 overlayfs knows mount(2) only. */
static long overlay_mount_by_data(const struct step *step)
{
	static char data[MOUNT_DATA_ROOM];
	struct text text = TEXT(data);
	char room[40];
	const char *upper = step_text(step, 2), *directory = step_text(step, 0);
	u64 flags = (u64)step_number(step, 4);
	text_add(&text, "lowerdir=");
	for (const char **lower = self.argv; *lower; lower++) {
		text_add(&text, lower == self.argv ? "" : ":");
		text_add(&text, plain(*lower, room, sizeof room));
	}
	if (*upper) {
		text_add(&text, ",upperdir=");
		text_add(&text, plain(upper, room, sizeof room));
		text_add(&text, ",workdir=");
		text_add(&text, plain(step_text(step, 3), room, sizeof room));
	}
	text_add(&text, flags & VOLATILE ? ",volatile" : "");
	text_add(&text, flags & USERXATTR ? ",userxattr" : "");
	if (text.cut)
		return -E2BIG;
	self.detail = AT_CREATE;
	long r = sys(__NR_mount, "overlay", directory, "overlay", *upper ? 0 : MS_RDONLY, data);
	if (r < 0)
		return r;
	long root = sys_open(AT_FDCWD, directory, O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return root;
	sys_close(self.root);
	self.root = root;
	return 0;
}

/* A volatile mount leaves a mark that forbids the next: after a crash of the host its upper directory may be torn.  Ours goes
 * with the pod, and between two runs of an app nothing has crashed. */
static void forget_volatile(const char *work)
{
	char path[PATH_MAX];
	struct text text = TEXT(path);
	text_add(&text, work);
	text_add(&text, "/work/incompat/volatile");
	long mark = *work && !text.cut ? sys_open(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0) : -1;
	if (mark < 0)
		return;
	sys(__NR_unlinkat, mark, "dirty", 0);
	sys(__NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
	sys_close(mark);
}

long step_ROOT_OVERLAY(const struct step *step)
{
	u32 lowers = step_list(step, 1, self.argv);
	if (!lowers)
		return -EINVAL;
	/* overlayfs takes no single layer without a writable one; it is a read-only bind by another name */
	if (lowers == 1 && !*step_text(step, 2))
		return bind_root(self.argv[0], step_text(step, 0), false, MOUNT_ATTR_RDONLY);
	forget_volatile(step_text(step, 3));
	long tree = overlay_mount(step);
	if (tree == -EINVAL && self.detail == AT_OPTION)
		return overlay_mount_by_data(step);
	if (tree < 0)
		return tree;
	long r = use_root(tree, step_text(step, 0));
	if (r < 0)
		sys_close(tree);
	return r;
}

static long look_from_root(void)
{
	forget_mounts();
	self.detail = AT_CHDIR;
	long r = sys(__NR_chdir, "/");
	if (r < 0)
		return r;
	long root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return root;
	sys_close(self.root);
	self.root = root;
	return 0;
}

long enter_root(long root)
{
	struct mount_attr slave = {.propagation = MS_SLAVE};
	self.detail = AT_SOURCE;
	long old = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	if (old < 0)
		return old;
	self.detail = AT_CHDIR;
	long r = sys(__NR_fchdir, root);
	self.detail = NOWHERE;
	if (r >= 0)
		r = sys(__NR_pivot_root, ".", "."); /* the old root now lies on top of the new one */
	self.detail = AT_OLD_ROOT;
	/* whatever is detached here must stay where it is on the host */
	if (r >= 0)
		r = sys(__NR_mount_setattr, old, "", AT_EMPTY_PATH | RECURSIVE, &slave, sizeof slave);
	if (r >= 0)
		r = sys(__NR_fchdir, old);
	if (r >= 0)
		r = sys(__NR_umount2, ".", 2 /* MNT_DETACH */);
	sys_close(old);
	return r < 0 ? r : look_from_root();
}

long step_PIVOT(const struct step *step)
{
	(void)step;
	return enter_root(self.root);
}

long step_CHROOT(const struct step *step)
{
	(void)step;
	long r = hide_views();
	self.detail = AT_ATTACH;
	if (r >= 0)
		r = sys(__NR_move_mount, self.root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
	self.detail = AT_CHDIR;
	if (r >= 0)
		r = sys(__NR_fchdir, self.root);
	self.detail = NOWHERE;
	if (r >= 0)
		r = sys(__NR_chroot, ".");
	return r < 0 ? r : look_from_root();
}

long step_CHROOT_INTO(const struct step *step)
{
	long root = step_number(step, 0) < 0 ? self.root : kept(step_number(step, 0));
	if (root < 0)
		return root;
	self.detail = AT_CHDIR;
	long r = sys(__NR_fchdir, root);
	self.detail = NOWHERE;
	if (r >= 0)
		r = sys(__NR_chroot, ".");
	return r < 0 ? r : look_from_root();
}

long step_ROOT_READ_ONLY(const struct step *step)
{
	(void)step;
	long root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return root;
	long r = set_attributes(root, false, MOUNT_ATTR_RDONLY, 0);
	sys_close(root);
	return r;
}

long step_ROOT_EMPTY(const struct step *step)
{
	(void)step;
	self.empty_root = true; /* the apps still need the host's tree: INIT does it when they are set up */
	return 0;
}
