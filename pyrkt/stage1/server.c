/* The process that answers the apps of a pod: "pyrkt-metadata metadata PARENT", made by listen.c from stage1 itself.
 *
 * It has the listener as descriptor 0, the table as 1, the key as 2, and reads both before it gives up all that it could
 * do: then it can accept, read, write and close, and nothing else.  Whatever the apps send, they can only slow down what
 * they themselves ask; its memory is bounded, and given back.
 */
#include "metadata.h"
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum { LISTENER, TABLE, KEY, FIRST_FREE };
enum { CONNECTIONS = 32, ROOM = MOST_HEAD + MOST_BODY, MOST_BIG = 4, MOST_DRAINED = 4 * MOST_BODY, NOBODY = 65534 };

/* ms: a connection that says nothing, one that began to, one that should read its answer, one that was refused, one that
 * is new, and none at all */
enum { IDLE_MS = 30000, REQUEST_MS = 10000, ANSWER_MS = 10000, DRAIN_MS = 1000, GRACE_MS = 50, PAUSE_MS = 100 };

enum state { READING, WRITING, DRAINING };

struct connection {
	long fd; /* -1: free */
	enum state state;
	bool big;   /* may have a request of more than MOST_HEAD bytes */
	bool wants; /* to be big, and has to wait */
	bool told;  /* "100 Continue" */
	u32 used, sent, drained;
	i64 since;
	struct answer answer;
};

static struct {
	struct table table;
	u8 key[KEY_SIZE];
	char *buffers; /* ROOM for each connection */
	struct connection connections[CONNECTIONS];
	u32 bigs;
	i64 now, deaf_until; /* ms */
} server;

static char *buffer_of(const struct connection *c)
{
	return server.buffers + (size_t)(c - server.connections) * ROOM;
}

static void look_at_clock(void)
{
	struct timespec now = {0, 0};
	sys(__NR_clock_gettime, CLOCK_MONOTONIC, &now);
	server.now = now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* An idle connection holds no memory for what it may say. */
static void forget(struct connection *c)
{
	sys(__NR_madvise, buffer_of(c), ROOM, MADV_DONTNEED);
	server.bigs -= c->big;
	c->big = c->wants = false;
}

static void end(struct connection *c)
{
	sys_close(c->fd);
	c->fd = -1;
	server.deaf_until = 0; /* there is room */
	forget(c);
}

/* What was not read when a socket is closed resets it, and the other side would never see the answer. */
static void drain(struct connection *c)
{
	sys(__NR_shutdown, c->fd, SHUT_WR);
	c->state = DRAINING;
	c->since = server.now;
	c->used = c->drained = 0;
}

static void write_answer(struct connection *c)
{
	struct answer *answer = &c->answer;
	u32 size = answer->head_size + answer->body_size;
	while (c->sent < size) {
		u32 body = c->sent > answer->head_size ? c->sent - answer->head_size : 0;
		u32 head = c->sent < answer->head_size ? c->sent : answer->head_size;
		struct iovec parts[2] = {
			{answer->head + head, answer->head_size - head},
			{(void *)(uintptr_t)(answer->body + body), answer->body_size - body},
		};
		long r = sys(__NR_writev, c->fd, parts, answer->body_size ? 2 : 1);
		if (r == -EAGAIN) {
			c->state = WRITING;
			return;
		}
		if (r <= 0) {
			end(c);
			return;
		}
		c->sent += (u32)r;
		c->since = server.now;
	}
	c->state = READING;
	if (!answer->keep)
		drain(c);
}

/* What follows the request is the beginning of the next one. */
static void use_up(struct connection *c, u32 size)
{
	char *buffer = buffer_of(c);
	c->used -= size;
	for (u32 i = 0; i < c->used; i++)
		buffer[i] = buffer[size + i];
	c->sent = 0;
	c->told = false;
	c->since = server.now;
	if (!c->used)
		forget(c);
}

/* The head is there and the body is not, or not whole. */
static void expect(struct connection *c, const struct request *request)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	if (request->expects && !c->told) {
		struct iovec part = {(void *)(uintptr_t)go_on, sizeof go_on - 1};
		c->told = true;
		sys(__NR_writev, c->fd, &part, 1); /* if it does not arrive, the other side sends the body anyhow */
	}
	if (request->body + request->body_size <= MOST_HEAD || c->big)
		return;
	c->wants = server.bigs == MOST_BIG;
	if (!c->wants) {
		c->big = true;
		server.bigs++;
	}
}

