/* The decoder: total, without allocation.  A plan that passes needs no further check of its form. */
#include "plan.h"

static const struct {
	char kinds[MAX_ARGS + 1];
	u8 phases; /* 0: there is no such step */
} table[CODES] = {
#define STEP(code, name, kinds, phases, words) [code] = {kinds, phases},
#include "steps.h"
#undef STEP
};

enum { HEADER = 16, STEP_HEADER = 4 };

static u32 get32(const u8 *at)
{
	return (u32)at[0] | (u32)at[1] << 8 | (u32)at[2] << 16 | (u32)at[3] << 24;
}

static u16 get16(const u8 *at)
{
	return (u16)(at[0] | at[1] << 8);
}

static bool argument_fits(char kind, struct bytes arg)
{
	switch (kind) {
	case 'i':
		return arg.size == 8;
	case 's': /* one NUL, at the end: a text cannot be cut short by another */
		return arg.size && strlen((const char *)arg.at) == arg.size - 1;
	case 'l':
		return !arg.size || !arg.at[arg.size - 1];
	default:
		return kind == 'b';
	}
}

static u32 entries(struct bytes list)
{
	u32 count = 0;
	for (u32 i = 0; i < list.size; i++)
		count += !list.at[i];
	return count;
}

/* Decodes one step at *at; false if anything about it is odd. */
static bool decode_step(const u8 **at, const u8 *end, struct step *step, u32 *longest)
{
	if (end - *at < STEP_HEADER)
		return false;
	step->code = get16(*at);
	step->phase = (*at)[2];
	step->argc = (*at)[3];
	*at += STEP_HEADER;
	if (step->code >= CODES || step->phase >= PHASES || !(table[step->code].phases >> step->phase & 1))
		return false;
	const char *kinds = table[step->code].kinds;
	if (step->argc != strlen(kinds) || end - *at < 4 * step->argc)
		return false;
	const u8 *lengths = *at;
	*at += (size_t)4 * step->argc;
	for (int i = 0; i < step->argc; i++) {
		struct bytes arg = {*at, get32(lengths + (size_t)4 * i)};
		if ((size_t)(end - *at) < arg.size)
			return false;
		/* strlen in argument_fits must find its end inside */
		if (kinds[i] == 's' && (!arg.size || arg.at[arg.size - 1]))
			return false;
		if (!argument_fits(kinds[i], arg))
			return false;
		if (kinds[i] == 'l' && entries(arg) > *longest)
			*longest = entries(arg);
		step->arg[i] = arg;
		*at += arg.size;
	}
	return true;
}

/* The order that the supervisor relies on: one CLONE, or one ADOPT and no process of its own; the process ends in EXEC or, a
 * pod's PID 1, in INIT, and only a pod has apps; who waits for the other at a MEET does not wait in vain. */
static bool well_formed(const struct plan *plan, u32 *culprit)
{
	const struct step *last_child = NULL, *clone = NULL, *adopt = NULL, *pod = NULL;
	u32 apps = 0, failures = 0, meetings = 0, met = 0;
	for (*culprit = 0; *culprit < plan->count; ++*culprit) {
		const struct step *step = &plan->steps[*culprit];
		failures += step->code == STEP_ON_FAILURE;
		apps += step->code == STEP_POD_APP;
		meetings += step->code == STEP_MEET && step->phase == PARENT;
		met += step->code == STEP_MEET && step->phase == CHILD;
		if ((step->code == STEP_CLONE && clone) || (step->code == STEP_ADOPT && adopt) ||
		    (step->code == STEP_POD && pod) || failures > 1 || apps > MAX_APPS)
			return false;
		if (step->code == STEP_CLONE)
			clone = step;
		if (step->code == STEP_ADOPT)
			adopt = step;
		if (step->code == STEP_POD)
			pod = step;
		if (step->phase == CHILD) {
			if (last_child && (last_child->code == STEP_EXEC || last_child->code == STEP_INIT))
				return false;
			last_child = step;
		}
	}
	if (apps && !pod)
		return false;
	if (adopt)
		return !clone && !last_child && !meetings && !pod;
	return clone && last_child && meetings == met && last_child->code == (pod ? STEP_INIT : STEP_EXEC);
}

long plan_count(const u8 *data, size_t size)
{
	if (size < HEADER || get32(data) != PLAN_MAGIC || get16(data + 4) != PLAN_VERSION || get16(data + 6))
		return -EBADMSG;
	u32 count = get32(data + 8);
	return count && count <= MAX_STEPS && get32(data + 12) <= size ? (long)count : -EBADMSG;
}

long plan_decode(const u8 *data, size_t size, struct plan *plan, u32 *culprit)
{
	*culprit = 0;
	long count = plan_count(data, size);
	if (count < 0)
		return count;
	plan->count = (u32)count;
	plan->longest_list = 0;
	u32 total = get32(data + 12);
	if (total < HEADER)
		return -EBADMSG;
	const u8 *at = data + HEADER, *end = data + total;
	for (; *culprit < plan->count; ++*culprit)
		if (!decode_step(&at, end, &plan->steps[*culprit], &plan->longest_list))
			return -EBADMSG;
	return at == end && well_formed(plan, culprit) ? 0 : -EBADMSG;
}

const char *step_text(const struct step *step, int arg)
{
	return (const char *)step->arg[arg].at;
}

i64 step_number(const struct step *step, int arg)
{
	const u8 *at = step->arg[arg].at;
	return (i64)((u64)get32(at) | (u64)get32(at + 4) << 32);
}

u32 step_list(const struct step *step, int arg, const char **into)
{
	u32 count = 0;
	const u8 *at = step->arg[arg].at, *end = at + step->arg[arg].size;
	while (at < end) {
		into[count++] = (const char *)at;
		at += strlen((const char *)at) + 1;
	}
	into[count] = NULL;
	return count;
}
