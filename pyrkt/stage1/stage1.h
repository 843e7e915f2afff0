/* What the parts of stage1 share.  One process follows one plan, so its state is one object.
 *
 *   supervisor                          first process (C)
 *   ----------                          -----------------
 *   B steps
 *   clone ---------------------------->
 *   P steps
 *   GO ------------------------------->
 *                                       C steps
 *            <------------------- MEET
 *   P steps after MEET
 *   GO ------------------------------->
 *            <-------------- LISTENING  (the metadata service's socket, and a socket to say "go on" by)
 *            <-------------------- MAP  (a tree whose ids only the host's root may map, and a socket to say "go on" by)
 *            <--------------- TERMINAL  (the master, and a socket to say "go on" by)
 *            <----------- READY or EOF  WAIT_START, or INIT, or exec
 *   P steps after STARTED
 *   signals, terminal; a pod's apps
 *   E steps                             ends
 *
 * FAILED may come at any time before READY or EOF.  In a pod each app is run by a stage1 of its own, a child of the pod's
 * supervisor, with the same two processes (pod.c, member.c).
 */
#ifndef PYRKT_STAGE1_H
#define PYRKT_STAGE1_H

#include "plan.h"

enum { START_FAILED = 125, NOT_EXECUTABLE = 126, PROGRAM_MISSING = 127 };

/* A program that a step ran has failed: reported as errno 0, with its exit code as the detail. */
#define PROGRAM_FAILED (-4096L)

enum kind { GO = 1, MEET, TERMINAL, READY, FAILED, MAP = 7, LISTENING };

struct message {
	u32 kind;
	u32 index; /* of the step */
	i64 error; /* errno */
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
	u32 listening;	/* sockets of LISTEN_FDS, in a member that wants some */
	u32 umask, own_stdio; /* bit n: descriptor n is a file of the plan's, not the caller's */
	bool joins, joining, leaves, empty_root;
	long said; /* what a program that failed has written, or -1 */
};
extern struct self self;

/* main.c */
void forget_plan(void);

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
long receive(long channel, void *data, size_t size, i32 *fds, u32 room, bool wait);
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
long record_process(const char *path, i64 pid); /* "pid start-time" */
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
void relay_hang_up(void);
void relay_end(void);

/* listen.c: the metadata service of a pod, a process beside the supervisor */
long metadata_begin(const struct step *step, long listener);
void metadata_renew(void); /* its table is another one now */
void metadata_dismiss(void); /* nobody needs it any more: it may end while others do */
void metadata_end(void);     /* returns when nothing of it is left */
void metadata_poll(struct pollfd *poll);
void metadata_move(const struct pollfd *poll);

/* supervise.c */
struct report { /* what start() and a pod's supervisor read: a step's index, errno and detail, or REPORT_*, 0 and the pid */
	i32 index, error;
	i64 value;
};
enum { MOST_SAID = 4096 }; /* of what a program that failed has written: the end */
enum { REPORT_STAYS = -1, REPORT_LEFT = -2, REPORT_GATE = -3 };
_Noreturn void supervise(void);
_Noreturn void tidy_up(void); /* only the E steps: for a supervisor that was killed */
void pod_has_started(void);
_Noreturn void pod_has_failed(i32 plan, const struct report *found); /* an app could not be started */
void pod_warns(i32 plan, const struct report *found);

/* pod.c: the apps of a pod, in its supervisor */
i64 now_ms(void); /* of a clock that nobody sets */
enum { APP_NAME = 64, PLANS = 3, CONTROL_POLLS = 17, POD_POLLS = CONTROL_POLLS + 3 * MAX_APPS };
enum { KILL_YOURS = 64 /* SIGRTMAX: a member kills its app */ };
enum app_stage { FREE, IDLE, FIRST, MAIN, AFTERWARDS, PAUSED, ENDED };
enum { ENDS_FAILED = 1, ENDS_DONE = 2, SAYS_READY = 4 };
enum { RESTART_NO, RESTART_FAILED, RESTART_ALWAYS };

struct policy {	  /* as the bytes of POD_APP, and of the control socket, have it */
	u32 ends;	  /* ENDS_*: the pod ends when the app has failed, or is done; SAYS_READY: it tells when it is ready */
	u32 restart, most; /* RESTART_*, and how often, 0 without bound */
	u32 signal;	  /* that asks the app to end; 0 is SIGTERM */
	i64 delay_ms, grace_ms; /* before the first restart; between the signal and KILL */
};

struct app {
	char name[APP_NAME];
	struct policy policy;
	i32 plans[PLANS]; /* of FIRST, MAIN, AFTERWARDS */
	i32 pidfd, report; /* of the member, while there is one */
	i32 notify;	  /* what the app says itself, or -1 */
	i32 waiter;	  /* who has asked and gets an answer when it is done */
	i32 error;	  /* why it could not be started; then found says which step of which plan that was, said more */
	i32 found_in, said;
	struct report found;
	enum app_stage stage;
	u32 restarts, order;
	bool up, gated, stopping, signalled, killed;
	bool cut_short; /* it was stopped before it ran */
	bool ready;	/* it has said so */
	bool tidying;	/* its member was killed, and another one does what that one could not do any more */
	i64 code, deadline, began, delay_ms;
};

bool pod_runs(void);
void pod_begin(void);
int pod_polls(struct pollfd *polls); /* fills POD_POLLS of them; returns the ms until there is something to do, or -1 */
void pod_move(const struct pollfd *polls);
void pod_signal(int number);
i64 pod_close(void);
bool pod_is_ending(void);
struct app *pod_find(const char *name);
struct app *pod_add(const char *name, const struct policy *policy, const i32 *plans);
void pod_forget(struct app *app);
void pod_start_anew(struct app *app);
void pod_stop(struct app *app, i64 grace_ms);
void pod_end(int number);
void pod_end_within(i64 grace_ms); /* -1: what the plan says */
long pod_tell(struct app *app, int number);
void pod_forget_waiter(i32 client);

/* notify.c */
long notify_listen(const char *app); /* returns a socket that an app of this name may tell */
bool notify_hear(long fd, bool pass_on);
void notify_tell(const char *words, size_t size); /* whoever has started the pod */

/* sockets.c */
u32 sockets_keep(void);
void sockets_hand_on(u32 count);
void sockets_count(void);
u32 sockets_taken(void);
u32 sockets_variables(const char **at);

/* member.c: the stage1 of one app, as the pod's supervisor sees it */
long member_open(void); /* PID 1's namespaces, for all of them */
void member_sockets(u32 count);
long member_start(struct app *app, enum app_stage stage, bool tidying); /* tidying: only the steps after the end */
long member_said(long report); /* what the program that failed has said, as a file, or -1 */
bool member_was_killed(const struct app *app);

/* control.c */
void control_open(const char *path);
void control_answer(struct app *app, i32 error);
void control_polls(struct pollfd *polls); /* fills CONTROL_POLLS of them */
void control_move(const struct pollfd *polls);
void control_close(void);

#endif
