/* The supervisor: the host's side of a container, from the first step to the last. */
#include "stage1.h"
#include "streams.h"
#include "text.h"

#include <limits.h>
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct {
	u32 parent_at; /* the P steps before this one are done */
	long signals;
	const struct step *teller;
	bool started, lenient, member;
} super;

enum { PLAN_AT = 16 /* the bit where a report's index tells the plan that the step is of */ };

/* The end of what the program that failed has said, where the reason mostly stands; the reader waits for ours. */
static void report_said(void)
{
	char words[MOST_SAID];
	struct stat found;
	if (self.said < 0 || sys_stat(self.said, &found) < 0)
		return;
	i64 skip = found.st_size > MOST_SAID ? found.st_size - MOST_SAID : 0;
	long size = sys(__NR_pread64, self.said, words, sizeof words, skip);
	if (size > 0)
		write_all(self.report, words, (size_t)size);
}

static void report(i32 index, i64 error, i64 value)
{
	struct report words = {index, (i32)error, value};
	if (self.report < 0)
		return;
	write_all(self.report, &words, sizeof words);
	if (index >= 0)
		report_said();
	sys_close(self.report);
	self.report = -1;
}

/* Runs stage0 again, with the plan at hand, to say in words what went wrong. */
static void become_stage0(u32 index, i64 error, i64 detail)
{
	static char digits[5][24];
	u64 none = 0;
	u32 step = next_step(0, BEFORE, STEP_ON_FAILURE), words;
	if (step == self.plan.count || !(words = step_list(&self.plan.steps[step], 0, self.argv)))
		return;
	i64 numbers[] = {index, error, detail, self.plan_fd, self.said};
	for (int i = 0; i < 5; i++) {
		struct text text = TEXT(digits[i]);
		text_add_number(&text, numbers[i]);
		self.argv[words + (u32)i] = digits[i];
	}
	self.argv[words + 5] = NULL;
	sys(__NR_fcntl, self.plan_fd, F_SETFD, 0);
	if (self.said >= 0)
		sys(__NR_fcntl, self.said, F_SETFD, 0);
	default_signals();
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	sys(__NR_execve, self.argv[0], self.argv, self.environment);
}

/* Lets stage0 say that a hook has failed, beside us: nothing else comes of it. */
static void warn(i64 error, i64 detail)
{
	i32 pidfd = -1;
	if (clone_process(0, &pidfd, -1) == 0) {
		become_stage0(self.index, error, detail);
		sys_exit(START_FAILED);
	}
	if (pidfd >= 0)
		wait_for(pidfd);
	sys_close(pidfd);
	sys_close(self.said);
	self.said = -1;
}

/* Every one is tried: what cannot be removed must not keep the rest from being removed. */
static void after_steps(void)
{
	self.phase = AFTER;
	metadata_end();
	for (u32 i = 0; i < self.plan.count; i++) {
		if (run_steps(AFTER, i, i + 1) != PROGRAM_FAILED)
			continue;
		self.index = i;
		warn(0, self.detail_of_program);
	}
}

_Noreturn void tidy_up(void)
{
	u64 all = ~0ull;
	sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
	self.proc = open_proc();
	after_steps();
	sys_exit(0);
}

static _Noreturn void fail(u32 index, i64 error, i64 detail)
{
	if (self.child) {
		sys(__NR_pidfd_send_signal, self.child_fd, SIGKILL, NULL, 0);
		wait_for(self.child_fd);
	}
	streams_drop();
	relay_end();
	self.exit_code = exit_code_of(index, (long)error);
	long said = self.said; /* not what a hook says now */
	self.said = -1;
	after_steps();
	self.said = said;
	if (self.report >= 0)
		report((i32)index, error, detail);
	else
		become_stage0(index, error, detail);
	sys_exit((int)self.exit_code);
}

static _Noreturn void fail_here(long r)
{
	if (r == PROGRAM_FAILED)
		fail(self.index, 0, self.detail_of_program);
	fail(self.index, -r, self.detail);
}

/* The P steps up to the next MEET or STARTED. */
static void parent_steps(void)
{
	u32 from = super.parent_at, meet = next_step(from, PARENT, STEP_MEET), started = next_step(from, PARENT, STEP_STARTED);
	u32 to = meet < started ? meet : started;
	self.phase = PARENT;
	super.parent_at = to < self.plan.count ? to + 1 : to;
	long r;
	while ((r = run_steps(PARENT, from, to)) == PROGRAM_FAILED && super.lenient) {
		warn(0, self.detail_of_program);
		from = self.index + 1;
	}
	if (r < 0)
		fail_here(r);
}

