/* A plan as the decoder leaves it: checked steps whose arguments point into the plan's bytes. */
#ifndef PYRKT_PLAN_H
#define PYRKT_PLAN_H

#include "sys.h"

enum phase { BEFORE, PARENT, CHILD, AFTER = 4, PHASES };

enum code {
#define STEP(code, name, kinds, phases, words) STEP_##name = code,
#include "steps.h"
#undef STEP
	CODES = 256 /* more than the highest; the table's order is free */
};

enum detail {
#define DETAIL(number, name, words) name = number,
#include "details.h"
#undef DETAIL
};

#define PLAN_MAGIC 0x54524b50u /* "PKRT" */
#define PLAN_VERSION 1
#define MAX_ARGS 8
#define MAX_STEPS 16384
#define MAX_APPS 64
#define SLOTS 128

struct bytes {
	const u8 *at;
	u32 size;
};

struct step {
	u16 code;
	u8 phase, argc;
	struct bytes arg[MAX_ARGS];
};

struct plan {
	struct step *steps;
	u32 count;
	u32 longest_list; /* entries of the longest list argument */
	const u8 *data;	  /* what it was decoded from */
	size_t size;
};

/* How many steps the plan in data says it has, or -EBADMSG.  Room for them is the caller's business. */
long plan_count(const u8 *data, size_t size);

/* Decodes data into plan->steps, which has room for plan_count() of them; 0 or -EBADMSG with the culprit's index. */
long plan_decode(const u8 *data, size_t size, struct plan *plan, u32 *culprit);

const char *step_text(const struct step *step, int arg);
i64 step_number(const struct step *step, int arg);

/* Fills into[] with the strings of a list and a NULL; returns their number.  into has room for longest_list + 1. */
u32 step_list(const struct step *step, int arg, const char **into);

#endif
