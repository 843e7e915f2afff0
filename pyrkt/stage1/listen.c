/* The metadata service's place in a pod: its socket is made inside, by PID 1 in the pod's network namespace, and served from
 * outside, by a child of the supervisor that nobody in the pod can see.
 *
 * The supervisor keeps the listener: a service that died is started again, and who connected meanwhile has only waited.
 */
#include "metadata.h"
#include "stage1.h"
#include "text.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

enum { TABLE_PATH, KEY_PATH, ADDRESS, PORT }; /* the step's arguments */
enum { QUEUE = 128, BEYOND_STDIO = 10, TOO_SOON_MS = 1000 };

static struct {
	const struct step *step; /* NULL: there is no service */
	long listener;
	i32 pidfd; /* -1: nobody serves */
	i64 since;
} service = {.listener = -1, .pidfd = -1};

/* --- inside ---------------------------------------------------------------------------------------------------------- */

static bool read_address(const char *text, u8 address[4])
{
	u32 part = 0, value = 0, digits = 0;
	for (;; text++) {
		if (*text >= '0' && *text <= '9' && digits < 3) {
			value = value * 10 + (u32)(*text - '0');
			digits++;
		} else if (digits && value < 256 && (part < 3 ? *text == '.' : !*text)) {
			address[part++] = (u8)value;
			if (!*text)
				return true;
			value = digits = 0;
		} else {
			return false;
		}
	}
}

static long listen_at(long fd, const char *address, i64 port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = (u16)((port & 0xff) << 8 | (port >> 8 & 0xff))};
	int on = 1;
	if (!read_address(address, (u8 *)&at.sin_addr))
		return -EINVAL;
	/* what is accepted has it too: two answers in a row must not wait for each other's acknowledgement */
	sys(__NR_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	long r = sys(__NR_bind, fd, &at, sizeof at);
	return r < 0 ? r : sys(__NR_listen, fd, QUEUE);
}

long step_METADATA(const struct step *step)
{
	long fd = sys(__NR_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	long r = listen_at(fd, step_text(step, ADDRESS), step_number(step, PORT));
	if (r >= 0)
		r = hand_over(LISTENING, fd);
	sys_close(fd);
	return r;
}

/* --- outside --------------------------------------------------------------------------------------------------------- */

/* A new program, not a copy of this one: the plan, and the variables of who asked, are not for it. */
static _Noreturn void become_service(long table, long key, i64 parent)
{
	static const char *const nothing[] = {NULL};
	char digits[24];
	struct text number = TEXT(digits);
	const char *argv[] = {"pyrkt-metadata", "metadata", digits, NULL};
	long given[] = {service.listener, table, key};
	text_add_number(&number, parent);
	sys(__NR_setsid);
	for (int i = 0; i < 3; i++)
		given[i] = sys(__NR_fcntl, given[i], F_DUPFD_CLOEXEC, BEYOND_STDIO);
	for (int i = 0; i < 3; i++)
		sys(__NR_dup3, given[i], i, 0);
	sys(__NR_execveat, self.proc, "self/exe", argv, nothing, 0);
	sys_exit(START_FAILED);
}

static long serve(void)
{
	self.detail = AT_SOURCE;
	long key = -1, table = sys_open(AT_FDCWD, step_text(service.step, TABLE_PATH), O_RDONLY | O_NOFOLLOW, 0);
	if (table < 0)
		return table;
	long r = key = sys_open(AT_FDCWD, step_text(service.step, KEY_PATH), O_RDONLY | O_NOFOLLOW, 0);
	if (r >= 0) {
		self.detail = AT_CLONE;
		i64 parent = sys(__NR_getpid), pid = clone_process(0, &service.pidfd, -1);
		if (pid == 0)
			become_service(table, key, parent);
		r = pid < 0 ? (long)pid : 0;
	}
	sys_close(table);
	sys_close(key);
	service.since = now_ms();
	return r;
}

long metadata_begin(const struct step *step, long listener)
{
	service.step = step;
	service.listener = listener;
	return serve();
}

static void kill_it(void)
{
	if (service.pidfd >= 0)
		sys(__NR_pidfd_send_signal, service.pidfd, SIGKILL, NULL, 0);
}

static void stop_serving(void)
{
	if (service.pidfd < 0)
		return;
	kill_it();
	wait_for(service.pidfd);
	sys_close(service.pidfd);
	service.pidfd = -1;
}

void metadata_dismiss(void)
{
	kill_it();
	sys_close(service.listener); /* it would keep the network namespace */
	service.listener = -1;
	service.step = NULL;
}

void metadata_end(void)
{
	metadata_dismiss();
	stop_serving();
}

void metadata_renew(void)
{
	if (!service.step)
		return;
	stop_serving();
	if (serve() < 0)
		metadata_end();
}

void metadata_poll(struct pollfd *poll)
{
	*poll = (struct pollfd){.fd = service.pidfd, .events = POLLIN};
}

/* The apps can wait for who comes next; one that cannot live is not tried again, and they hear so by a refused connection. */
void metadata_move(const struct pollfd *poll)
{
	if (poll->fd < 0 || poll->fd != service.pidfd || !poll->revents)
		return;
	bool lived = now_ms() - service.since >= TOO_SOON_MS;
	stop_serving();
	if (!service.step || !lived || serve() < 0)
		metadata_end();
}
