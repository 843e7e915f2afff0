/* Paths inside the root: resolved by the kernel as if the root were "/", and held as descriptors from then on. */
#include "stage1.h"

#include <limits.h>
#include <linux/openat2.h>

enum { RACES = 128, LINKS = 40 /* as many as the kernel follows */ };

long in_tree(long tree, const char *path, u64 flags, u64 resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve};
	long r = -EAGAIN;
	/* EAGAIN: a rename somewhere on the host went on meanwhile, and ".." could not be trusted */
	for (int i = 0; i < RACES && (r == -EAGAIN || r == -EINTR); i++)
		r = sys(__NR_openat2, tree, *path ? path : "/", &how, sizeof how);
	return r;
}

long in_root(const char *path, u64 flags, u64 resolve)
{
	return in_tree(self.root, path, flags, resolve);
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

/* A walk from the root, one name at a time, that makes what is missing: also what a dangling link of the image leads to,
 * as if the root were "/".  Each directory is held, and found from the one before it. */
struct walk {
	char done[PATH_MAX]; /* where `at` is, below the root: no link, no "..", no slash at the end */
	char rest[PATH_MAX]; /* what is still to go */
	long at;
	int links, made;
	enum make make; /* what the last name is to be */
};

/* Puts path before what is still to go. */
static long prepend(struct walk *walk, const char *path, size_t size)
{
	size_t rest = strlen(walk->rest);
	if (size + rest + 2 > sizeof walk->rest)
		return -ENAMETOOLONG;
	for (size_t i = rest + 1; i-- > 0;)
		walk->rest[size + 1 + i] = walk->rest[i];
	walk->rest[size] = '/';
	memcpy(walk->rest, path, size);
	return 0;
}

static long stand(struct walk *walk, long at)
{
	sys_close(walk->at);
	walk->at = at;
	return at < 0 ? at : 0;
}

/* done holds no link, so the directory above is the one without its last name; a link put there meanwhile is refused */
static long climb(struct walk *walk)
{
	size_t size = strlen(walk->done);
	while (size && walk->done[size - 1] != '/')
		size--;
	walk->done[size ? size - 1 : 0] = 0;
	return stand(walk, in_root(walk->done, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS));
}

static long follow(struct walk *walk, long link)
{
	char target[PATH_MAX];
	if (++walk->links > LINKS)
		return -ELOOP;
	long size = sys(__NR_readlinkat, link, "", target, sizeof target);
	if (size < 0)
		return size;
	if (!size || size == sizeof target)
		return size ? -ENAMETOOLONG : -ENOENT;
	long r = prepend(walk, target, (size_t)size);
	if (r < 0 || *target != '/')
		return r;
	walk->done[0] = 0;
	return stand(walk, in_root("/", O_PATH | O_DIRECTORY, 0));
}

/* Somebody may have made it in the meantime; the walk looks again. */
static long make_name(struct walk *walk, const char *name, bool last)
{
	long r;
	if (last && walk->make == MAKE_FILE) {
		r = sys_open(walk->at, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0644);
		sys_close(r);
	} else {
		r = sys(__NR_mkdirat, walk->at, name, 0755);
	}
	/* more names than a path has: somebody takes them away again */
	if (++walk->made > PATH_MAX)
		return -EAGAIN;
	return r == -EEXIST || r >= 0 ? 0 : r;
}

/* Goes on by one name, which stays in front of the rest if it was made only now. */
static long go(struct walk *walk, u64 resolve)
{
	char name[NAME_MAX + 1], rest[PATH_MAX];
	struct stat found;
	size_t size = 0, done = strlen(walk->done);
	while (walk->rest[size] && walk->rest[size] != '/')
		size++;
	if (size > NAME_MAX || done + size + 2 > sizeof walk->done)
		return -ENAMETOOLONG;
	memcpy(name, walk->rest, size);
	name[size] = 0;
	const char *after = walk->rest + size;
	while (*after == '/')
		after++;
	memcpy(rest, after, strlen(after) + 1);
	if (!strcmp(name, "..")) {
		memcpy(walk->rest, rest, strlen(rest) + 1);
		return climb(walk);
	}
	long next = sys_open(walk->at, name, O_PATH | O_NOFOLLOW, 0);
	if (next == -ENOENT)
		return make_name(walk, name, !*rest);
	if (next < 0)
		return next;
	memcpy(walk->rest, rest, strlen(rest) + 1);
	long r = sys_stat(next, &found);
	if (r >= 0 && S_ISLNK(found.st_mode)) {
		r = resolve & RESOLVE_NO_SYMLINKS ? -ELOOP : follow(walk, next);
		sys_close(next);
		return r;
	}
	walk->done[done] = '/';
	memcpy(walk->done + done + 1, name, size + 1);
	return stand(walk, next);
}

/* Opens path, making its directories, and itself as `make` says, where they are missing. */
static long make_path(const char *path, enum make make, u64 resolve)
{
	static struct walk walk;
	walk = (struct walk){.at = in_root("/", O_PATH | O_DIRECTORY, 0), .make = make};
	long r = walk.at < 0 ? walk.at : copy_path(walk.rest, path);
	while (r >= 0) {
		size_t skip = 0;
		while (walk.rest[skip] == '/' || (walk.rest[skip] == '.' && (walk.rest[skip + 1] == '/' || !walk.rest[skip + 1])))
			skip++;
		for (size_t i = 0; skip && (i == 0 || walk.rest[i - 1]); i++)
			walk.rest[i] = walk.rest[i + skip];
		if (!walk.rest[0])
			return walk.at;
		r = go(&walk, resolve);
	}
	sys_close(walk.at);
	return r;
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
	return parent == -ENOENT && make ? make_path(copy, MAKE_DIRECTORY, 0) : parent;
}

long target_in_root(const char *path, enum make make, u64 resolve)
{
	self.detail = AT_TARGET;
	long target = in_root(path, O_PATH, resolve);
	if (target != -ENOENT || make == MAKE_NOTHING)
		return target;
	self.detail = AT_MAKE;
	return make_path(path, make, resolve);
}
