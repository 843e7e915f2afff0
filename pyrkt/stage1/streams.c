/* The pipes between a program and its supervisor, and where what they carry goes: the log, the supervisor's own stdout and
 * stderr, and those who attach.
 *
 * Nothing is read that has not gone everywhere it must: so a slow reader of ours slows the program down as a pipe between
 * the two would, and nothing is lost.  Only what has no end yet waits for the log, LINE_MOST bytes of it.
 */
#include "stage1.h"
#include "streams.h"
#include "text.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* the modes of STREAMS: four bits for stdin, then four for each flow */
enum input_mode { INHERITED, NOTHING_IN, STREAM_IN, TERMINAL_ATTACHED, TERMINAL_OUR_OWN };
enum { LOGGED = 1, PASSED_ON = 2, SERVED = 4, IS_TERMINAL = 8 };
enum {
	INPUT_MOST = 4096,
	SAFE = 4096, /* PIPE_BUF: what polls writable takes as many without blocking */
	LAST_WORDS_MS = 100,
	ASKED_MS = 30000,
	A_PIPE = 65536,
	IN_A_ROW = 4, /* reads, before others have their turn */
	END_OF_INPUT = 4
};

struct flow {
	long from, program_end, to; /* where it comes from; the program's end of that; our own stdout or stderr */
	u8 does;
	bool is_open, is_socket, may_block, hung_up;
	i64 left; /* after a hang-up: bytes that may still be read */
	u32 used, fresh, logged, passed;
	bool prefixed, in_line; /* a line of it has begun */
	u32 prefix_at;
	struct text prefix;
	char prefix_text[96];
	u8 *bytes; /* LINE_MOST of them */
};

static struct {
	bool runs;
	i64 told_at; /* when somebody asked the program to end, if anybody did */
	u8 modes[1 + FLOWS];
	struct log log;
	struct flow flows[FLOWS];
	const char *name;
	i64 began;
	long program_in, null;
	struct {
		long to;
		bool is_terminal;
		u32 at, end;
	} in;
} streams; /* all zero: a supervisor without STREAMS pays no page for it */

static u8 typed[INPUT_MOST];
static u8 rooms[FLOWS][LINE_MOST]; /* of each only as many pages as its lines are long */

bool streams_run(void)
{
	return streams.runs;
}

bool streams_alone(void)
{
	u8 passed_on = 0;
	for (int i = 0; i < FLOWS; i++)
		passed_on |= streams.flows[i].does & PASSED_ON;
	return streams.runs && !passed_on && streams.modes[0] != INHERITED && streams.modes[0] != TERMINAL_OUR_OWN;
}

/* --- making them, before the program --- */

static long make_pipe(long *ours, long *theirs, bool we_write)
{
	i32 pair[2];
	long r = sys(__NR_pipe2, pair, O_CLOEXEC);
	if (r < 0)
		return r;
	*ours = pair[we_write];
	*theirs = pair[!we_write];
	return sys(__NR_fcntl, *ours, F_SETFL, O_NONBLOCK);
}

/* Not to block is a property of the open file, which others hold too; so it is opened once more.  A socket cannot be, and
 * is told with each call; a file's position must stay the one that all share. */
