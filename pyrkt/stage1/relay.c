/* Between the terminal that pyrkt was started in and the container's. */
#include "stage1.h"
#include "streams.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

enum { LAST_WORDS_MS = 100, END_OF_INPUT = 4 };

struct buffer {
	u8 bytes[4096]; /* PIPE_BUF: a pipe that polls writable takes as many without blocking */
	u32 at, end;
};

static struct {
	long master, peer;
	bool runs, raw, input_open, listens;
	bool outer;  /* our own terminal is the other side */
	bool speaks; /* what comes from the master is ours to pass on, not for streams.c */
	struct termios saved;
	struct buffer in, out;
} relay;

bool relay_runs(void)
{
	return relay.runs;
}

void relay_size(void)
{
	u16 size[4];
	if (!relay.outer)
		return;
	for (int fd = 0; fd < 3; fd++)
		if (sys(__NR_ioctl, fd, TIOCGWINSZ, size) >= 0) {
			sys(__NR_ioctl, relay.master, TIOCSWINSZ, size);
			return;
		}
}

static void make_raw(void)
{
	if (sys(__NR_ioctl, 0, TCGETS, &relay.saved) < 0)
		return;
	struct termios mode = relay.saved;
	mode.c_iflag &= ~(u32)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	mode.c_oflag &= ~(u32)OPOST;
	mode.c_lflag &= ~(u32)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	mode.c_cflag = (mode.c_cflag & ~(u32)(CSIZE | PARENB)) | CS8;
	mode.c_cc[VMIN] = 1;
	mode.c_cc[VTIME] = 0;
	relay.raw = sys(__NR_ioctl, 0, TCSETS, &mode) >= 0;
}

/* A terminal wants lines to end in CR and LF, and the outer one, being raw, makes no CR any more.  A pipe wants none. */
static void keep_lines(void)
{
	struct termios mode;
	if (sys(__NR_ioctl, 1, TCGETS, &mode) >= 0 || sys(__NR_ioctl, relay.master, TCGETS, &mode) < 0)
		return;
	mode.c_oflag &= ~(u32)ONLCR;
	sys(__NR_ioctl, relay.master, TCSETS, &mode);
}

long relay_start(long master)
{
	if (relay.runs)
		return -EBUSY;
	long flags = sys(__NR_fcntl, master, F_GETFL, 0);
	if (flags < 0)
		return flags;
	sys(__NR_fcntl, master, F_SETFL, flags | O_NONBLOCK);
	relay.master = master;
	/* held open, so that a program which closes its terminal for a while is no hang-up that polls for ever */
	relay.peer = sys(__NR_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	relay.runs = relay.outer = true;
	relay.speaks = !streams_terminal(master, &relay.outer);
	relay.input_open = relay.outer;
	relay.listens = false;
	if (!relay.outer)
		return 0;
	relay_size();
	make_raw();
	keep_lines();
	return 0;
}

/* What was typed before the program runs stays in the caller's terminal: it may never run. */
void relay_listen(void)
{
	relay.listens = true;
}

void relay_polls(struct pollfd *polls)
{
	bool input = relay.runs && relay.listens && relay.input_open && relay.in.at == relay.in.end;
	bool output = relay.runs && relay.out.at < relay.out.end;
	bool hears = relay.speaks && !output;
	short master = (short)((relay.in.at < relay.in.end ? POLLOUT : 0) | (hears ? POLLIN : 0));
	polls[0] = (struct pollfd){.fd = input ? 0 : -1, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = relay.runs && master ? (int)relay.master : -1, .events = master};
	polls[2] = (struct pollfd){.fd = output ? 1 : -1, .events = POLLOUT};
}

static long fill(struct buffer *buffer, long fd)
{
	long r = sys(__NR_read, fd, buffer->bytes, sizeof buffer->bytes);
	if (r > 0) {
		buffer->at = 0;
		buffer->end = (u32)r;
	}
	return r;
}

static void drain(struct buffer *buffer, long fd)
{
	long r = sys(__NR_write, fd, buffer->bytes + buffer->at, buffer->end - buffer->at);
	if (r > 0)
		buffer->at += (u32)r;
	else if (r != -EAGAIN && r != -EINTR)
		buffer->at = buffer->end; /* nobody reads any more */
}

void relay_move(const struct pollfd *polls)
{
	if (polls[0].fd >= 0 && polls[0].revents) {
		long r = fill(&relay.in, 0);
		if (r == 0 || (r < 0 && r != -EAGAIN && r != -EINTR)) {
			relay.input_open = false;
			relay.in.bytes[0] = END_OF_INPUT;
			relay.in.at = 0;
			relay.in.end = 1;
		}
	}
	if (polls[1].fd >= 0 && polls[1].revents & POLLOUT)
		drain(&relay.in, relay.master);
	if (relay.speaks && polls[1].fd >= 0 && polls[1].revents & (POLLIN | POLLHUP) && relay.out.at == relay.out.end)
		fill(&relay.out, relay.master);
	if (polls[2].fd >= 0 && polls[2].revents)
		drain(&relay.out, 1);
}

void relay_hang_up(void)
{
	if (relay.runs)
		sys_close(relay.peer);
	relay.peer = -1;
}

/* What the program wrote last may still be on its way; the end is when nobody has the terminal open any more. */
void relay_end(void)
{
	if (!relay.runs)
		return;
	relay_hang_up();
	while (relay.speaks) {
		if (relay.out.at < relay.out.end)
			write_all(1, relay.out.bytes + relay.out.at, relay.out.end - relay.out.at);
		relay.out.at = relay.out.end;
		struct pollfd poll = {.fd = (int)relay.master, .events = POLLIN};
		struct timespec limit = {.tv_nsec = LAST_WORDS_MS * 1000000};
		if (sys(__NR_ppoll, &poll, 1, &limit, NULL, 8) <= 0 || fill(&relay.out, relay.master) <= 0)
			break;
	}
	if (relay.raw) {
		u64 mask = 1ull << (SIGTTOU - 1);
		/* in the background too: the shell must get its terminal back as it was */
		sys(__NR_rt_sigprocmask, SIG_BLOCK, &mask, NULL, sizeof mask);
		sys(__NR_ioctl, 0, TCSETS, &relay.saved);
	}
	relay.runs = false;
}
