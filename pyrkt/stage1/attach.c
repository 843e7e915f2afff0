/* Those who attach to an app: any number up to MOST_CLIENTS hears it, at most one of them types.
 *
 * A message is one byte that says what it is, and its data; SOCK_SEQPACKET keeps messages whole.
 *   to us:    'a' wanted             the endpoints to attach to, as a mask; none only asks
 *             'i' bytes              input
 *             'c'                    the end of the input
 *             'w' rows columns       u16, little-endian: the size of the terminal's window
 *   from us:  'a' there given        masks; what is wanted and there and not given is the input that another one has
 *             't', 'o', 'e' bytes    what came from the terminal, stdout, stderr
 *             'x'                    the app has ended
 *
 * The kernel's buffer of the socket is all the room that a reader has.  Where it is full the app waits for STALL_MS at
 * most; a reader that has not taken most of it by then is dropped.
 */
#include "stage1.h"
#include "streams.h"
#include "text.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

enum { MESSAGE = 1 + 4096, WAITING = 4, IN = STDIN | TERMINAL_IN };

struct client {
	long fd;
	u8 wants, owed; /* endpoints; flows whose last bytes it has not got, as a mask */
	i64 deadline;
};

static struct {
	const char *path;
	long listener;
	u8 there;
	u32 count;
	struct client clients[MOST_CLIENTS];
	struct {
		const u8 *bytes;
		u32 size;
	} last[FLOWS];
} attach_to = {.listener = -1};

static u8 heard[MESSAGE];

/* A path that is too long for an address goes by the descriptor of its directory. */
static long bind_at(long fd, const char *path)
{
	char directory[PATH_MAX];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct text text = TEXT(directory), name = TEXT(address.sun_path);
	const char *base = text_base(path);
	text_add_bytes(&text, path, (size_t)(base - path));
	if (text.cut || base == path)
		return -ENAMETOOLONG;
	long parent = sys_open(AT_FDCWD, directory, O_PATH | O_DIRECTORY, 0);
	if (parent < 0)
		return parent;
	text_add(&name, "/proc/self/fd/");
	text_add_number(&name, parent);
	text_add(&name, "/");
	text_add(&name, base);
	sys(__NR_unlinkat, parent, base, 0); /* of an earlier life */
	u32 mask = (u32)sys(__NR_umask, 0177);
	long r = name.cut ? -ENAMETOOLONG : sys(__NR_bind, fd, &address, sizeof address);
	sys(__NR_umask, mask);
	sys_close(parent);
	return r;
}

