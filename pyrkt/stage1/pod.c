/* The supervisor of a pod: its apps.  Each is run by a stage1 of its own, a member, which makes the app's container around
 * the namespaces that PID 1 holds, and has the app's exit code when it ends.  What is decided here is the order: what runs
 * before and after an app, whether it runs again, what its end means for the others, and how all of them end.
 *
 *   IDLE -> FIRST -> MAIN -> AFTERWARDS -> ENDED        FIRST and AFTERWARDS where the app has such handlers
 *           ^--------- PAUSED <--'              where its policy says so
 */
#include "stage1.h"
#include "text.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

enum { MEMBER_DIES_MS = 10000 };

/* An app that fails again and again is started ever more seldom; one that has run for a while begins anew. */
enum { LONGEST_DELAY_MS = 60000, RAN_WELL_MS = 10000 };

static struct {
	struct app apps[MAX_APPS];
	i64 code; /* of the first app that failed */
	i64 grace_ms, end_by;
	bool foreground, told; /* whoever started it waits, and has heard that it is ready */
	bool runs, mutable, opened, announced, ending, interrupted, over;
	u32 added; /* how many there have been: the order in which they end is the other way round */
} pod;

i64 now_ms(void)
{
	struct timespec now = {0, 0};
	sys(__NR_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool pod_runs(void)
{
	return pod.runs;
}

bool pod_is_ending(void)
{
	return pod.ending;
}

static bool lives(const struct app *app)
{
	return app->stage == FIRST || app->stage == MAIN || app->stage == AFTERWARDS;
}

struct app *pod_find(const char *name)
{
	for (u32 i = 0; i < MAX_APPS; i++)
		if (pod.apps[i].stage != FREE && !strcmp(pod.apps[i].name, name))
			return &pod.apps[i];
	return NULL;
}

struct app *pod_add(const char *name, const struct policy *policy, const i32 *plans)
{
	size_t size = strlen(name);
	for (u32 i = 0; i < MAX_APPS && size && size < sizeof pod.apps->name; i++) {
		struct app *app = &pod.apps[i];
		if (app->stage != FREE)
			continue;
		memset(app, 0, sizeof *app);
		memcpy(app->name, name, size);
		memcpy(app->plans, plans, sizeof app->plans);
		app->policy = *policy;
		app->pidfd = app->report = app->waiter = app->said = app->found.index = app->notify = -1;
		if (policy->ends & SAYS_READY)
			app->notify = (i32)notify_listen(name);
		app->stage = IDLE;
		app->order = ++pod.added;
		return app;
	}
	return NULL;
}

void pod_forget(struct app *app)
{
	for (int i = 0; i < PLANS; i++)
		sys_close(app->plans[i]);
	sys_close(app->said);
	sys_close(app->notify);
	app->stage = FREE;
}

/* --- the files that tell of an app: status/NAME its exit code, status/NAME.restarts how often it was run again --- */

static bool status_path(struct text *path, const struct app *app, const char *ending)
{
	u32 file = next_step(0, AFTER, STEP_EXIT_FILE);
	if (file == self.plan.count)
		return false;
	text_add(path, step_text(&self.plan.steps[file], 0));
	text_add(path, "/");
	text_add(path, app->name);
	text_add(path, ending);
	return !path->cut;
}

static void record(const struct app *app, const char *ending, i64 number)
{
	char path[PATH_MAX], digits[24];
	struct text name = TEXT(path), text = TEXT(digits);
	text_add_number(&text, number);
	text_add(&text, "\n");
	if (status_path(&name, app, ending))
		replace_file(path, digits, text.used, 0644);
}

static void forget_record(const struct app *app, const char *ending)
{
	char path[PATH_MAX];
	struct text name = TEXT(path);
	if (status_path(&name, app, ending))
		sys(__NR_unlinkat, AT_FDCWD, path, 0);
}

/* --- the life of an app --- */

static void finish(struct app *app);

/* Goes on with the first plan from stage on that the app has. */
static void go_on(struct app *app, enum app_stage stage)
{
	while (stage <= AFTERWARDS && app->plans[stage - FIRST] < 0)
		stage++;
	if (stage > AFTERWARDS) {
		finish(app);
		return;
	}
	long r = member_start(app, stage, false);
	if (r < 0) {
		app->code = app->code ? app->code : START_FAILED;
		app->error = (i32)-r;
		finish(app);
	} else if (pod.ending || app->stopping)
		app->deadline = now_ms() + app->policy.grace_ms; /* the handler after a stopped app */
}

static void start(struct app *app)
{
	app->code = 0;
	app->stopping = app->signalled = false;
	app->began = now_ms();
	app->ready = false;
	forget_record(app, "");
	forget_record(app, ".ready");
	go_on(app, FIRST);
}

void pod_start_anew(struct app *app)
{
	app->restarts = 0;
	app->delay_ms = 0;
	forget_record(app, ".restarts");
	start(app);
}

static void signal_member(const struct app *app, int number)
{
	sys(__NR_pidfd_send_signal, app->pidfd, number, NULL, 0);
}

static int signal_to_end(const struct app *app)
{
	return app->policy.signal ? (int)app->policy.signal : SIGTERM;
}

static void ask_to_end(struct app *app, int number, i64 patience_ms)
{
	app->signalled = true;
	app->deadline = now_ms() + patience_ms;
	if (app->stage == AFTERWARDS || app->tidying)
		return;
	if (number == SIGTERM)
		number = signal_to_end(app);
	signal_member(app, number == SIGKILL ? KILL_YOURS : number); /* by the member, which lives to tidy up */
}

void pod_stop(struct app *app, i64 grace_ms)
{
	app->stopping = true;
	if (app->stage == PAUSED)
		finish(app);
	else if (lives(app))
		ask_to_end(app, SIGTERM, grace_ms < 0 ? app->policy.grace_ms : grace_ms);
}

/* Whoever lives longer than it was given: first the app is killed, by its member, then the member. */
static void lose_patience(struct app *app)
{
	if (app->killed)
		signal_member(app, SIGKILL);
	else
		signal_member(app, KILL_YOURS);
	app->killed = true;
	app->deadline = now_ms() + MEMBER_DIES_MS;
}

long pod_tell(struct app *app, int number)
{
	if (!lives(app))
		return -ESRCH;
	return sys(__NR_pidfd_send_signal, app->pidfd, number == SIGKILL ? KILL_YOURS : number, NULL, 0);
}

void pod_forget_waiter(i32 client)
{
	for (u32 i = 0; i < MAX_APPS; i++)
		if (pod.apps[i].waiter == client)
			pod.apps[i].waiter = -1;
}

/* --- the end of the pod --- */

static u32 living(void)
{
	u32 count = 0;
	for (u32 i = 0; i < MAX_APPS; i++)
		count += lives(&pod.apps[i]);
	return count;
}

/* The one that was added last ends first; the next one is asked when it is gone, and each has its share of the time that is left. */
static void next_to_end(void)
{
	struct app *last = NULL;
	for (u32 i = 0; i < MAX_APPS; i++)
		if (lives(&pod.apps[i]) && (!last || pod.apps[i].order > last->order))
			last = &pod.apps[i];
	i64 left = pod.end_by - now_ms();
	if (last && !last->signalled)
		ask_to_end(last, SIGTERM, left < 0 ? 0 : left / living());
}

void pod_end_within(i64 grace_ms)
{
	if (grace_ms >= 0)
		pod.grace_ms = grace_ms;
	pod_signal(SIGTERM);
}

void pod_end(int number)
{
	if (pod.ending)
		return;
	pod.ending = true;
	if (pod.foreground)
		notify_tell("STOPPING=1", 10);
	pod.end_by = now_ms() + pod.grace_ms;
	for (u32 i = 0; i < MAX_APPS; i++) {
		struct app *app = &pod.apps[i];
		if (app->stage == PAUSED)
			finish(app);
		else if (lives(app) && number != SIGTERM)
			ask_to_end(app, number, pod.grace_ms);
	}
	next_to_end();
}

/* PID 1 takes with it whatever the apps have left behind. */
static void end_if_empty(void)
{
	for (u32 i = 0; i < MAX_APPS; i++)
		if (lives(&pod.apps[i]) || pod.apps[i].stage == PAUSED)
			return;
	if (pod.over || (pod.mutable && !pod.ending))
		return;
	pod.over = true;
	metadata_dismiss();
	sys(__NR_pidfd_send_signal, self.child_fd, SIGKILL, NULL, 0);
}

static bool runs_again(const struct app *app)
{
	const struct policy *policy = &app->policy;
	if (app->stopping || pod.ending || (policy->most && app->restarts >= policy->most))
		return false;
	return policy->restart == RESTART_ALWAYS || (policy->restart == RESTART_FAILED && app->code);
}

static void choose_delay(struct app *app)
{
	i64 longest = app->policy.delay_ms > LONGEST_DELAY_MS ? app->policy.delay_ms : LONGEST_DELAY_MS;
	if (!app->code || now_ms() - app->began >= RAN_WELL_MS || !app->delay_ms)
		app->delay_ms = app->policy.delay_ms;
	else
		app->delay_ms = 2 * app->delay_ms > longest ? longest : 2 * app->delay_ms;
}

static void finish(struct app *app)
{
	app->up = true;
	app->killed = false;
	if (runs_again(app)) {
		choose_delay(app);
		app->stage = PAUSED;
		app->deadline = now_ms() + app->delay_ms;
		record(app, ".restarts", ++app->restarts);
		control_answer(app, app->error); /* who asked for a start that came to nothing: its pre-start has failed */
		app->error = 0;
		return;
	}
	app->stage = ENDED;
	app->deadline = 0;
	record(app, "", app->code);
	if (app->code && !app->stopping && !pod.code)
		pod.code = app->code;
	control_answer(app, app->error);
	app->error = 0;
	if (!app->stopping && app->policy.ends & (app->code ? ENDS_FAILED : ENDS_DONE))
		pod_end(SIGTERM);
	if (pod.ending)
		next_to_end();
	end_if_empty();
}

/* No program runs before all that the pod starts with can: what cannot be set up must not leave the others half done. */
static void open_gates(void)
{
	for (u32 i = 0; i < MAX_APPS && !pod.opened; i++)
		if (pod.apps[i].stage != FREE && !pod.apps[i].gated && !pod.apps[i].up)
			return;
	pod.opened = true;
	for (u32 i = 0; i < MAX_APPS; i++) {
		if (pod.apps[i].stage == MAIN && pod.apps[i].gated)
			sys(__NR_sendto, pod.apps[i].report, "", 1, MSG_NOSIGNAL, NULL, 0);
		pod.apps[i].gated = false;
	}
}

/* Whoever has started the pod hears of it when each app runs, and those have spoken that tell so themselves. */
static void tell_ready(void)
{
	for (u32 i = 0; i < MAX_APPS; i++)
		if (lives(&pod.apps[i]) && pod.apps[i].policy.ends & SAYS_READY && !pod.apps[i].ready)
			return;
	if (!pod.told && pod.foreground && !pod.ending)
		notify_tell("READY=1", 7);
	pod.told = true;
}

static void announce(void)
{
	open_gates();
	if (pod.announced) {
		tell_ready();
		return;
	}
	for (u32 i = 0; i < MAX_APPS; i++)
		if (pod.apps[i].stage != FREE && !pod.apps[i].up)
			return;
	pod.announced = true;
	pod_has_started();
	tell_ready();
}

/* --- what comes from a member --- */

static void failed_to_start(struct app *app, const struct report *found)
{
	i32 plan = app->plans[app->stage - FIRST];
	if (app->stopping || pod.ending) { /* it is what was asked for */
		app->cut_short = true;
		return;
	}
	self.said = member_said(app->report);
	if (!pod.announced)
		pod_has_failed(plan, found);
	sys_close(app->said);
	app->said = (i32)sys(__NR_fcntl, self.said, F_DUPFD_CLOEXEC, 3);
	pod_warns(plan, found);
	app->found = *found;
	app->found_in = (i32)(app->stage - FIRST);
	app->error = found->error ? found->error : ECHILD;
}

static void take_report(struct app *app)
{
	struct report found;
	long size = read_all(app->report, &found, sizeof found);
	if (size == sizeof found && found.index == REPORT_GATE) {
		app->gated = true;
		open_gates();
		return;
	}
	if (size == sizeof found && found.index >= 0)
		failed_to_start(app, &found);
	else if (size == sizeof found && app->stage == MAIN) {
		app->up = true;
		if (!app->stopping) /* who waits for its end goes on waiting */
			control_answer(app, 0);
	}
	sys_close(app->report);
	app->report = -1;
	announce();
}

static i64 code_of(struct app *app)
{
	i64 code = wait_for(app->pidfd);
	sys_close(app->pidfd);
	app->pidfd = -1;
	if (app->tidying)
		return app->code;
	if (app->cut_short)
		code = 128 + (app->killed ? SIGKILL : signal_to_end(app));
	app->cut_short = false;
	return code < 0 ? START_FAILED : code;
}

static enum app_stage stage_after(const struct app *app, enum app_stage ended, i64 code)
{
	if (ended == FIRST && !code && !app->stopping && !pod.ending)
		return MAIN;
	return ended == AFTERWARDS ? AFTERWARDS + 1 : AFTERWARDS;
}

static void member_ended(struct app *app)
{
	enum app_stage ended = app->stage;
	while (app->report >= 0)
		take_report(app);
	app->gated = false;
	bool lost = !app->tidying && member_was_killed(app);
	i64 code = code_of(app);
	app->deadline = 0;
	app->killed = false;
	if (app->error) {
		control_answer(app, app->error);
		app->error = 0;
	}
	if (ended != AFTERWARDS)
		app->code = code;
	if (!lost || member_start(app, ended, true) < 0)
		go_on(app, stage_after(app, ended, code));
	announce();
}

/* --- the supervisor's loop asks these --- */

enum { PER_APP = 3 };
_Static_assert(POD_POLLS == CONTROL_POLLS + PER_APP * MAX_APPS, "room in the supervisor's list");

int pod_polls(struct pollfd *polls)
{
	i64 first = 0;
	control_polls(polls);
	polls += CONTROL_POLLS;
	for (u32 i = 0; i < MAX_APPS; i++, polls += PER_APP) {
		const struct app *app = &pod.apps[i];
		bool alive = lives(app);
		polls[0] = (struct pollfd){.fd = alive ? app->report : -1, .events = POLLIN};
		polls[1] = (struct pollfd){.fd = alive ? app->pidfd : -1, .events = POLLIN};
		polls[2] = (struct pollfd){.fd = alive ? app->notify : -1, .events = POLLIN};
		if (app->deadline && (!first || app->deadline < first))
			first = app->deadline;
	}
	if (!first)
		return -1;
	first -= now_ms();
	return first < 0 ? 0 : first > INT_MAX ? INT_MAX : (int)first;
}

static void hear(struct app *app)
{
	if (!notify_hear(app->notify, pod.foreground) || app->ready || app->stage != MAIN)
		return;
	app->ready = true;
	record(app, ".ready", 1);
	if (pod.announced)
		tell_ready();
}

static void look_at_the_clock(void)
{
	i64 now = now_ms();
	for (u32 i = 0; i < MAX_APPS; i++) {
		struct app *app = &pod.apps[i];
		if (!app->deadline || app->deadline > now)
			continue;
		if (app->stage == PAUSED)
			start(app);
		else if (lives(app))
			lose_patience(app);
		else
			app->deadline = 0;
	}
}

void pod_move(const struct pollfd *polls)
{
	const struct pollfd *each = polls + CONTROL_POLLS;
	for (u32 i = 0; i < MAX_APPS; i++, each += PER_APP) {
		struct app *app = &pod.apps[i];
		if (each[0].fd >= 0 && each[0].fd == app->report && each[0].revents)
			take_report(app);
		if (each[2].fd >= 0 && each[2].fd == app->notify && each[2].revents)
			hear(app);
		if (each[1].fd >= 0 && each[1].fd == app->pidfd && each[1].revents)
			member_ended(app);
	}
	look_at_the_clock();
	control_move(polls);
}

void pod_signal(int number)
{
	switch (number) {
	case SIGCHLD:
	case SIGPIPE:
	case SIGWINCH: /* the members have it from the terminal */
		return;
	case SIGTERM:
		pod_end(SIGTERM);
		break;
	case SIGINT:
		for (u32 i = 0; i < MAX_APPS && pod.interrupted; i++) /* asked twice: no more patience */
			if (lives(&pod.apps[i]))
				lose_patience(&pod.apps[i]);
		pod.interrupted = true;
		pod_end(SIGINT);
		break;
	default:
		for (u32 i = 0; i < MAX_APPS; i++)
			if (lives(&pod.apps[i]))
				signal_member(&pod.apps[i], number);
		return;
	}
	end_if_empty();
}

static void add_from_plan(const struct step *step)
{
	struct policy policy;
	i32 plans[PLANS];
	for (int i = 0; i < PLANS; i++) {
		plans[i] = (i32)step_number(step, 1 + i);
		sys(__NR_fcntl, plans[i], F_SETFD, FD_CLOEXEC);
	}
	memcpy(&policy, step->arg[4].at, sizeof policy);
	pod_add(step_text(step, 0), &policy, plans);
}

void pod_begin(void)
{
	const struct step *step = &self.plan.steps[next_step(0, BEFORE, STEP_POD)];
	pod.runs = true;
	pod.foreground = self.report < 0;
	if (pod.foreground)
		member_sockets(sockets_keep());
	pod.mutable = step_number(step, 2) & 1;
	pod.grace_ms = step_number(step, 3);
	if (*step_text(step, 1))
		record_process(step_text(step, 1), own_pid());
	control_open(step_text(step, 0));
	for (u32 i = next_step(0, BEFORE, STEP_POD_APP); i < self.plan.count; i = next_step(i + 1, BEFORE, STEP_POD_APP))
		if (self.plan.steps[i].arg[4].size == sizeof(struct policy))
			add_from_plan(&self.plan.steps[i]);
	for (u32 i = 0; i < MAX_APPS; i++)
		if (pod.apps[i].stage == IDLE)
			start(&pod.apps[i]);
	announce();
	end_if_empty();
}

/* PID 1 is gone, and with it every process of the apps; the members only have to see it. */
i64 pod_close(void)
{
	for (u32 i = 0; i < MAX_APPS; i++) {
		struct app *app = &pod.apps[i];
		struct pollfd end = {.fd = app->pidfd, .events = POLLIN};
		struct timespec limit = {.tv_sec = MEMBER_DIES_MS / 1000};
		if (!lives(app) || app->pidfd < 0)
			continue;
		sys_close(app->report); /* who waits at the gate goes home */
		app->report = -1;
		signal_member(app, KILL_YOURS);
		if (sys(__NR_ppoll, &end, 1, &limit, NULL, 8) <= 0)
			signal_member(app, SIGKILL);
		i64 code = wait_for(app->pidfd);
		app->stage = ENDED;
		record(app, "", code);
		if (code && !pod.code)
			pod.code = code;
	}
	control_close();
	return pod.code;
}
