/* Socket activation (sd_listen_fds(3)): sockets that somebody has opened for the pod, for the apps that want them.
 *
 * They are descriptors 3 and on of the pod's supervisor, if LISTEN_PID is its number.  Members inherit them, and an app's
 * first process takes those of its ports, found by what the sockets themselves say. */
#include "stage1.h"
#include "text.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum { FIRST_GIVEN = 3, MOST = 64, BEYOND = 512 };

static char words[2][40];
static u32 taken;

static i64 number_of(const char *name)
{
	i64 number;
	for (char **each = self.environment; *each; each++)
		if (text_starts(*each, name) && text_number(*each + strlen(name), &number))
			return number;
	return -1;
}

static u32 given_to(i64 pid)
{
	i64 count = number_of("LISTEN_PID=") == pid ? number_of("LISTEN_FDS=") : 0;
	return count > 0 && count <= MOST ? (u32)count : 0;
}

/* In the pod's supervisor: nobody else it starts is to have them. */
u32 sockets_keep(void)
{
	u32 count = given_to(sys(__NR_getpid));
	for (u32 i = 0; i < count; i++)
		sys(__NR_fcntl, FIRST_GIVEN + i, F_SETFD, FD_CLOEXEC);
	return count;
}

void sockets_hand_on(u32 count)
{
	for (u32 i = 0; i < count; i++)
		sys(__NR_fcntl, FIRST_GIVEN + i, F_SETFD, 0);
}

struct wanted {
	u16 port, udp; /* as the bytes of LISTEN have it */
};

static bool fits(long fd, const struct wanted *wanted)
{
	struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
	i32 size = sizeof name, type = 0, type_size = sizeof type;
	if (sys(__NR_getsockname, fd, &name, &size) < 0 ||
	    sys(__NR_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0)
		return false;
	const struct sockaddr_in *at = (const void *)&name; /* the port is at one place in both families */
	u16 port = (u16)(at->sin_port << 8 | at->sin_port >> 8);
	return (name.ss_family == AF_INET || name.ss_family == AF_INET6) && port == wanted->port &&
	       type == (wanted->udp ? SOCK_DGRAM : SOCK_STREAM);
}

/* In the app's first process, whose parent is the member, whose parent LISTEN_PID names. */
long step_LISTEN(const struct step *step)
{
	struct wanted wanted;
	u32 wishes = (u32)(step->arg[0].size / sizeof wanted), count = self.listening;
	long found[MOST];
	for (u32 i = 0; i < wishes; i++) {
		memcpy(&wanted, step->arg[0].at + i * sizeof wanted, sizeof wanted);
		for (u32 fd = FIRST_GIVEN; fd < FIRST_GIVEN + count && taken < MOST; fd++)
			if (fits(fd, &wanted))
				found[taken++] = sys(__NR_fcntl, fd, F_DUPFD_CLOEXEC, BEYOND);
	}
	for (u32 fd = FIRST_GIVEN; fd < FIRST_GIVEN + count; fd++)
		sys_close(fd);
	for (u32 i = 0; i < taken; i++) {
		long r = found[i] < 0 ? found[i] : sys(__NR_dup3, found[i], FIRST_GIVEN + i, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

/* In the member, as long as it is itself the child of who was given them. */
void sockets_count(void)
{
	self.listening = has_step(CHILD, STEP_LISTEN) ? given_to(sys(__NR_getppid)) : 0;
}

/* How many descriptors from 3 on stay open for the program. */
u32 sockets_taken(void)
{
	return taken;
}

/* Adds what tells the program of them; where there is no socket, there is no variable. */
u32 sockets_variables(const char **at)
{
	struct text pid = TEXT(words[0]), count = TEXT(words[1]);
	if (!taken)
		return 0;
	text_add(&pid, "LISTEN_PID=");
	text_add_number(&pid, sys(__NR_getpid)); /* as the pod counts */
	text_add(&count, "LISTEN_FDS=");
	text_add_number(&count, taken);
	at[0] = words[0];
	at[1] = words[1];
	return 2;
}