long step_GATE(const struct step *step)
{
	struct report gate = {.index = REPORT_GATE};
	u8 go;
	(void)step;
	self.detail = AT_SYNC;
	long r = write_all(self.report, &gate, sizeof gate);
	if (r >= 0)
		r = read_all(self.report, &go, 1);
	return r < 0 ? r : r == 1 ? 0 : -ECANCELED;
}

long step_LENIENT(const struct step *step)
{
	(void)step;
	super.lenient = true;
	return 0;
}

static void let_go(void)
{
	struct message message = {.kind = GO};
	self.detail = AT_SYNC;
	long r = send_message(self.channel, &message, NULL, 0);
	/* EPIPE: it has died, and what it said before is still to be read */
	if (r < 0 && r != -EPIPE)
		fail_here(r);
}

static void close_standard(void)
{
	long null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		sys(__NR_dup3, null, fd, 0);
	sys_close(null);
}

/* Who asked goes away: its terminal may hang up, its pipes must come to their end, its directory may be unmounted. */
static void detach(void)
{
	sys(__NR_setsid);
	sys(__NR_chdir, "/");
	close_standard();
}

/* An app with files of its own needs nothing of who started the pod. */
static bool has_own_files(void)
{
	u32 count = 0;
	for (u32 i = next_step(0, CHILD, STEP_STDIO); i < self.plan.count; i = next_step(i + 1, CHILD, STEP_STDIO))
		count++;
	return count == 3;
}

static void started(void)
{
	if (super.started)
		return;
	super.started = true;
	relay_listen();
	if (!has_step(CHILD, STEP_WAIT_START))
		parent_steps();
	bool watched = self.report >= 0 && !super.member;
	if (!super.member)
		sys(__NR_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0);
	report(self.leaves ? REPORT_LEFT : REPORT_STAYS, 0, self.child);
	if (self.leaves)
		sys_exit(0);
	if (watched)
		detach();
	else if (super.member && (has_own_files() || streams_alone()))
		close_standard();
	forget_plan();
}

/* The master goes to who listens on the console socket, or stays here to be relayed. */
static long place_terminal(long master, const char *console)
{
	if (!*console)
		return relay_start(master);
	long to = connect_to(console);
	if (to < 0)
		return to;
	long r = send_descriptor(to, "/dev/ptmx", master); /* what runc says; who receives it looks at the descriptor only */
	sys_close(to);
	sys_close(master);
	return r;
}

long step_SEND_PIDFD(const struct step *step)
{
	long to = connect_to(step_text(step, 0));
	if (to < 0)
		return to;
	long r = send_descriptor(to, "pidfd", self.child_fd);
	sys_close(to);
	return r;
}

static void take_terminal(u32 index, const i32 *fds)
{
	struct message go = {.kind = GO};
	const struct step *step = index < self.plan.count ? &self.plan.steps[index] : NULL;
	if (!step || step->code != STEP_TERMINAL || fds[0] < 0 || fds[1] < 0)
		fail(index, EBADMSG, AT_SYNC);
	long r = place_terminal(fds[0], step_text(step, 2));
	if (r < 0)
		fail(index, -r, AT_SOCKET);
	send_message(fds[1], &go, NULL, 0);
	sys_close(fds[1]);
}

static void map_tree(u32 index, const i32 *fds)
{
	struct message go = {.kind = GO};
	const struct step *step = index < self.plan.count ? &self.plan.steps[index] : NULL;
	if (!step || step->code != STEP_VOLUME || fds[0] < 0 || fds[1] < 0)
		fail(index, EBADMSG, AT_SYNC);
	long r = map_volume(step, fds[0]);
	if (r < 0)
		fail(index, -r, self.detail);
	send_message(fds[1], &go, NULL, 0);
	sys_close(fds[0]);
	sys_close(fds[1]);
}

void pod_has_started(void)
{
	started();
}

/* As fail(), with the step of another plan: the app's. */
_Noreturn void pod_has_failed(i32 plan, const struct report *found)
{
	sys(__NR_pidfd_send_signal, self.child_fd, SIGKILL, NULL, 0);
	pod_close();
	wait_for(self.child_fd); /* only now: PID 1 ends after all in its namespace, and these are reaped by the members */
	self.child = 0;
	self.exit_code = START_FAILED;
	long said = self.said;
	self.said = -1;
	after_steps();
	self.said = said;
	if (self.report >= 0)
		report(plan << PLAN_AT | found->index, found->error, found->value);
	self.plan_fd = plan;
	become_stage0((u32)found->index, found->error, found->value);
	sys_exit(START_FAILED);
}

