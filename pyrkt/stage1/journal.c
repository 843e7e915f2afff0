/* Lines for systemd's journal, in its native protocol: one datagram an entry, NAME=VALUE lines, and for values that may
 * hold anything NAME, a line break, the length as 8 bytes, the value, a line break. */
#include "stage1.h"
#include "streams.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

enum { GONE_MS = 1000, STUCK_MS = 30000 }; /* how long it is left alone; the file has the lines in any case */

static struct {
	struct bytes fields; /* the same in each entry */
	long socket;
	i64 not_before;
} journal = {.socket = -1};

static void leave_alone(i64 ms)
{
	sys_close(journal.socket);
	journal.socket = -1;
	journal.not_before = now_ms() + ms;
}

/* One that stands still holds the app up for as long as a reader may, once. */
static void reach(void)
{
	static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
	struct timeval limit = {.tv_sec = STALL_MS / 1000};
	journal.socket = sys(__NR_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sys(__NR_setsockopt, journal.socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (sys(__NR_connect, journal.socket, &address, sizeof address) >= 0)
		return;
	leave_alone(GONE_MS);
}

void journal_open(struct bytes fields)
{
	journal.fields = fields;
	if (fields.size)
		reach();
}

static void put(struct iovec *into, const void *bytes, size_t size)
{
	*into = (struct iovec){(void *)(uintptr_t)bytes, size};
}

void journal_add(const char *stream, const u8 *text, u32 size, bool whole)
{
	const char *level = stream[3] == 'e' ? "PRIORITY=3\n" : "PRIORITY=6\n";
	const char *cut = whole ? "" : "PYRKT_PARTIAL=1\n";
	u8 length[8];
	struct iovec parts[9];
	if (!journal.fields.size || (journal.not_before && now_ms() < journal.not_before))
		return;
	for (int i = 0; i < 8; i++)
		length[i] = (u8)((u64)size >> 8 * i);
	put(&parts[0], journal.fields.at, journal.fields.size);
	put(&parts[1], level, strlen(level));
	put(&parts[2], cut, strlen(cut));
	put(&parts[3], "PYRKT_STREAM=", 13);
	put(&parts[4], stream, 6);
	put(&parts[5], "\nMESSAGE\n", 9);
	put(&parts[6], length, sizeof length);
	put(&parts[7], text, size);
	put(&parts[8], "\n", 1);
	struct msghdr head = {.msg_iov = parts, .msg_iovlen = sizeof parts / sizeof *parts};
	/* it may have been started anew, with a socket of its own */
	for (int attempt = 0; attempt < 2; attempt++) {
		if (journal.socket < 0)
			reach();
		long r = journal.socket < 0 ? 0 : sys(__NR_sendmsg, journal.socket, &head, MSG_NOSIGNAL);
		if (r == -EAGAIN)
			leave_alone(STUCK_MS);
		if (r != -ECONNREFUSED && r != -ENOTCONN && r != -EPIPE && r != -ECONNRESET)
			return;
		sys_close(journal.socket);
		journal.socket = -1;
	}
}
