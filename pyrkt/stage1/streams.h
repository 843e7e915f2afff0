/* What an app writes, on its way to the log, to whoever runs it and to those who attach; and what they write to it. */
#ifndef PYRKT_STREAMS_H
#define PYRKT_STREAMS_H

#include "plan.h"

enum flow_name { FROM_TERMINAL, FROM_STDOUT, FROM_STDERR, FLOWS };
enum { LINE_MOST = 16384, STALL_MS = 1000, MOST_CLIENTS = 16, ATTACH_POLLS = 1 + MOST_CLIENTS };

/* what those who attach may ask for */
enum endpoint { STDIN = 1, STDOUT = 2, STDERR = 4, TERMINAL_IN = 8, TERMINAL_OUT = 16 };

/* logfile.c: lines as the CRI has them: TIME stdout|stderr F|P TEXT.  What cannot be written is counted, and told of by
 * a line of its own as soon as one can be: TIME stderr F:lost LINES ERRNO. */
struct log {
	const char *path;
	long fd;
	i64 most, files; /* bytes a file may have; files, with the rotated ones: PATH.1 is the youngest of them */
	i64 size;
	u64 lost;
	i64 error;
};
enum { STAMP = 30 };
void log_stamp(char *into, i64 seconds, i64 nanoseconds); /* STAMP characters, no NUL */
long log_open(struct log *log);
void log_begin(const char *stream); /* what is added now was read now */
void log_add(struct log *log, const u8 *text, u32 size, bool whole);
void log_end(struct log *log); /* it is written when this returns */

/* journal.c: the same lines for systemd's journal */
void journal_open(struct bytes fields);
void journal_add(const char *stream, const u8 *text, u32 size, bool whole);

/* attach.c */
struct pollfd;
long attach_open(const char *path, u8 endpoints);
void attach_polls(struct pollfd *polls); /* fills ATTACH_POLLS */
void attach_move(const struct pollfd *polls);
void attach_give(enum flow_name flow, const u8 *bytes, u32 size); /* they stay where they are while somebody is owed them */
bool attach_owes(enum flow_name flow);
i64 attach_deadline(void); /* when the first who takes nothing is dropped; 0 is never */
void attach_end(bool ended);

/* streams.c */
enum { STREAMS_POLLS = 2 * FLOWS + 1 + ATTACH_POLLS };
bool streams_run(void);
bool streams_alone(void);	       /* nothing of them is our own stdin, stdout or stderr */
void streams_part(void);		       /* the program has its ends: ours of them are closed */
bool streams_terminal(long master, bool *outer); /* false: there are none; outer: our own terminal is the other side */
int streams_polls(struct pollfd *polls); /* fills STREAMS_POLLS; ms until somebody is dropped, -1: never */
void streams_move(const struct pollfd *polls);
bool streams_input_ready(void);
void streams_input(const u8 *bytes, u32 size);
void streams_input_end(void);
void streams_size(u16 rows, u16 columns);
void streams_told(u32 number); /* a signal for the program has come */
void streams_end(long signals); /* all that was written goes where it belongs */
void streams_drop(void);	/* the program never ran */

#endif