static void answer_all(struct connection *c)
{
	while (c->fd >= 0 && c->state == READING && c->used) {
		struct request request;
		long size = http_read(buffer_of(c), c->used, &request);
		if (size == 0) {
			if (request.body)
				expect(c, &request);
			return;
		}
		if (size < 0) {
			metadata_refuse((u32)-size, &c->answer);
			size = c->used;
		} else {
			metadata_answer(&server.table, server.key, buffer_of(c), &request, &c->answer);
		}
		use_up(c, (u32)size);
		write_answer(c);
	}
}

static void read_more(struct connection *c)
{
	u32 room = c->big ? ROOM : MOST_HEAD, from = c->state == DRAINING ? 0 : c->used;
	long r = sys(__NR_read, c->fd, buffer_of(c) + from, room - from);
	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		end(c);
	} else if (c->state == DRAINING) {
		c->drained += (u32)r;
		if (c->drained > MOST_DRAINED)
			end(c);
	} else {
		if (!c->used)
			c->since = server.now;
		c->used += (u32)r;
		answer_all(c);
	}
}

static bool is_busy(const struct connection *c)
{
	return c->state == WRITING || (c->state == READING && c->used);
}

/* Whoever comes must be heard: what waits longest goes, first of all what has nothing to say.  But whoever has just come
 * has not had the time to say it; so long the next one stays in the kernel's queue.
 * NULL if there is no room before *next. */
static struct connection *make_room(i64 *next)
{
	struct connection *oldest = NULL;
	for (u32 i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &server.connections[i];
		if (c->fd < 0)
			return c;
		if (c->since + GRACE_MS > server.now) {
			*next = c->since + GRACE_MS < *next ? c->since + GRACE_MS : *next;
			continue;
		}
		if (!oldest || is_busy(c) < is_busy(oldest) || (is_busy(c) == is_busy(oldest) && c->since < oldest->since))
			oldest = c;
	}
	return oldest;
}

static void accept_all(void)
{
	for (u32 i = 0; i < CONNECTIONS; i++) {
		i64 later = INT64_MAX;
		struct connection *c = make_room(&later);
		if (!c) {
			server.deaf_until = later;
			return;
		}
		long fd = sys(__NR_accept4, LISTENER, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd == -EAGAIN)
			return;
		if (fd < 0) {
			/* ECONNABORTED passes; what is wrong with the host should not make us spin */
			server.deaf_until = server.now + PAUSE_MS;
			return;
		}
		if (c->fd >= 0)
			end(c);
		*c = (struct connection){.fd = fd, .since = server.now};
		read_more(c);
	}
}

static i64 deadline(const struct connection *c)
{
	switch (c->state) {
	case WRITING:
		return c->since + ANSWER_MS;
	case DRAINING:
		return c->since + DRAIN_MS;
	default:
		return c->since + (c->used ? REQUEST_MS : IDLE_MS);
	}
}

static void expire(struct connection *c)
{
	if (c->state != READING || !c->used) {
		end(c);
		return;
	}
	metadata_refuse(408, &c->answer);
	use_up(c, c->used);
	write_answer(c);
}

static short events(struct connection *c)
{
	if (c->state == WRITING)
		return POLLOUT;
	if (c->wants && server.bigs < MOST_BIG) {
		c->wants = false;
		c->big = true;
		server.bigs++;
	}
	return c->wants ? 0 : POLLIN;
}

static void attend(struct connection *c, short happened)
{
	if (c->fd < 0)
		return;
	if (c->wants && happened) {
		end(c); /* nothing was asked for: it is gone */
	} else if (c->state == WRITING && happened) {
		write_answer(c);
		answer_all(c);
	} else if (happened) {
		read_more(c);
	} else if (deadline(c) <= server.now) {
		expire(c);
	}
}

