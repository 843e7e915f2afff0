/* start, kill and delete of a container that pyrkt-oci made and that is as it should be.
 *
 * An engine pays for four runtime processes a container; three of them need no decision, and an interpreter takes ten
 * times as long to start as they take.  Whatever is out of the ordinary (a flag, a hook, a damaged file, a process that
 * does not end) goes to Python, which does the whole of it again, checks included, and has the words for what is wrong.
 *
 * ROOT/ID/quick is written by pyrkt.runtime.container before anything else is made:
 *
 *   pyrkt 1        the format
 *   start          no hook is to run after start
 *   delete         no hook is to run after delete
 *   kill           SIGKILL for the first process ends all of them: it is PID 1
 *   freezer FILE   freezer.state (v1) or cgroup.freeze, where a pause is seen and ended
 *   cgroup DIR     to remove, in this order
 *   end            it is whole
 */
#include "quick.h"

#include "sys.h"
#include "text.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <time.h>

enum { TO_PYTHON = -1, DONE = 0, LONGEST = 16384, PATIENCE_S = 10, TRIES = 20, START_FIELD = 22 };

struct command {
	const char *root, *verb, *id, *signal;
	bool force;
};

struct container {
	long directory, process; /* locked; a pidfd, -1 if it has ended */
	char facts[LONGEST];
};

/* --name VALUE or --name=VALUE; moves at to the last word of it */
static bool takes(const char *name, char **argv, int argc, int *at, const char **value)
{
	const char *word = argv[*at];
	if (!text_starts(word, name))
		return false;
	word += strlen(name);
	if (*word == '=') {
		*value = word + 1;
		return true;
	}
	if (*word || *at + 1 >= argc)
		return false;
	*value = argv[++*at];
	return true;
}

static bool is_id(const char *text)
{
	size_t size = strlen(text);
	if (!size || size > NAME_MAX || !strcmp(text, ".") || !strcmp(text, ".."))
		return false;
	for (; *text; text++)
		if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9') ||
		      *text == '_' || *text == '+' || *text == '-' || *text == '.'))
			return false;
	return true;
}

static bool read_command(int argc, char **argv, struct command *command)
{
	const char *ignored = "";
	int at = 1;
	for (; at < argc && argv[at][0] == '-'; at++) {
		if (takes("--root", argv, argc, &at, &command->root) || takes("--log", argv, argc, &at, &ignored))
			continue;
		if (!takes("--log-format", argv, argc, &at, &ignored) || (strcmp(ignored, "json") && strcmp(ignored, "text")))
			return false;
	}
	if (at >= argc || (command->root && !*command->root))
		return false;
	command->verb = argv[at++];
	for (; at < argc; at++) {
		const char *word = argv[at];
		if (!strcmp(word, "--force") || !strcmp(word, "-f"))
			command->force = true;
		else if (word[0] == '-')
			return false;
		else if (!command->id)
			command->id = word;
		else if (!command->signal)
			command->signal = word;
		else
			return false;
	}
	return command->id && is_id(command->id);
}

static bool has_line(const char *facts, const char *line)
{
	size_t size = strlen(line);
	for (const char *at = facts; *at; at++) {
		if (text_starts(at, line) && at[size] == '\n')
			return true;
		while (*at && *at != '\n')
			at++;
		if (!*at)
			break;
	}
	return false;
}

/* The rest of the next line that begins with word, from *at on; false if there is none, or it is too long. */
static bool next_fact(const char **at, const char *word, struct text *value)
{
	while (**at) {
		const char *line = *at, *end = line;
		while (*end && *end != '\n')
			end++;
		*at = *end ? end + 1 : end;
		if (!text_starts(line, word))
			continue;
		line += strlen(word);
		text_add_bytes(value, line, (size_t)(end - line));
		return !value->cut;
	}
	return false;
}

static long read_file(long directory, const char *name, char *into, size_t size)
{
	struct stat found;
	long fd = sys_open(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0), r = -EINVAL;
	if (fd < 0)
		return fd;
	if (sys_stat(fd, &found) >= 0 && S_ISREG(found.st_mode) && found.st_size < (i64)size)
		r = read_all(fd, into, size - 1);
	sys_close(fd);
	into[r < 0 ? 0 : r] = 0;
	return r;
}

