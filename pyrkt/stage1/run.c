/* The walk through the steps: a table of functions, and the loop. */
#include "stage1.h"

struct self self;

#define STEP(code, name, kinds, phases, words) long step_##name(const struct step *step);
#include "steps.h"
#undef STEP

static long (*const acts[CODES])(const struct step *) = {
#define STEP(code, name, kinds, phases, words) [code] = step_##name,
#include "steps.h"
#undef STEP
};

long run_steps(enum phase phase, u32 from, u32 to)
{
	for (self.index = from; self.index < to; self.index++) {
		const struct step *step = &self.plan.steps[self.index];
		if (step->phase != phase)
			continue;
		self.detail = NOWHERE;
		long r = acts[step->code](step);
		if (r < 0)
			return r;
	}
	return 0;
}

u32 next_step(u32 from, enum phase phase, enum code code)
{
	while (from < self.plan.count && (self.plan.steps[from].phase != phase || self.plan.steps[from].code != code))
		from++;
	return from;
}

bool has_step(enum phase phase, enum code code)
{
	return next_step(0, phase, code) < self.plan.count;
}

long keep(i64 slot, long fd)
{
	if (fd < 0)
		return fd;
	if (slot < 0 || slot >= SLOTS) {
		sys_close(fd);
		return -EINVAL;
	}
	sys_close(self.slots[slot]);
	self.slots[slot] = fd;
	return 0;
}

long kept(i64 slot)
{
	return slot >= 0 && slot < SLOTS && self.slots[slot] >= 0 ? self.slots[slot] : -EBADF;
}

int exit_code_of(u32 index, long error)
{
	if (index >= self.plan.count || self.plan.steps[index].code != STEP_EXEC)
		return START_FAILED;
	return error == ENOENT || error == ENOTDIR ? PROGRAM_MISSING : NOT_EXECUTABLE;
}

_Noreturn void give_up(long error)
{
	long number = error == PROGRAM_FAILED ? 0 : -error;
	struct message message = {FAILED, self.index, number, error == PROGRAM_FAILED ? self.detail_of_program : self.detail};
	i32 said = (i32)self.said;
	send_message(self.channel, &message, &said, said >= 0);
	sys_exit(exit_code_of(self.index, number));
}

/* These stand for what the supervisor or PID 1 looks up; the walk has nothing to do at their places. */
#define NOTHING(name)                                                                                                  \
	long step_##name(const struct step *step)                                                                      \
	{                                                                                                              \
		(void)step;                                                                                            \
		return 0;                                                                                              \
	}
NOTHING(ON_FAILURE)
NOTHING(CLONE)
NOTHING(ADOPT)
NOTHING(STARTED)
NOTHING(LEAVE)
NOTHING(POD)
NOTHING(POD_APP)
NOTHING(MEMBER)
