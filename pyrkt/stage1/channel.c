/* The socket between the supervisor and the processes of the container: whole messages, with descriptors. */
#include "stage1.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { MOST_FDS = 3 };

union control {
	struct cmsghdr head;
	u8 bytes[CMSG_SPACE(MOST_FDS * sizeof(i32))];
};

long send_message(long channel, const struct message *message, const i32 *fds, u32 count)
{
	union control control;
	struct iovec data = {(void *)(uintptr_t)message, sizeof *message};
	struct msghdr head = {.msg_iov = &data, .msg_iovlen = 1};
	if (count) {
		memset(&control, 0, sizeof control);
		control.head = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(count * sizeof *fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof *fds);
		head.msg_control = &control;
		head.msg_controllen = CMSG_SPACE(count * sizeof *fds);
	}
	long r;
	while ((r = sys(__NR_sendmsg, channel, &head, MSG_NOSIGNAL)) == -EINTR)
		;
	return r < 0 ? r : 0;
}

/* To a stranger: the name is all the data there is. */
long send_descriptor(long to, const char *name, long descriptor)
{
	union control control;
	i32 fd = (i32)descriptor;
	struct iovec data = {(void *)(uintptr_t)name, strlen(name)};
	memset(&control, 0, sizeof control);
	control.head =
		(struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
	struct msghdr head = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof fd)};
	long r;
	while ((r = sys(__NR_sendmsg, to, &head, MSG_NOSIGNAL)) == -EINTR)
		;
	return r < 0 ? r : 0;
}

/* The size of what came, 0 at the end, -EAGAIN if there is nothing and wait is off; missing fds are -1. */
long receive(long channel, void *data, size_t size, i32 *fds, u32 room, bool wait)
{
	union control control;
	struct iovec place = {data, size};
	struct msghdr head = {
		.msg_iov = &place, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	for (u32 i = 0; i < room; i++)
		fds[i] = -1;
	long r;
	do {
		r = sys(__NR_recvmsg, channel, &head, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	} while (r == -EINTR);
	if (r < 0)
		return r == -ECONNRESET ? 0 : r;
	if (head.msg_controllen >= sizeof control.head && control.head.cmsg_type == SCM_RIGHTS) {
		u32 count = (u32)((control.head.cmsg_len - CMSG_LEN(0)) / sizeof(i32));
		for (u32 i = 0; i < count && i < MOST_FDS; i++) {
			i32 fd;
			memcpy(&fd, CMSG_DATA(&control.head) + i * sizeof fd, sizeof fd);
			if (i < room)
				fds[i] = fd;
			else
				sys_close(fd);
		}
	}
	return r;
}

/* 1 with a message, 0 at the end, -EAGAIN if there is none and wait is off; missing fds are -1 */
long receive_message(long channel, struct message *message, i32 *fds, u32 room, bool wait)
{
	long r = receive(channel, message, sizeof *message, fds, room, wait);
	if (r > 0)
		return r == sizeof *message ? 1 : -EBADMSG;
	return r;
}

long await_go(void)
{
	struct message message;
	long r = receive_message(self.channel, &message, NULL, 0, true);
	/* The supervisor is gone or has given up: nobody is left to tell. */
	if (r != 1 || message.kind != GO)
		sys_exit(START_FAILED);
	return 0;
}

/* To the supervisor, which does with it what only the host's side can; returns when that is done: output before a terminal
 * is where it belongs would find no reader, and of a file system only its owner may map the ids, but only here its name
 * leads where it should. */
long hand_over(enum kind kind, long descriptor)
{
	i32 pair[2];
	struct message message = {kind, self.index, 0, 0};
	self.detail = AT_SYNC;
	long r = sys(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (r < 0)
		return r;
	i32 fds[2] = {(i32)descriptor, pair[1]};
	r = send_message(self.channel, &message, fds, 2);
	sys_close(pair[1]);
	if (r >= 0 && receive_message(pair[0], &message, NULL, 0, true) != 1)
		sys_exit(START_FAILED); /* the supervisor says why */
	sys_close(pair[0]);
	return r;
}

long step_MEET(const struct step *step)
{
	(void)step;
	if (self.phase != CHILD)
		return 0;
	self.detail = AT_SYNC;
	struct message message = {MEET, self.index, 0, 0};
	long r = send_message(self.channel, &message, NULL, 0);
	return r < 0 ? r : await_go();
}