/* proc(5), stat: the name, in parentheses, may hold blanks and parentheses itself; 0 if it has ended */
static i64 start_time(i64 pid)
{
	char path[40], line[1024];
	struct text text = TEXT(path);
	text_add(&text, "/proc/");
	text_add_number(&text, pid);
	text_add(&text, "/stat");
	long fd = sys_open(AT_FDCWD, path, O_RDONLY, 0);
	if (fd < 0)
		return 0;
	long size = read_all(fd, line, sizeof line - 1);
	sys_close(fd);
	line[size < 0 ? 0 : size] = 0;
	const char *at = line + (size < 0 ? 0 : size);
	while (at > line && *at != ')')
		at--;
	if (at[0] != ')' || !at[1] || !at[2] || at[2] == 'Z' || at[2] == 'X')
		return 0;
	int field = 2;
	for (; *at && field < START_FIELD; at++)
		field += *at == ' ';
	i64 value = 0;
	for (; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (*at - '0');
	return field == START_FIELD ? value : 0;
}

/* "PID START-TIME": a number that was used again since is another process. */
static bool find_process(struct container *container)
{
	char words[64], *second = words;
	i64 pid, started;
	if (read_file(container->directory, "pid", words, sizeof words) <= 0)
		return false;
	while (*second && *second != ' ')
		second++;
	if (!*second)
		return false;
	*second++ = 0;
	if (!text_number(words, &pid) || !text_number(second, &started) || !pid || !started)
		return false;
	long process = sys(__NR_pidfd_open, pid, 0);
	if (process >= 0 && start_time(pid) != started) {
		sys_close(process);
		process = -ESRCH;
	}
	container->process = process < 0 ? -1 : process;
	return process >= 0 || process == -ESRCH;
}

/* One that others could have filled is Python's to refuse. */
static long open_directory(const struct command *command)
{
	char path[PATH_MAX];
	struct text text = TEXT(path);
	struct stat found;
	long r = sys(__NR_newfstatat, AT_FDCWD, command->root, &found, 0);
	if (r < 0)
		return r;
	if ((found.st_uid && found.st_uid != (u32)sys(__NR_geteuid)) || found.st_mode & 022)
		return -EPERM;
	text_add(&text, command->root);
	text_add(&text, "/");
	text_add(&text, command->id);
	return text.cut ? -ENAMETOOLONG : sys_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

static bool is_there(const struct container *container, const char *name)
{
	struct stat found;
	return sys(__NR_newfstatat, container->directory, name, &found, AT_SYMLINK_NOFOLLOW) >= 0;
}

static bool freezer(const struct container *container, struct text *path)
{
	const char *at = container->facts;
	return next_fact(&at, "freezer ", path);
}

static bool is_paused(const struct container *container)
{
	char path[PATH_MAX], state[16];
	struct text text = TEXT(path);
	return freezer(container, &text) && read_file(AT_FDCWD, path, state, sizeof state) > 0 &&
	       !text_starts(state, "THAWED") && state[0] != '0';
}

/* A v1 freezer keeps even SIGKILL waiting. */
static void thaw(const struct container *container)
{
	static const char v1[] = "/freezer.state";
	char path[PATH_MAX];
	struct text text = TEXT(path);
	if (!is_paused(container) || !freezer(container, &text))
		return;
	long fd = sys_open(AT_FDCWD, path, O_WRONLY, 0);
	if (fd < 0)
		return;
	const char *value = text.used > sizeof v1 && !strcmp(path + text.used - (sizeof v1 - 1), v1) ? "THAWED" : "0";
	write_all(fd, value, strlen(value));
	sys_close(fd);
}

/* Opens the fifo behind which the container waits, sees it pass, removes the fifo: then nobody can start it again. */
static int start(const struct container *container)
{
	char byte;
	struct stat found;
	if (!has_line(container->facts, "start") || container->process < 0)
		return TO_PYTHON;
	long fifo = sys_open(container->directory, "exec.fifo", O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fifo < 0 || sys_stat(fifo, &found) < 0 || !S_ISFIFO(found.st_mode))
		return TO_PYTHON;
	struct pollfd polls[2] = {{.fd = (int)fifo, .events = POLLIN}, {.fd = (int)container->process, .events = POLLIN}};
	struct timespec moment = {0, 200000000}, patience = {PATIENCE_S, 0};
	long r = sys(__NR_ppoll, polls, 2, &moment, NULL, 8);
	if (!r && !is_paused(container))
		r = sys(__NR_ppoll, polls, 2, &patience, NULL, 8);
	if (r <= 0 || !(polls[0].revents & POLLIN) ||
	    sys(__NR_read, fifo, &byte, 1) != 1)
		return TO_PYTHON;
	return sys(__NR_unlinkat, container->directory, "exec.fifo", 0) < 0 ? TO_PYTHON : DONE;
}

static bool end_all(const struct container *container)
{
	if (sys(__NR_pidfd_send_signal, container->process, SIGKILL, NULL, 0) < 0)
		return false;
	thaw(container);
	return true;
}

/* Numbers as engines give them, and the two names that people do. */
static int kill_process(const struct container *container, const char *word)
{
	i64 number = SIGTERM;
	if (word && !text_number(word, &number)) {
		if (!strcmp(word, "KILL") || !strcmp(word, "SIGKILL"))
			number = SIGKILL;
		else if (strcmp(word, "TERM") && strcmp(word, "SIGTERM"))
			return TO_PYTHON;
	}
	if (container->process < 0 || number < 1 || number > 64)
		return TO_PYTHON;
	if (number == SIGKILL)
		return has_line(container->facts, "kill") && end_all(container) ? DONE : TO_PYTHON;
	return sys(__NR_pidfd_send_signal, container->process, number, NULL, 0) < 0 ? TO_PYTHON : DONE;
}

static bool end_process(const struct container *container, bool force)
{
	struct pollfd end = {.fd = (int)container->process, .events = POLLIN};
	struct timespec moment = {0, 300000000};
	if (container->process < 0)
		return true;
	if (!force && !is_there(container, "exec.fifo"))
		return false; /* it runs */
	return end_all(container) && sys(__NR_ppoll, &end, 1, &moment, NULL, 8) > 0;
}

/* EBUSY: the dead leave a cgroup a moment after their end is known; or processes are left in it, which is Python's. */
static bool remove_cgroup(const char *path)
{
	long r = -EBUSY;
	for (int i = 0; i < TRIES && r == -EBUSY; i++) {
		struct timespec nap = {0, 1000000};
		if (i)
			sys(__NR_nanosleep, &nap, NULL);
		r = sys(__NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
	}
	return r >= 0 || r == -ENOENT;
}

static bool remove_cgroups(const struct container *container)
{
	for (const char *at = container->facts;;) {
		char path[PATH_MAX];
		struct text text = TEXT(path);
		if (!next_fact(&at, "cgroup ", &text))
			return !text.cut;
		if (path[0] != '/' || !remove_cgroup(path))
			return false;
	}
}

static int delete(const struct command *command, const struct container *container)
{
	static const char *const files[] = {"exec.fifo", "pid", "config.json", "quick", "state.json"};
	char path[PATH_MAX];
	struct text text = TEXT(path);
	if (!has_line(container->facts, "delete") || !end_process(container, command->force) || !remove_cgroups(container))
		return TO_PYTHON;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		long r = sys(__NR_unlinkat, container->directory, files[i], 0);
		if (r < 0 && r != -ENOENT)
			return TO_PYTHON;
	}
	text_add(&text, command->root);
	text_add(&text, "/");
	text_add(&text, command->id);
	return sys(__NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR) < 0 ? TO_PYTHON : DONE;
}

static int act(const struct command *command, struct container *container)
{
	long size;
	if (sys(__NR_flock, container->directory, LOCK_EX | LOCK_NB) < 0)
		return TO_PYTHON;
	size = read_file(container->directory, "quick", container->facts, sizeof container->facts);
	if (size <= 0 || !text_starts(container->facts, "pyrkt 1\n") || !has_line(container->facts, "end") ||
	    !find_process(container))
		return TO_PYTHON;
	if (!strcmp(command->verb, "start") && !command->signal && !command->force)
		return start(container);
	if (!strcmp(command->verb, "kill") && !command->force)
		return kill_process(container, command->signal);
	if (!strcmp(command->verb, "delete") && !command->signal)
		return delete(command, container);
	return TO_PYTHON;
}

/* Where root of a user namespace keeps its containers is Python's to find. */
static bool is_root_of_host(void)
{
	char map[64];
	const char *at = map;
	static const char *const whole[] = {"0", "0", "4294967295"};
	if (sys(__NR_geteuid) != 0 || read_file(AT_FDCWD, "/proc/self/uid_map", map, sizeof map) <= 0)
		return false;
	for (size_t i = 0; i < 3; i++) {
		while (*at == ' ')
			at++;
		if (!text_starts(at, whole[i]))
			return false;
		at += strlen(whole[i]);
		if (*at != (i < 2 ? ' ' : '\n'))
			return false;
	}
	return true;
}

int quick(int argc, char **argv)
{
	static struct container container;
	struct command command = {0};
	if (!read_command(argc, argv, &command))
		return TO_PYTHON;
	if (strcmp(command.verb, "start") && strcmp(command.verb, "kill") && strcmp(command.verb, "delete"))
		return TO_PYTHON;
	if (!command.root && !is_root_of_host())
		return TO_PYTHON;
	if (!command.root)
		command.root = "/run/pyrkt-oci";
	container.process = -1;
	container.directory = open_directory(&command);
	if (container.directory < 0)
		return container.directory == -ENOENT && command.force && !command.signal && !strcmp(command.verb, "delete")
			       ? DONE
			       : TO_PYTHON;
	int result = act(&command, &container);
	sys_close(container.process);
	sys_close(container.directory); /* Python takes the lock itself */
	return result;
}