void pod_warns(i32 plan, const struct report *found)
{
	long own = self.plan_fd;
	self.plan_fd = plan;
	self.index = (u32)found->index;
	warn(found->error, found->value);
	self.plan_fd = own;
}

static void take_listener(u32 index, const i32 *fds)
{
	struct message go = {.kind = GO};
	const struct step *step = index < self.plan.count ? &self.plan.steps[index] : NULL;
	if (!step || step->code != STEP_METADATA || fds[0] < 0 || fds[1] < 0)
		fail(index, EBADMSG, AT_SYNC);
	long r = metadata_begin(step, fds[0]);
	if (r < 0)
		fail(index, -r, self.detail);
	send_message(fds[1], &go, NULL, 0);
	sys_close(fds[1]);
}

static void take(const struct message *message, const i32 *fds)
{
	switch (message->kind) {
	case FAILED:
		self.said = fds[0];
		fail(message->index, message->error, message->detail);
	case MEET:
		parent_steps();
		let_go();
		break;
	case TERMINAL:
		take_terminal(message->index, fds);
		break;
	case MAP:
		map_tree(message->index, fds);
		break;
	case LISTENING:
		take_listener(message->index, fds);
		break;
	case READY:
		if (has_step(BEFORE, STEP_POD))
			pod_begin();
		else
			started();
		break;
	default:
		fail(message->index, EBADMSG, AT_SYNC);
	}
}

/* proc(5), stat: bit 0x40 of the flags (9), PF_FORKNOEXEC, stays from the clone until exec(2), and in the dead. */
static bool never_ran(void)
{
	enum { FLAGS = 9, FORKED = 0x40 };
	char path[32], line[1024];
	struct text text = TEXT(path);
	text_add_number(&text, self.child);
	text_add(&text, "/stat");
	long fd = sys_open(self.proc, path, O_RDONLY, 0);
	if (fd < 0)
		return false;
	long size = read_all(fd, line, sizeof line - 1);
	sys_close(fd);
	line[size < 0 ? 0 : size] = 0;
	const char *at = line + (size < 0 ? 0 : size);
	while (at > line && *at != ')')
		at--;
	int field = 2;
	for (; *at && field < FLAGS; at++)
		field += *at == ' ';
	u64 flags = 0;
	for (; *at >= '0' && *at <= '9'; at++)
		flags = flags * 10 + (u64)(*at - '0');
	return flags & FORKED;
}

static void read_messages(void)
{
	struct message message;
	i32 fds[2];
	long r;
	while ((r = receive_message(self.channel, &message, fds, 2, false)) == 1)
		take(&message, fds);
	if (r == -EAGAIN)
		return;
	/* the end: exec(2) has closed the other side, or death */
	sys_close(self.channel);
	self.channel = -1;
	u32 program = next_step(0, CHILD, STEP_EXEC);
	if (!super.started && program < self.plan.count && never_ran())
		fail(program, ECHILD, NOWHERE);
	if (!has_step(BEFORE, STEP_POD))
		started();
}

long step_TELL(const struct step *step)
{
	super.teller = step;
	return 0;
}

/* Waits for the program, but not for ever; that it fails means mostly that the container has just ended. */
static void tell(u32 number)
{
	enum { TELL_S = 10 };
	char digits[24];
	struct text text = TEXT(digits);
	text_add_number(&text, number);
	if (!step_list(super.teller, 0, self.argv))
		return;
	step_list(super.teller, 1, self.envp);
	for (const char **word = self.argv; *word; word++)
		if (!strcmp(*word, "{signal}"))
			*word = digits;
	long null = sys_open(AT_FDCWD, "/dev/null", O_RDWR, 0);
	struct program program = {self.argv[0], self.argv, self.envp, null, null, TELL_S};
	if (null >= 0)
		run_program(&program);
	sys_close(null);
}

static void pass_on(u32 number)
{
	switch (number) {
	case SIGCHLD:
	case SIGPIPE:
	case SIGXFSZ: /* ours: a log that became too large */
		return;
	case SIGWINCH:
		if (relay_runs()) {
			relay_size(); /* the kernel tells the container's foreground */
			return;
		}
	}
	if (super.teller)
		tell(number);
	else
		sys(__NR_pidfd_send_signal, self.child_fd, number, NULL, 0);
}

