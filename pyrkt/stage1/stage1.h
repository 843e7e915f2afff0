/* What the parts of stage1 share.  One process follows one plan, so its state is one object.
 *
 *   supervisor                          first process (C)                    an app of a pod (A)
 *   ----------                          -----------------                    -------------------
 *   B steps
 *   clone ---------------------------->
 *   P steps
 *   GO ------------------------------->
 *                                       C steps
 *            <------------------- MEET
 *   P steps after MEET
 *   GO ------------------------------->
 *            <-------------------- MAP  (a tree whose ids only the host's root may map, and a socket to say "go on" by)
 *            <--------------- TERMINAL  (the master, and a socket to say "go on" by)
 *            <----------- READY or EOF  WAIT_START, or INIT ----------------> A steps, exec
 *   P steps after STARTED               or exec
 *   signals, terminal                   (PID 1 of a pod: reaps)
 *            <------------------ EXITED  one for each app
 *   E steps                             ends
 *
 * FAILED may come from C or A at any time before READY or EOF.
 */
#ifndef PYRKT_STAGE1_H
#define PYRKT_STAGE1_H

#include "plan.h"

enum { START_FAILED = 125, NOT_EXECUTABLE = 126, PROGRAM_MISSING = 127 };

/* A program that a step ran has failed: reported as errno 0, with its exit code as the detail. */
#define PROGRAM_FAILED (-4096L)

enum kind { GO = 1, MEET, TERMINAL, READY, FAILED, EXITED, MAP };

struct message {
	u32 kind;
	u32 index; /* of the step; of the app, counted from 0, for EXITED */
	i64 error; /* errno; the exit code for EXITED */
	i64 detail;
};

struct self {
	struct plan plan;
	char **environment;
	const char **argv, **envp; /* room for the longest lists of the plan, made before the clone */
	enum phase phase;
	u32 index; /* of the step that is being done */
	i64 detail;
	i64 detail_of_program;
	long plan_fd, report, channel, proc, root, fifo, holder;
	long slots[SLOTS];
	i64 child; /* pid, as the supervisor sees it */
	long child_fd;
	i64 exit_code;
	u32 umask, own_stdio; /* bit n: descriptor n is a file of the plan's, not the caller's */
	bool joins, joining, leaves, empty_root;
	long said; /* what a program that failed has written, or -1 */
	long ready, go; /* an app's ends of the pipes to the pod's PID 1 */
};
extern struct self self;

/* run.c */
long run_steps(enum phase phase, u32 from, u32 to); /* [from, to); self.index is the failing step's */
u32 next_step(u32 from, enum phase phase, enum code code);
bool has_step(enum phase phase, enum code code);
long keep(i64 slot, long fd); /* puts fd in a slot, or closes it and fails */
long kept(i64 slot);
_Noreturn void give_up(long error); /* C and A: tell the supervisor, end */
int exit_code_of(u32 index, long error);

/* channel.c */
long send_message(long channel, const struct message *message, const i32 *fds, u32 count);
long receive_message(long channel, struct message *message, i32 *fds, u32 room, bool wait);
long hand_over(enum kind kind, long descriptor);
long await_go(void);
long send_descriptor(long to, const char *name, long descriptor); /* by an AF_UNIX socket */

/* proc.c: the host's procfs, opened before anything of an image is in sight */
long open_proc(void);
long proc_open(const char *path, u64 flags);
long proc_write(const char *path, const void *data, size_t size);
long proc_write_own(const char *path, const void *data, size_t size);
i64 own_pid(void); /* as the host's procfs counts */

/* resolve.c: paths inside the root, as descriptors */
enum make { MAKE_NOTHING, MAKE_DIRECTORY, MAKE_FILE };
long in_tree(long tree, const char *path, u64 flags, u64 resolve); /* as if the tree were "/" */
long in_root(const char *path, u64 flags, u64 resolve);
long target_in_root(const char *path, enum make make, u64 resolve);
long parent_in_root(const char *path, bool make, char *last); /* last: NAME_MAX + 1 */

/* files.c */
long replace_file(const char *path, const void *data, size_t size, u32 mode);
long connect_to(const char *path); /* of a listening unix socket */

/* ids.c */
long map_ids(i64 pid, struct bytes uids, struct bytes gids, bool deny);

/* exec.c */
long become(const char *program, const char **argv, const char **envp); /* returns only if it fails */
long close_all_but(i64 first, const long *kept, u32 count); /* every descriptor from first on */
long enter_late_directory(void); /* as the user that the process has become */

/* program.c */
struct program {
	const char *path, **argv, **envp;
	long input, output; /* output: what gets all that it says; -1: whoever gets what we say */
	i64 seconds;	    /* until it is killed; 0: never */
};
long run_program(const struct program *program);
long wait_for(long pidfd); /* exit code or 128 + signal, or -errno */

/* mounts.c */
long new_mount(const char *type, const char *const *options, u32 attributes); /* "key", "value" or NULL, ..., NULL */
long attach(long tree, long target);
long clone_tree(long fd, bool recursive);
long set_attributes(long fd, bool recursive, u64 set, u64 clear);
long attach_null(long target); /* bind a true /dev/null */
void forget_mounts(void); /* by number, for their numbers may have been promised to the program */
long propagate(long fd, u64 flags);
long map_volume(const struct step *step, long tree); /* as its VOLUME says */

/* copy.c */
long copy_up(long from, long to); /* everything in the directory from into the empty directory to */

/* hide.c */
long hide_views(void); /* the host's procfs and sysfs, where they stay below the root */

/* root.c */
long enter_root(long root); /* pivot into it, detach what was before */

/* caps.c */
long set_caps(u64 effective, u64 permitted, u64 inheritable, u64 ambient);
long bound_caps(u64 mask);

/* exec.c */
void default_signals(void);
void die_with_parent(void);

/* home.c */
const char *home_variable(void); /* "HOME=...", or NULL */

/* spawn.c */
long spawn(void);
i64 clone_process(u64 flags, i32 *pidfd, long cgroup);

/* holder.c */
_Noreturn void hold(const char *parent);

/* relay.c: the outer terminal and the container's, in the supervisor */
struct pollfd;
enum { RELAY_POLLS = 3 };
long relay_start(long master);
bool relay_runs(void);
void relay_listen(void);
void relay_size(void);
void relay_polls(struct pollfd *polls); /* fills RELAY_POLLS of them */
void relay_move(const struct pollfd *polls);
void relay_end(void);

/* supervise.c */
_Noreturn void supervise(void);

#endif