static _Noreturn void answer_for_ever(void)
{
	struct pollfd polls[CONNECTIONS + 1];
	for (;;) {
		look_at_clock();
		bool deaf = server.now < server.deaf_until;
		i64 next = deaf ? server.deaf_until : INT64_MAX;
		polls[CONNECTIONS] = (struct pollfd){.fd = deaf ? -1 : LISTENER, .events = POLLIN};
		for (u32 i = 0; i < CONNECTIONS; i++) {
			struct connection *c = &server.connections[i];
			polls[i] = (struct pollfd){.fd = (int)c->fd};
			if (c->fd < 0)
				continue;
			polls[i].events = events(c);
			next = deadline(c) < next ? deadline(c) : next;
		}
		i64 wait = next > server.now ? next - server.now : 0;
		struct timespec time = {wait / 1000, wait % 1000 * 1000000};
		long r = sys(__NR_ppoll, polls, CONNECTIONS + 1, next == INT64_MAX ? NULL : &time, NULL, 8);
		if (r < 0)
			continue;
		look_at_clock();
		for (u32 i = 0; i < CONNECTIONS; i++)
			attend(&server.connections[i], polls[i].revents);
		if (polls[CONNECTIONS].revents)
			accept_all();
	}
}

/* --- before the first connection --------------------------------------------------------------------------------- */

static char *room(size_t size)
{
	void *at = (void *)sys(__NR_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			       -1, 0);
	return (uintptr_t)at > -4096ul ? NULL : at;
}

/* A copy: the file may be removed, its file system be unmounted, and it cannot change behind the check. */
static bool read_table(void)
{
	struct stat found;
	if (sys_stat(TABLE, &found) < 0 || !S_ISREG(found.st_mode) || found.st_size <= 0 || found.st_size > MOST_TABLE)
		return false;
	size_t size = (size_t)found.st_size;
	u8 *data = (u8 *)room(size);
	return data && read_all(TABLE, data, size) == (long)size && table_decode(data, size, &server.table);
}

static bool read_key(void)
{
	u8 more;
	return read_all(KEY, server.key, KEY_SIZE) == KEY_SIZE && read_all(KEY, &more, 1) == 0;
}

static void limit(u32 resource, u64 most)
{
	u64 both[2] = {most, most};
	sys(__NR_prlimit64, 0, resource, both, NULL);
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)
/* the argument's lower half: no higher bit has a meaning to these two */
#define ALLOW_IF(call, argument, value)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 4), LOAD(args[argument]),                                  \
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1), RETURN(SECCOMP_RET_ALLOW),                         \
		RETURN(SECCOMP_RET_KILL_PROCESS)

static long confine(void)
{
	struct sock_filter filter[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		ALLOW(ppoll),
		ALLOW(accept4),
		ALLOW(read),
		ALLOW(writev),
		ALLOW(close),
		ALLOW(shutdown),
		ALLOW(restart_syscall),
		ALLOW(exit_group),
#ifdef PYRKT_HOSTED /* the sanitizers, before a function that does not return */
		ALLOW(sigaltstack),
#endif
		ALLOW_IF(clock_gettime, 0, CLOCK_MONOTONIC),
		ALLOW_IF(madvise, 2, MADV_DONTNEED),
		RETURN(SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	long r = sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return r < 0 ? r : sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* Nobody, if that is allowed: an ordinary user stays who he is, without a capability. */
static long step_down(i64 parent)
{
	limit(RLIMIT_NOFILE, CONNECTIONS + FIRST_FREE + 1);
	limit(RLIMIT_NPROC, 0);
	limit(RLIMIT_FSIZE, 0);
	limit(RLIMIT_CORE, 0);
	bound_caps(0);
	sys(__NR_setgroups, 0, NULL);
	sys(__NR_setresgid, NOBODY, NOBODY, NOBODY);
	sys(__NR_setresuid, NOBODY, NOBODY, NOBODY);
	long r = set_caps(0, 0, 0, 0);
	if (r < 0)
		return r;
	sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* after the ids, whose change clears it */
	sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (sys(__NR_getppid) != parent)
		return -ESRCH;
	return confine();
}

_Noreturn void serve_metadata(const char *parent)
{
	i64 pid;
	sys(__NR_close_range, FIRST_FREE, ~0u, 0);
	sys(__NR_prctl, PR_SET_NAME, "pyrkt-metadata", 0, 0, 0);
	if (!text_number(parent, &pid) || !read_table() || !read_key())
		sys_exit(START_FAILED);
	sys_close(TABLE);
	sys_close(KEY);
	for (u32 i = 0; i < CONNECTIONS; i++)
		server.connections[i].fd = -1;
	server.buffers = room((size_t)CONNECTIONS * ROOM);
	if (!server.buffers || sys(__NR_chdir, "/") < 0 || step_down(pid) < 0)
		sys_exit(START_FAILED);
	answer_for_ever();
}