long attach_open(const char *path, u8 endpoints)
{
	long fd = sys(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	long r = bind_at(fd, path);
	if (r >= 0)
		r = sys(__NR_listen, fd, WAITING);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	attach_to.path = path;
	attach_to.listener = fd;
	attach_to.there = endpoints;
	return 0;
}

void attach_polls(struct pollfd *polls)
{
	bool full = attach_to.count == MOST_CLIENTS;
	polls[0] = (struct pollfd){.fd = full ? -1 : (int)attach_to.listener, .events = POLLIN};
	for (u32 i = 0; i < MOST_CLIENTS; i++) {
		const struct client *client = &attach_to.clients[i];
		/* whose input has no room yet is not even asked whether he is gone: what he has sent is still to come */
		bool hears = !(client->wants & IN) || streams_input_ready();
		short events = (short)((hears ? POLLIN : 0) | (client->owed ? POLLOUT : 0));
		polls[1 + i] = (struct pollfd){.fd = i < attach_to.count && events ? (int)client->fd : -1, .events = events};
	}
}

static long say(const struct client *client, u8 kind, const u8 *bytes, u32 size)
{
	struct iovec parts[] = {{&kind, 1}, {(void *)(uintptr_t)bytes, size}};
	struct msghdr head = {.msg_iov = parts, .msg_iovlen = 2};
	return sys(__NR_sendmsg, client->fd, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Closed at the end of a round only: until then the polls and the clients stand in the same order. */
static void drop(struct client *client)
{
	sys_close(client->fd);
	*client = (struct client){.fd = -1};
}

static void forget_dropped(void)
{
	u32 kept = 0;
	for (u32 i = 0; i < attach_to.count; i++)
		if (attach_to.clients[i].fd >= 0)
			attach_to.clients[kept++] = attach_to.clients[i];
	attach_to.count = kept;
}

static u8 endpoint_of(enum flow_name flow)
{
	static const u8 endpoints[FLOWS] = {TERMINAL_OUT, STDOUT, STDERR};
	return endpoints[flow];
}

/* True if it is not to be tried again: it has got them, or reads no more; what it has typed may still be on its way. */
static bool hand(struct client *client, enum flow_name flow)
{
	long r = say(client, (u8)"toe"[flow], attach_to.last[flow].bytes, attach_to.last[flow].size);
	if (r == -EAGAIN || r == -EINTR || r == -ENOBUFS || r == -ENOMEM)
		return false;
	if (r < 0)
		client->wants &= IN;
	if (r < 0 && !client->wants)
		drop(client);
	return true;
}

void attach_give(enum flow_name flow, const u8 *bytes, u32 size)
{
	attach_to.last[flow].bytes = bytes;
	attach_to.last[flow].size = size;
	for (u32 i = 0; i < attach_to.count; i++) {
		struct client *client = &attach_to.clients[i];
		if (client->fd < 0 || !(client->wants & endpoint_of(flow)) || hand(client, flow))
			continue;
		if (!client->owed)
			client->deadline = now_ms() + STALL_MS;
		client->owed |= (u8)(1 << flow);
	}
}

bool attach_owes(enum flow_name flow)
{
	for (u32 i = 0; i < attach_to.count; i++)
		if (attach_to.clients[i].fd >= 0 && attach_to.clients[i].owed >> flow & 1)
			return true;
	return false;
}

i64 attach_deadline(void)
{
	i64 first = 0;
	for (u32 i = 0; i < attach_to.count; i++) {
		const struct client *client = &attach_to.clients[i];
		if (client->owed && (!first || client->deadline < first))
			first = client->deadline;
	}
	return first;
}

static void pay(struct client *client)
{
	for (enum flow_name flow = 0; flow < FLOWS && client->fd >= 0; flow++)
		if (client->owed >> flow & 1 && hand(client, flow) && client->fd >= 0)
			client->owed &= (u8)~(1 << flow);
}

static bool somebody_types(void)
{
	for (u32 i = 0; i < attach_to.count; i++)
		if (attach_to.clients[i].fd >= 0 && attach_to.clients[i].wants & IN)
			return true;
	return false;
}

static void welcome(struct client *client, u8 wanted)
{
	u8 given = wanted & attach_to.there;
	if (given & IN && somebody_types())
		given &= (u8)~IN;
	u8 answer[] = {attach_to.there, given};
	if (say(client, 'a', answer, sizeof answer) < 0)
		drop(client);
	else
		client->wants = given;
}

static u16 short_at(const u8 *at)
{
	return (u16)(at[0] | at[1] << 8);
}

static void hear(struct client *client)
{
	const u8 *message = heard;
	long r = sys(__NR_recvfrom, client->fd, message, MESSAGE, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL);
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r <= 0 || r > MESSAGE)
		drop(client);
	else if (message[0] == 'a' && r == 2 && !client->wants)
		welcome(client, message[1]);
	else if (message[0] == 'i' && client->wants & IN)
		streams_input(message + 1, (u32)r - 1);
	else if (message[0] == 'c' && r == 1 && client->wants & IN)
		streams_input_end();
	else if (message[0] == 'w' && r == 5 && client->wants & (TERMINAL_IN | TERMINAL_OUT))
		streams_size(short_at(message + 1), short_at(message + 3));
	else
		drop(client);
}

static void let_in(void)
{
	long fd = sys(__NR_accept4, attach_to.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		attach_to.clients[attach_to.count++] = (struct client){.fd = fd};
}

void attach_move(const struct pollfd *polls)
{
	i64 now = attach_deadline() ? now_ms() : 0;
	for (u32 i = 0; i < attach_to.count; i++) {
		struct client *client = &attach_to.clients[i];
		if (polls[1 + i].fd != client->fd || client->fd < 0)
			continue;
		if (polls[1 + i].revents & POLLOUT)
			pay(client);
		/* what it has said counts before that it is gone */
		if (client->fd >= 0 && polls[1 + i].revents & POLLIN)
			hear(client);
		else if (client->fd >= 0 && polls[1 + i].events & POLLIN && polls[1 + i].revents & (POLLHUP | POLLERR))
			drop(client);
		if (client->fd >= 0 && client->owed && now >= client->deadline)
			drop(client);
	}
	forget_dropped();
	if (polls[0].fd >= 0 && polls[0].revents)
		let_in();
}

/* A reader that has got everything may still have no room for the last word. */
static void say_end(const struct client *client, i64 until)
{
	i64 rest;
	while (say(client, 'x', NULL, 0) == -EAGAIN && (rest = until - now_ms()) > 0) {
		struct pollfd poll = {.fd = (int)client->fd, .events = POLLOUT};
		struct timespec limit = {.tv_sec = rest / 1000, .tv_nsec = rest % 1000 * 1000000};
		sys(__NR_ppoll, &poll, 1, &limit, NULL, 8);
	}
}

void attach_end(bool ended)
{
	i64 until = now_ms() + STALL_MS;
	for (u32 i = 0; i < attach_to.count; i++) {
		if (ended)
			say_end(&attach_to.clients[i], until);
		sys_close(attach_to.clients[i].fd);
	}
	attach_to.count = 0;
	sys_close(attach_to.listener);
	if (attach_to.path)
		sys(__NR_unlinkat, AT_FDCWD, attach_to.path, 0);
	attach_to.listener = -1;
	attach_to.path = NULL;
}
