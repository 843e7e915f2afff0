/* Users and groups: the maps of a user namespace, and becoming somebody in it. */
#include "stage1.h"
#include "text.h"

#include <linux/prctl.h>

static long write_map(i64 pid, const char *file, const void *data, size_t size)
{
	char path[40];
	struct text text = TEXT(path);
	text_add_number(&text, pid);
	text_add(&text, file);
	return proc_write(path, data, size);
}

long map_ids(i64 pid, struct bytes uids, struct bytes gids, bool deny)
{
	long r = deny ? write_map(pid, "/setgroups", "deny", 4) : 0;
	if (r >= 0 && gids.size)
		r = write_map(pid, "/gid_map", gids.at, gids.size);
	if (r >= 0 && uids.size)
		r = write_map(pid, "/uid_map", uids.at, uids.size);
	return r;
}

long step_MAP_IDS(const struct step *step)
{
	return map_ids(self.child, step->arg[0], step->arg[1], step_number(step, 2) != 0);
}

/* No groups is what was asked for and what a namespace without setgroups(2) has from the start. */
static long set_groups(const void *groups, size_t count)
{
	long r = sys(__NR_setgroups, count, groups);
	if (r != -EPERM || count)
		return r;
	char word[8] = "";
	long fd = proc_open("self/setgroups", O_RDONLY);
	if (fd >= 0)
		read_all(fd, word, sizeof word - 1);
	sys_close(fd);
	return text_starts(word, "deny") ? 0 : r;
}

long step_ROOT_IDS(const struct step *step)
{
	(void)step;
	self.detail = AT_GROUPS;
	long r = set_groups(NULL, 0);
	self.detail = AT_GID;
	if (r >= 0)
		r = sys(__NR_setresgid, 0, 0, 0);
	if (r < 0)
		return r;
	self.detail = AT_UID;
	return sys(__NR_setresuid, 0, 0, 0);
}

/* /dev/stdout and its like open the pipe, or the pod's log, behind it anew, as whoever the program runs as. */
static void own_stdio(u32 uid)
{
	struct stat found;
	for (int fd = 0; fd < 3; fd++) {
		if (sys_stat(fd, &found) < 0 || found.st_uid == uid)
			continue;
		if (S_ISFIFO(found.st_mode) || (S_ISREG(found.st_mode) && self.own_stdio >> fd & 1))
			sys(__NR_fchown, fd, uid, -1);
	}
}

long step_USER(const struct step *step)
{
	u32 uid = (u32)step_number(step, 0), gid = (u32)step_number(step, 1);
	if (step->arg[2].size % sizeof(u32))
		return -EINVAL;
	own_stdio(uid);
	long r = sys(__NR_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
	self.detail = AT_GROUPS;
	if (r >= 0)
		r = set_groups(step->arg[2].at, step->arg[2].size / sizeof(u32));
	self.detail = r < 0 ? AT_GROUPS : AT_GID;
	if (r >= 0)
		r = sys(__NR_setresgid, gid, gid, gid);
	if (r < 0)
		return r;
	self.detail = AT_UID;
	r = sys(__NR_setresuid, uid, uid, uid);
	/* a change of ids makes it what fs.suid_dumpable says */
	if (r >= 0)
		r = sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	return r < 0 ? r : enter_late_directory();
}
