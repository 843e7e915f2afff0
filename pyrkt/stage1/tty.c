/* A terminal for the container, of its own devpts; the master goes to the supervisor. */
#include "stage1.h"

#include <asm/ioctls.h>
#include <linux/magic.h>
#include <sys/statfs.h>

struct size {
	u16 rows, columns, width, height;
};

/* The name may be a link of the image's; what it opens must be a devpts (CVE-2025-52565). */
static long open_master(void)
{
	struct statfs found;
	i32 locked = 0;
	self.detail = AT_SOURCE;
	long master = in_root("/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0);
	if (master < 0)
		return master;
	long r = sys(__NR_fstatfs, master, &found);
	if (r >= 0 && found.f_type != DEVPTS_SUPER_MAGIC) {
		self.detail = AT_TYPE;
		r = -ENOTTY;
	}
	if (r >= 0)
		r = sys(__NR_ioctl, master, TIOCSPTLCK, &locked);
	if (r >= 0)
		return master;
	sys_close(master);
	return r;
}

static long mount_console(long terminal)
{
	self.detail = AT_SOURCE;
	long tree = clone_tree(terminal, false);
	if (tree < 0)
		return tree;
	long target = target_in_root("/dev/console", MAKE_FILE, 0), r = target;
	if (target >= 0)
		r = attach(tree, target);
	sys_close(target);
	sys_close(tree);
	return r;
}

static long set_up(const struct step *step, long terminal)
{
	struct size size = {.rows = (u16)step_number(step, 0), .columns = (u16)step_number(step, 1)};
	long r = 0;
	if (size.rows || size.columns)
		r = sys(__NR_ioctl, terminal, TIOCSWINSZ, &size);
	if (r >= 0)
		r = sys(__NR_fchown, terminal, step_number(step, 3), -1);
	if (r >= 0)
		r = mount_console(terminal);
	if (r < 0)
		return r;
	self.detail = AT_ATTACH;
	r = sys(__NR_ioctl, terminal, TIOCSCTTY, 0);
	for (int fd = 0; r >= 0 && fd < 3; fd++)
		r = sys(__NR_dup3, terminal, fd, 0);
	return r;
}

long step_TERMINAL(const struct step *step)
{
	long master = open_master();
	if (master < 0)
		return master;
	self.detail = AT_SOURCE;
	long terminal = sys(__NR_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), r = terminal;
	if (terminal >= 0)
		r = set_up(step, terminal);
	if (r >= 0)
		r = hand_over(TERMINAL, master);
	sys_close(terminal);
	sys_close(master);
	return r;
}