static void open_own(struct flow *flow, long number)
{
	char path[32];
	struct text text = TEXT(path);
	struct stat found;
	struct termios mode;
	flow->to = number;
	flow->prefixed = *streams.name && sys(__NR_ioctl, number, TCGETS, &mode) >= 0;
	if (sys_stat(number, &found) < 0)
		flow->does &= (u8)~PASSED_ON;
	flow->is_socket = S_ISSOCK(found.st_mode);
	flow->may_block = S_ISFIFO(found.st_mode) || S_ISCHR(found.st_mode);
	if (!flow->may_block || !(flow->does & PASSED_ON))
		return;
	text_add(&text, "self/fd/");
	text_add_number(&text, number);
	long fd = sys_open(self.proc, path, O_WRONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return;
	flow->to = fd;
	flow->may_block = false;
}

static long open_flow(enum flow_name name)
{
	struct flow *flow = &streams.flows[name];
	u8 mode = streams.modes[1 + name];
	long r = 0;
	flow->from = flow->program_end = flow->to = -1;
	flow->bytes = rooms[name];
	flow->does = mode & (LOGGED | PASSED_ON | SERVED);
	if (flow->does & PASSED_ON)
		open_own(flow, name == FROM_STDERR ? 2 : 1);
	if (name != FROM_TERMINAL && flow->does) {
		r = make_pipe(&flow->from, &flow->program_end, false);
		flow->is_open = r >= 0;
	}
	return r;
}

static bool wants_terminal(void)
{
	return streams.modes[0] >= TERMINAL_ATTACHED || streams.modes[1 + FROM_STDOUT] == IS_TERMINAL ||
	       streams.modes[1 + FROM_STDERR] == IS_TERMINAL;
}

static u8 endpoints(void)
{
	static const u8 outputs[FLOWS] = {TERMINAL_OUT, STDOUT, STDERR};
	u8 there = streams.modes[0] == STREAM_IN ? STDIN : streams.modes[0] >= TERMINAL_ATTACHED ? TERMINAL_IN : 0;
	for (int i = 0; i < FLOWS; i++)
		there |= streams.flows[i].does & SERVED ? outputs[i] : 0;
	return there;
}

static long open_rest(const struct step *step)
{
	long r = 0;
	if (streams.modes[0] == STREAM_IN)
		r = make_pipe(&streams.in.to, &streams.program_in, true);
	if (r >= 0)
		r = streams.null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
	self.detail = AT_SOCKET;
	if (r >= 0 && *step_text(step, 4))
		r = attach_open(step_text(step, 4), endpoints());
	journal_open(step->arg[6]);
	return r;
}

long step_STREAMS(const struct step *step)
{
	long r = 0;
	streams.log = (struct log){
		.path = step_text(step, 0), .fd = -1, .most = step_number(step, 1), .files = step_number(step, 2)};
	streams.name = step_text(step, 5);
	streams.began = now_ms();
	streams.program_in = streams.null = streams.in.to = -1;
	streams.runs = true;
	for (int i = 0; i < 1 + FLOWS; i++)
		streams.modes[i] = (u8)(step_number(step, 3) >> 4 * i & 15);
	self.detail = AT_CREATE;
	if (*streams.log.path)
		r = log_open(&streams.log);
	self.detail = AT_SOURCE;
	for (int i = 0; r >= 0 && i < FLOWS; i++)
		r = open_flow((enum flow_name)i);
	return r < 0 ? r : open_rest(step);
}

/* In the program's process, after the TERMINAL, if there is one. */
long step_STREAM_ENDS(const struct step *step)
{
	long ends[3] = {streams.modes[0] == NOTHING_IN ? streams.null : streams.program_in, -1, -1}, r = 0;
	(void)step;
	for (int i = FROM_STDOUT; i < FLOWS; i++)
		if (streams.modes[1 + i] != IS_TERMINAL)
			ends[i] = streams.modes[1 + i] ? streams.flows[i].program_end : streams.null;
	for (int i = 0; r >= 0 && i < 3; i++)
		if (ends[i] >= 0)
			r = sys(__NR_dup3, ends[i], i, 0);
	return r;
}

void streams_part(void)
{
	if (!streams.runs)
		return;
	for (int i = 0; i < FLOWS; i++) {
		sys_close(streams.flows[i].program_end);
		streams.flows[i].program_end = -1;
	}
	sys_close(streams.program_in);
	sys_close(streams.null);
	streams.program_in = streams.null = -1;
}

bool streams_terminal(long master, bool *outer)
{
	struct flow *flow = &streams.flows[FROM_TERMINAL];
	if (!streams.runs)
		return false;
	flow->from = master;
	flow->is_open = true;
	if (streams.modes[0] >= TERMINAL_ATTACHED)
		streams.in.to = master;
	streams.in.is_terminal = true;
	*outer = streams.modes[0] == TERMINAL_OUR_OWN;
	return true;
}

void streams_size(u16 rows, u16 columns)
{
	u16 size[4] = {rows, columns, 0, 0};
	if (streams.flows[FROM_TERMINAL].is_open)
		sys(__NR_ioctl, streams.flows[FROM_TERMINAL].from, TIOCSWINSZ, size);
}

/* --- what the program is told --- */

bool streams_input_ready(void)
{
	return streams.in.at == streams.in.end;
}

static void close_input(void)
{
	if (!streams.in.is_terminal)
		sys_close(streams.in.to);
	streams.in.to = -1;
}

static void write_input(void)
{
	long r = sys(__NR_write, streams.in.to, typed + streams.in.at, streams.in.end - streams.in.at);
	if (r > 0)
		streams.in.at += (u32)r;
	else if (r != -EAGAIN && r != -EINTR) {
		streams.in.at = streams.in.end; /* it reads no more */
		close_input();
	}
}

void streams_input(const u8 *bytes, u32 size)
{
	if (streams.in.to < 0 || size > INPUT_MOST)
		return;
	memcpy(typed, bytes, size);
	streams.in.at = 0;
	streams.in.end = size;
	write_input();
}

void streams_input_end(void)
{
	static const u8 key = END_OF_INPUT;
	if (streams.in.is_terminal)
		streams_input(&key, 1);
	else
		close_input();
}

/* --- what the program says --- */

static void add(const struct flow *flow, const char *name, u32 size, bool whole)
{
	const u8 *text = flow->bytes + flow->logged;
	if (!(flow->does & LOGGED))
		return;
	if (streams.log.fd >= 0)
		log_add(&streams.log, text, size, whole);
	journal_add(name, text, size, whole);
}

/* Whole lines, and what has become too long for one, or is the last. */
static void log_lines(struct flow *flow, bool last)
{
	const char *name = flow == &streams.flows[FROM_STDERR] ? "stderr" : "stdout";
	log_begin(name);
	for (u32 i = flow->fresh; i < flow->used; i++)
		if (flow->bytes[i] == '\n') {
			add(flow, name, i - flow->logged, true);
			flow->logged = i + 1;
		}
	if (flow->used - flow->logged == LINE_MOST || (last && flow->used > flow->logged)) {
		add(flow, name, flow->used - flow->logged, false);
		flow->logged = flow->used;
	}
	log_end(&streams.log);
}

static u32 passable(const struct flow *flow)
{
	return flow->prefixed ? flow->logged : flow->used;
}

static bool to_pass(const struct flow *flow)
{
	return flow->does & PASSED_ON && flow->passed < passable(flow);
}

static bool readable(const struct flow *flow)
{
	return flow->is_open && !to_pass(flow) && !attach_owes((enum flow_name)(flow - streams.flows));
}

/* Who ran us hears no more: as with a pipe between the two, the program is told when it writes the next time; what it has
 * written is read before. */
static void lose_reader(struct flow *flow)
{
	flow->does &= (u8)~PASSED_ON;
	if (flow != &streams.flows[FROM_TERMINAL] && !flow->hung_up) {
		flow->hung_up = true;
		flow->left = A_PIPE;
	}
}

static void begin_line(struct flow *flow)
{
	i64 now = now_ms() - streams.began;
	char digits[4] = {(char)('0' + now / 100 % 10), (char)('0' + now / 10 % 10), (char)('0' + now % 10), 0};
	flow->prefix = TEXT(flow->prefix_text);
	text_add(&flow->prefix, "[");
	text_add_number(&flow->prefix, now / 1000);
	text_add(&flow->prefix, ".");
	text_add(&flow->prefix, digits);
	text_add(&flow->prefix, "] ");
	text_add(&flow->prefix, streams.name);
	text_add(&flow->prefix, "[");
	text_add_number(&flow->prefix, self.child);
	text_add(&flow->prefix, "]: ");
	flow->prefix_at = 0;
	flow->in_line = true;
}

/* One line, or the rest of it, in one call: lines of several apps must not run into each other. */
static long pass_line(struct flow *flow)
{
	u32 end = flow->passed;
	while (end < flow->logged && flow->bytes[end++] != '\n')
		;
	if (!flow->in_line)
		begin_line(flow);
	u32 prefix = (u32)flow->prefix.used - flow->prefix_at;
	struct iovec parts[] = {{flow->prefix_text + flow->prefix_at, prefix},
				{flow->bytes + flow->passed, end - flow->passed}};
	long r = sys(__NR_writev, flow->to, parts, 2);
	if (r <= 0)
		return r;
	if (r < (long)prefix) {
		flow->prefix_at += (u32)r;
		return 0;
	}
	flow->prefix_at += prefix;
	r -= prefix;
	flow->in_line = r < end - flow->passed || flow->bytes[end - 1] != '\n';
	return r;
}

static long pass_some(struct flow *flow)
{
	const u8 *bytes = flow->bytes + flow->passed;
	u32 size = flow->used - flow->passed;
	if (flow->prefixed)
		return pass_line(flow);
	if (flow->is_socket)
		return sys(__NR_sendto, flow->to, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	return sys(__NR_write, flow->to, bytes, flow->may_block && size > SAFE ? SAFE : size);
}

static void pass_on(struct flow *flow)
{
	while (to_pass(flow)) {
		long r = pass_some(flow);
		if (r == -EAGAIN)
			return;
		if (r == -EINTR)
			continue;
		if (r < 0)
			lose_reader(flow);
		else
			flow->passed += (u32)r;
		if (flow->may_block)
			return;
	}
}

/* What waits for the end of its line comes to the front. */
static void settle(struct flow *flow)
{
	u32 kept = flow->used - flow->logged;
	for (u32 i = 0; i < kept && flow->logged; i++)
		flow->bytes[i] = flow->bytes[flow->logged + i];
	flow->passed = flow->prefixed ? 0 : kept;
	flow->used = kept;
	flow->logged = 0;
}

static void close_flow(struct flow *flow)
{
	settle(flow);
	flow->fresh = flow->used;
	log_lines(flow, true);
	bool open_line = flow->used ? flow->bytes[flow->used - 1] != '\n' : flow->in_line;
	if (flow->prefixed && open_line && flow->used < LINE_MOST) {
		flow->bytes[flow->used++] = '\n';
		flow->logged = flow->used;
	}
	if (flow != &streams.flows[FROM_TERMINAL])
		sys_close(flow->from);
	flow->is_open = false;
	pass_on(flow);
}

/* False if there is nothing to be read now. */
static bool take(struct flow *flow)
{
	settle(flow);
	i64 room = LINE_MOST - flow->used;
	if (flow->hung_up && flow->left < room)
		room = flow->left;
	long r = room ? sys(__NR_read, flow->from, flow->bytes + flow->used, room) : 0;
	if (r == -EINTR)
		return true;
	if (r == -EAGAIN && !flow->hung_up)
		return false;
	if (r <= 0) {
		close_flow(flow);
		return true;
	}
	flow->fresh = flow->used;
	flow->used += (u32)r;
	flow->left -= r;
	if (flow->does & SERVED)
		attach_give((enum flow_name)(flow - streams.flows), flow->bytes + flow->fresh, (u32)r);
	log_lines(flow, false);
	if (!flow->may_block)
		pass_on(flow);
	return true;
}

/* --- the supervisor's loop --- */

int streams_polls(struct pollfd *polls)
{
	i64 deadline = attach_deadline(), rest = deadline - now_ms();
	for (int i = 0; i < FLOWS; i++) {
		const struct flow *flow = &streams.flows[i];
		polls[2 * i] = (struct pollfd){.fd = readable(flow) ? (int)flow->from : -1, .events = POLLIN};
		polls[2 * i + 1] = (struct pollfd){.fd = to_pass(flow) ? (int)flow->to : -1, .events = POLLOUT};
	}
	bool input = streams.in.at < streams.in.end;
	polls[2 * FLOWS] = (struct pollfd){.fd = input ? (int)streams.in.to : -1, .events = POLLOUT};
	attach_polls(polls + 2 * FLOWS + 1);
	if (wants_terminal() && streams.flows[FROM_TERMINAL].from < 0)
		polls[2 * FLOWS + 1].fd = -1; /* whoever came now could not be heard */
	return !deadline ? -1 : rest > 0 ? (int)rest : 0;
}

void streams_move(const struct pollfd *polls)
{
	for (int i = 0; i < FLOWS; i++) {
		struct flow *flow = &streams.flows[i];
		if (polls[2 * i + 1].fd >= 0 && polls[2 * i + 1].revents)
			pass_on(flow);
		bool comes = polls[2 * i].fd >= 0 && polls[2 * i].revents;
		for (int turn = 0; comes && turn < IN_A_ROW && readable(flow); turn++)
			comes = take(flow);
	}
	if (polls[2 * FLOWS].fd >= 0 && polls[2 * FLOWS].revents)
		write_input();
	attach_move(polls + 2 * FLOWS + 1);
}

static void hang_up(void)
{
	relay_hang_up();
	for (int i = 0; i < FLOWS; i++) {
		struct flow *flow = &streams.flows[i];
		if (!flow->is_open || flow->hung_up)
			continue;
		/* what is in the pipe now; others may hold it open, and write for ever */
		long room = sys(__NR_fcntl, flow->from, F_GETPIPE_SZ, 0);
		flow->left = i == FROM_TERMINAL ? INT64_MAX : room > 0 ? room : A_PIPE;
		flow->hung_up = i != FROM_TERMINAL;
	}
}

/* True while something is still on its way. */
static bool read_rest(void)
{
	bool rest = false;
	for (int i = 0; i < FLOWS; i++) {
		struct flow *flow = &streams.flows[i];
		while (readable(flow) && take(flow))
			;
		rest |= flow->is_open || to_pass(flow) || attach_owes((enum flow_name)i);
	}
	return rest;
}

void streams_told(u32 number)
{
	const u64 fatal = 1ull << SIGHUP | 1ull << SIGINT | 1ull << SIGQUIT | 1ull << SIGTERM;
	if (number == KILL_YOURS || (number < 64 && fatal >> number & 1))
		streams.told_at = now_ms();
}

static void stop_passing(void)
{
	for (int i = 0; i < FLOWS; i++)
		streams.flows[i].does &= (u8)~PASSED_ON;
}

/* Whoever wants us to end, now that the program has, waits no longer for whoever does not read. */
static void heed(long signals)
{
	struct signalfd_siginfo info;
	i64 before = streams.told_at;
	streams.told_at = 0;
	while (sys(__NR_read, signals, &info, sizeof info) == sizeof info)
		streams_told(info.ssi_signo);
	if (streams.told_at)
		stop_passing();
	else
		streams.told_at = before;
}

void streams_end(long signals)
{
	struct pollfd polls[1 + STREAMS_POLLS];
	struct flow *terminal = &streams.flows[FROM_TERMINAL];
	if (!streams.runs)
		return;
	/* one that was asked to end long ago, and went on, is not what ends now */
	bool hurries = streams.told_at && now_ms() - streams.told_at < ASKED_MS;
	hang_up();
	while (read_rest()) {
		/* what a terminal was given last may still be on its way */
		bool waits = readable(terminal);
		int patience = streams_polls(polls + 1);
		int limit_ms = waits ? LAST_WORDS_MS : hurries ? STALL_MS : -1;
		if (limit_ms >= 0 && (patience < 0 || patience > limit_ms))
			patience = limit_ms;
		struct timespec limit = {.tv_sec = patience / 1000, .tv_nsec = patience % 1000 * 1000000};
		polls[0] = (struct pollfd){.fd = (int)signals, .events = POLLIN};
		long r = sys(__NR_ppoll, polls, 1 + STREAMS_POLLS, patience < 0 ? NULL : &limit, NULL, 8);
		if (r < 0)
			continue;
		if (r == 0 && waits && patience == LAST_WORDS_MS)
			close_flow(terminal);
		else if (r == 0 && hurries && patience == STALL_MS)
			stop_passing();
		if (polls[0].revents)
			heed(signals);
		streams_move(polls + 1);
	}
	attach_end(true);
}

void streams_drop(void)
{
	if (streams.runs)
		attach_end(false);
}
