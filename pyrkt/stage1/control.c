/* The control socket of a pod: who owns the pod adds, starts, stops and removes apps, and asks how they are.
 *
 * Requests and answers are one packet each (SOCK_SEQPACKET); pod/control.py is the other side.  A start is answered when
 * the app runs, a stop when it has ended. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

enum verb { STATUS = 1, END, ADD, START, STOP, REMOVE, SIGNAL };

struct request {
	u32 verb, number; /* number: of the signal; of ADD the bits of the plans that come with it: FIRST, MAIN, AFTERWARDS */
	i64 grace_ms;	  /* -1: the app's own, the pod's */
	struct policy policy;
	char name[APP_NAME];
};

struct answer {
	i32 error; /* errno */
	u32 stage, restarts;
	i32 plan; /* the one with the step that failed: 0 for FIRST, 1 for MAIN, 2 for AFTERWARDS */
	i64 code, delay_ms;
	i32 index, fault; /* of that step, or -1, and its errno; behind the answer is what a program said that failed */
	i64 detail;
};

static struct {
	i32 listener, clients[CONTROL_POLLS - 1];
	char path[PATH_MAX];
} control = {.listener = -1};

void control_open(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct text text = TEXT(address.sun_path);
	const char *name = text_base(path);
	for (u32 i = 0; i < CONTROL_POLLS - 1; i++)
		control.clients[i] = -1;
	if (!*path || name == path || strlen(path) >= sizeof control.path)
		return;
	/* a socket's path has 108 bytes, the pod's directory may have more */
	memcpy(control.path, path, (size_t)(name - path));
	long directory = sys_open(AT_FDCWD, control.path, O_PATH | O_DIRECTORY, 0);
	memcpy(control.path, path, strlen(path) + 1);
	text_add(&text, "/proc/self/fd/");
	text_add_number(&text, directory);
	text_add(&text, "/.");
	text_add(&text, name);
	long fd = sys(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	u32 mask = (u32)sys(__NR_umask, 077);
	sys(__NR_unlinkat, AT_FDCWD, address.sun_path, 0);
	long r = text.cut ? -ENAMETOOLONG : sys(__NR_bind, fd, &address, sizeof address);
	sys(__NR_umask, mask);
	if (r >= 0)
		r = sys(__NR_listen, fd, 16);
	if (r >= 0) /* whoever sees it is heard */
		r = sys(__NR_renameat2, AT_FDCWD, address.sun_path, AT_FDCWD, path, 0);
	sys_close(directory);
	if (r >= 0)
		control.listener = (i32)fd;
	else
		sys_close(fd);
}

static bool is_owner(long client)
{
	struct ucred peer;
	i32 size = sizeof peer;
	return sys(__NR_getsockopt, client, SOL_SOCKET, SO_PEERCRED, &peer, &size) >= 0 &&
	       (peer.uid == 0 || peer.uid == (u32)sys(__NR_geteuid));
}

static void answer(i32 client, i32 error, struct app *app)
{
	struct {
		struct answer words;
		char said[MOST_SAID];
	} packet = {.words = {.error = error, .index = -1}};
	long said = 0;
	if (app) {
		packet.words.stage = app->stage;
		packet.words.restarts = app->restarts;
		packet.words.code = app->code;
		packet.words.delay_ms = app->delay_ms;
	}
	if (app && error) {
		packet.words.plan = app->found_in;
		packet.words.index = app->found.index;
		packet.words.fault = app->found.error;
		packet.words.detail = app->found.value;
		app->found.index = -1;
		said = sys(__NR_pread64, app->said, packet.said, sizeof packet.said, 0);
	}
	size_t size = sizeof packet.words + (said > 0 ? (size_t)said : 0);
	sys(__NR_sendto, client, &packet, size, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

void control_answer(struct app *app, i32 error)
{
	if (app->waiter >= 0)
		answer(app->waiter, error, app);
	app->waiter = -1;
}

static bool is_name(const char *name)
{
	size_t size = 0;
	for (; size < APP_NAME && name[size]; size++)
		if (!((name[size] >= 'a' && name[size] <= 'z') || (name[size] >= '0' && name[size] <= '9') ||
		      (name[size] == '-' && size)))
			return false;
	return size && size < APP_NAME;
}

static i32 add(const struct request *request, i32 *fds)
{
	i32 plans[PLANS] = {-1, -1, -1};
	for (int i = 0, next = 0; i < PLANS; i++)
		if (request->number >> i & 1)
			plans[i] = fds[next++];
	if (plans[MAIN - FIRST] < 0)
		return EBADF;
	if (!pod_add(request->name, &request->policy, plans))
		return ENOSPC;
	for (int i = 0; i < PLANS; i++)
		for (int given = 0; given < PLANS; given++)
			if (fds[given] == plans[i])
				fds[given] = -1; /* it is the app's now */
	return -1;
}

/* 0: the answer comes later; else what it is, an errno or -1 for none. */
static i32 obey(i32 client, const struct request *request, i32 *fds)
{
	struct app *app = pod_find(request->name);
	if (request->verb == ADD) {
		if (app)
			return EEXIST;
		if (pod_is_ending())
			return ESHUTDOWN;
		metadata_renew(); /* whoever asks has written what is told of the app */
		return add(request, fds);
	}
	if (!app)
		return ENOENT;
	bool ended = app->stage == IDLE || app->stage == ENDED;
	switch (request->verb) {
	case STATUS:
		return -1;
	case START:
		if (!ended || app->waiter >= 0 || pod_is_ending())
			return pod_is_ending() ? ESHUTDOWN : EBUSY;
		app->waiter = client;
		pod_start_anew(app);
		return 0;
	case STOP:
		if (ended || app->waiter >= 0)
			return ended ? -1 : EBUSY;
		app->waiter = client;
		pod_stop(app, request->grace_ms);
		return 0;
	case REMOVE:
		if (!ended)
			return EBUSY;
		pod_forget(app);
		metadata_renew();
		return -1;
	case SIGNAL:
		return ended || !request->number || request->number > 64 || pod_tell(app, (int)request->number) < 0 ? ESRCH
														   : -1;
	default:
		return EINVAL;
	}
}

static void hang_up(i32 *client)
{
	pod_forget_waiter(*client);
	sys_close(*client);
	*client = -1;
}

static void hear(i32 *client)
{
	struct request request;
	i32 fds[PLANS];
	long size = receive(*client, &request, sizeof request, fds, PLANS, false);
	if (size == -EAGAIN)
		return;
	if (size != sizeof request) {
		hang_up(client);
	} else if (request.verb == END) {
		answer(*client, 0, NULL);
		pod_end_within(request.grace_ms);
	} else if (!is_name(request.name)) {
		answer(*client, EINVAL, NULL);
	} else {
		i32 r = obey(*client, &request, fds);
		if (r)
			answer(*client, r < 0 ? 0 : r, pod_find(request.name));
	}
	for (int i = 0; i < PLANS; i++)
		sys_close(fds[i]);
}

static void welcome(void)
{
	long client = sys(__NR_accept4, control.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client < 0)
		return;
	for (u32 i = 0; i < CONTROL_POLLS - 1 && is_owner(client); i++)
		if (control.clients[i] < 0) {
			control.clients[i] = (i32)client;
			return;
		}
	sys_close(client);
}

void control_polls(struct pollfd *polls)
{
	polls[0] = (struct pollfd){.fd = control.listener, .events = POLLIN};
	for (u32 i = 0; i < CONTROL_POLLS - 1; i++)
		polls[1 + i] = (struct pollfd){.fd = control.clients[i], .events = POLLIN};
}

void control_move(const struct pollfd *polls)
{
	for (u32 i = 0; i < CONTROL_POLLS - 1; i++)
		if (polls[1 + i].fd >= 0 && polls[1 + i].fd == control.clients[i] && polls[1 + i].revents)
			hear(&control.clients[i]);
	if (polls[0].fd >= 0 && polls[0].revents)
		welcome();
}

void control_close(void)
{
	if (control.listener >= 0)
		sys(__NR_unlinkat, AT_FDCWD, control.path, 0);
	sys_close(control.listener);
	control.listener = -1;
}
