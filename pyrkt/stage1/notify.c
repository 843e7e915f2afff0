/* Readiness, as systemd's units of type notify tell it (sd_notify(3)): an app says it to a socket of its own, the pod's
 * supervisor to whoever has started the pod, since a message counts only from a unit's main process.
 *
 * The socket of an app lies in its directory, beside the pod's control socket, and is bound into the app. */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { LONGEST_MESSAGE = 4096, AT_ONCE = 16 };

static const char *variable(const char *name)
{
	for (char **each = self.environment; *each; each++)
		if (text_starts(*each, name))
			return *each + strlen(name);
	return NULL;
}

/* A socket's path has 108 bytes, the pod's directory may have more: the name is looked up from a descriptor. */
static long open_directory(const char *app)
{
	char path[PATH_MAX];
	struct text text = TEXT(path);
	u32 at = next_step(0, BEFORE, STEP_POD);
	const char *control = at < self.plan.count ? step_text(&self.plan.steps[at], 0) : "";
	text_add_bytes(&text, control, (size_t)(text_base(control) - control));
	text_add(&text, "apps/");
	text_add(&text, app);
	return text.cut || !*control ? -ENOENT : sys_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
}

/* What may be sent is no secret and gives nothing: any user of the app, in any user namespace, may write to it. */
long notify_listen(const char *app)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct text text = TEXT(address.sun_path);
	long directory = open_directory(app);
	if (directory < 0)
		return directory;
	text_add(&text, "/proc/self/fd/");
	text_add_number(&text, directory);
	text_add(&text, "/notify");
	sys(__NR_unlinkat, directory, "notify", 0);
	long fd = sys(__NR_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	long r = sys(__NR_bind, fd, &address, sizeof address);
	if (r >= 0)
		r = sys(__NR_fchmodat, directory, "notify", 0666);
	sys_close(directory);
	if (r >= 0)
		return fd;
	sys_close(fd);
	return r;
}

/* A path, or with "@" a name without a file. */
void notify_tell(const char *words, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *to = variable("NOTIFY_SOCKET=");
	size_t length = to ? strlen(to) : 0;
	if (length < 2 || length >= sizeof address.sun_path || (*to != '/' && *to != '@'))
		return;
	memcpy(address.sun_path, to, length);
	if (*to == '@')
		*address.sun_path = 0;
	long fd = sys(__NR_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sys(__NR_sendto, fd, words, size, MSG_NOSIGNAL | MSG_DONTWAIT, &address,
	    (u32)(offsetof(struct sockaddr_un, sun_path) + length));
	sys_close(fd);
}

/* Of the rest only what is about a unit's health goes on: another main process, or descriptors, are not an app's to name. */
static bool goes_on(const char *line)
{
	return text_starts(line, "STATUS=") || text_starts(line, "WATCHDOG=1") || text_starts(line, "EXTEND_TIMEOUT_USEC=");
}

/* Reads what an app has said; whether it was that it is ready.  One that never stops talking must not keep the supervisor from
 * what else there is to do: the rest comes with the next turn. */
bool notify_hear(long fd, bool pass_on)
{
	static char message[LONGEST_MESSAGE + 1];
	bool ready = false;
	for (int turn = 0; turn < AT_ONCE; turn++) {
		long size = sys(__NR_recvfrom, fd, message, LONGEST_MESSAGE, MSG_DONTWAIT, NULL, NULL);
		if (size < 0)
			break;
		message[size] = 0;
		for (char *line = message; line < message + size;) {
			size_t length = 0;
			while (line[length] && line[length] != '\n')
				length++;
			line[length] = 0;
			ready |= !strcmp(line, "READY=1");
			if (pass_on && goes_on(line))
				notify_tell(line, length);
			line += length + 1;
		}
	}
	return ready;
}
