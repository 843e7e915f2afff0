/* The host's views of its kernel, where the host's tree stays reachable (no pivot_root: ramfs).
 *
 * The kernel lets a user namespace mount a procfs or sysfs of its own if one is in full sight, whatever covers parts of
 * the container's; so those of the host, which nothing covers, must not be in sight at all.
 */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <linux/mount.h>
#include <linux/stat.h>

enum { LINE_ROOM = 3 * PATH_MAX, MOST_ROUNDS = 256 };

/* proc(5): "36 35 98:0 /root /point options ... - type source superoptions" */
struct line {
	i64 id;
	const char *root, *point, *type;
};

/* \040 and the like stand for what would end a field */
static void unescape(char *text)
{
	char *to = text;
	for (; *text; text++) {
		bool octal = *text == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
			     text[3] >= '0' && text[3] <= '7';
		*to++ = octal ? (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0')) : *text;
		text += octal ? 3 : 0;
	}
	*to = 0;
}

static char *field(char **at)
{
	char *begin = *at;
	while (**at && **at != ' ')
		++*at;
	if (**at)
		*(*at)++ = 0;
	return begin;
}

static bool parse(char *text, struct line *line)
{
	char *at = text;
	const char *id = field(&at);
	field(&at);
	field(&at);
	char *root = field(&at), *point = field(&at);
	while (*at && strcmp(field(&at), "-"))
		;
	*line = (struct line){.root = root, .point = point, .type = field(&at)};
	unescape(root);
	unescape(point);
	return text_number(id, &line->id);
}

static bool is_view(const struct line *line)
{
	return !strcmp(line->root, "/") && (!strcmp(line->type, "proc") || !strcmp(line->type, "sysfs"));
}

/* 1 if it was hidden; 0 if the name leads to something else, to a mount of the container's for one */
static long hide(const struct line *line)
{
	struct statx found;
	long fd = sys_open(AT_FDCWD, line->point, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
	if (fd < 0)
		return 0;
	long r = sys(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &found);
	if (r < 0 || (i64)found.stx_mnt_id != line->id) {
		sys_close(fd);
		return r < 0 ? r : 0;
	}
	/* it must stay where it is on the host */
	r = propagate(fd, MS_SLAVE | MS_REC);
	if (r >= 0)
		r = sys(__NR_umount2, line->point, 2 | 8 /* MNT_DETACH, UMOUNT_NOFOLLOW */);
	if (r == -EINVAL || r == -EPERM) { /* locked in a user namespace: what covers it is locked there, too */
		static const char *const options[] = {"size", "4k", "nr_inodes", "2", "mode", "555", NULL};
		long tree = r = new_mount("tmpfs", options, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
		if (tree >= 0)
			r = attach(tree, fd);
		sys_close(tree);
	}
	sys_close(fd);
	return r < 0 ? r : 1;
}

/* The container's own mounts are those whose names begin with where its root is. */
static long hide_first(long table, const char *own)
{
	static char room[LINE_ROOM];
	size_t used = 0;
	long got;
	while ((got = sys(__NR_read, table, room + used, sizeof room - 1 - used)) > 0) {
		char *at = room;
		used += (size_t)got;
		room[used] = 0;
		for (char *end = at; end < room + used; end++) {
			struct line line;
			if (*end != '\n')
				continue;
			*end = 0;
			bool view = parse(at, &line) && is_view(&line) && !(own[1] && text_starts(line.point, own));
			long r = view ? hide(&line) : 0;
			if (r)
				return r;
			at = end + 1;
		}
		used -= (size_t)(at - room);
		for (size_t i = 0; i < used; i++)
			room[i] = at[i];
	}
	return got;
}

static long root_name(struct text *into)
{
	char link[40], path[PATH_MAX];
	struct text text = TEXT(link);
	text_add(&text, "self/fd/");
	text_add_number(&text, self.root);
	long size = sys(__NR_readlinkat, self.proc, link, path, sizeof path);
	if (size < 0)
		return size;
	text_add_bytes(into, path, (size_t)size);
	text_add(into, size > 1 ? "/" : "");
	return into->cut ? -ENAMETOOLONG : 0;
}

long hide_views(void)
{
	static char own[PATH_MAX + 2];
	struct text name = TEXT(own);
	long r = root_name(&name);
	self.detail = AT_SOURCE;
	/* the table changes by what is done: after each the reading begins anew */
	for (int round = 0; r >= 0 && round < MOST_ROUNDS; round++) {
		long table = proc_open("self/mountinfo", O_RDONLY);
		if (table < 0)
			return table;
		r = hide_first(table, own);
		sys_close(table);
		if (r <= 0)
			return r;
	}
	return r < 0 ? r : -ELOOP;
}
