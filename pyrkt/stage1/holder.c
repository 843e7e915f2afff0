/* A systemd scope lives as long as a process is in it, and is started with one: this one, until the container's is there.
 *
 * It is made by stage0 (launch.py) from this very program, "stage1 hold PID", and waits to be killed.  It must not outlive
 * its parent, PID, who becomes the supervisor or has started it.
 */
#include "stage1.h"
#include "text.h"

#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>

_Noreturn void hold(const char *parent)
{
	i64 pid;
	/* an interrupt at the terminal is for the container, which is not there yet */
	sys(__NR_setsid);
	sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (!text_number(parent, &pid) || sys(__NR_getppid) != pid)
		sys_exit(START_FAILED);
	close_all_but(0, NULL, 0);
	for (;;)
		sys(__NR_ppoll, NULL, 0, NULL, NULL, 8);
}

/* Who has become the supervisor is its parent and reaps it; else stage0 is, which leaves that to the kernel. A holder that
 * only had died would still count as a task of the cgroup. */
long step_LET_GO(const struct step *step)
{
	struct pollfd end = {.fd = (int)self.holder, .events = POLLIN};
	(void)step;
	long r = sys(__NR_pidfd_send_signal, self.holder, SIGKILL, NULL, 0);
	if (r < 0 && r != -ESRCH)
		return r;
	do
		r = sys(__NR_ppoll, &end, 1, NULL, NULL, 8);
	while (r == -EINTR);
	if (r >= 0)
		wait_for(self.holder);
	sys_close(self.holder);
	self.holder = -1;
	return r < 0 ? r : 0;
}