static void read_signals(void)
{
	struct signalfd_siginfo info;
	while (sys(__NR_read, super.signals, &info, sizeof info) == sizeof info) {
		streams_told(info.ssi_signo);
		if (pod_runs())
			pod_signal((int)info.ssi_signo);
		else if (super.member && info.ssi_signo == KILL_YOURS)
			sys(__NR_pidfd_send_signal, self.child_fd, SIGKILL, NULL, 0);
		/* what the terminal says to all in the foreground the pod's supervisor hears too, and decides */
		else if (!super.member || info.ssi_code != SI_KERNEL || info.ssi_signo == SIGWINCH)
			pass_on(info.ssi_signo);
	}
}

/* What comes after them: a pod's supervisor has no streams, a member no apps. */
_Static_assert((int)STREAMS_POLLS <= (int)POD_POLLS, "room in the list");
enum { SIGNALS, CHILD_END, CHANNEL, SERVICE, RELAY, REST = RELAY + RELAY_POLLS };

/* Waits, and does what is due; whether the first process has ended. */
static bool turn(void)
{
	struct pollfd polls[REST + POD_POLLS];
	struct timespec limit;
	u32 count = REST;
	int ms = -1;
	polls[SIGNALS] = (struct pollfd){.fd = (int)super.signals, .events = POLLIN};
	polls[CHILD_END] = (struct pollfd){.fd = (int)self.child_fd, .events = POLLIN};
	polls[CHANNEL] = (struct pollfd){.fd = (int)self.channel, .events = POLLIN};
	metadata_poll(polls + SERVICE);
	relay_polls(polls + RELAY);
	bool pods = pod_runs(); /* before a message lets them begin */
	if (pods) {
		ms = pod_polls(polls + REST);
		count += POD_POLLS;
	} else if (streams_run()) {
		ms = streams_polls(polls + REST);
		count += STREAMS_POLLS;
	}
	limit = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	if (sys(__NR_ppoll, polls, count, ms < 0 ? NULL : &limit, NULL, 8) < 0)
		return false;
	if (self.channel >= 0 && (polls[CHANNEL].revents || polls[CHILD_END].revents))
		read_messages();
	if (polls[SIGNALS].revents)
		read_signals();
	metadata_move(polls + SERVICE);
	relay_move(polls + RELAY);
	if (pods)
		pod_move(polls + REST);
	else if (streams_run())
		streams_move(polls + REST);
	return polls[CHILD_END].revents;
}

static _Noreturn void watch(void)
{
	while (!turn())
		;
	self.exit_code = wait_for(self.child_fd);
	self.child = 0;
	if (pod_runs())
		self.exit_code = pod_close();
	streams_end(super.signals);
	relay_end();
	after_steps();
	sys_exit((int)self.exit_code);
}

/* All are read from a descriptor, in the order in which they come, but those of job control: they stop us. */
static long catch_signals(void)
{
	u64 mask = ~(1ull << (SIGTSTP - 1) | 1ull << (SIGTTIN - 1) | 1ull << (SIGTTOU - 1));
	default_signals(); /* an ignored SIGCHLD would lose the exit code */
	long r = sys(__NR_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
	return r < 0 ? r : sys(__NR_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A process that somebody else made, whose parent we are. */
static long adopt(u32 index)
{
	const struct step *step = &self.plan.steps[index];
	long master = step_number(step, 1);
	self.index = index;
	self.child = step_number(step, 0);
	self.channel = -1;
	self.child_fd = sys(__NR_pidfd_open, self.child, 0);
	super.started = true;
	if (self.child_fd < 0 || master < 0)
		return self.child_fd;
	sys(__NR_fcntl, master, F_SETFD, FD_CLOEXEC);
	long r = relay_start(master);
	relay_listen();
	return r;
}

_Noreturn void supervise(void)
{
	super.member = has_step(BEFORE, STEP_MEMBER);
	if (super.member)
		sockets_count();
	long r = super.signals = catch_signals();
	if (r >= 0)
		r = self.proc = open_proc();
	if (r < 0)
		fail_here(r);
	r = run_steps(BEFORE, 0, self.plan.count);
	u32 adopted = next_step(0, BEFORE, STEP_ADOPT);
	if (r >= 0)
		r = adopted < self.plan.count ? adopt(adopted) : spawn();
	if (r < 0)
		fail_here(r);
	streams_part();
	if (adopted < self.plan.count)
		watch();
	parent_steps();
	r = member_open();
	if (r < 0)
		fail_here(r);
	let_go();
	watch();
}
