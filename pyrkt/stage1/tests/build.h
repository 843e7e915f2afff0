/* Plans for the tests, built in memory: whole ones, and ones with a fault where the test wants it. */
#ifndef PYRKT_TESTS_BUILD_H
#define PYRKT_TESTS_BUILD_H

#include "../plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct build {
	u8 bytes[1 << 16];
	size_t size;
	u32 steps;
};

static inline void put(struct build *plan, u64 value, int width)
{
	for (int i = 0; i < width; i++)
		plan->bytes[plan->size++] = (u8)(value >> 8 * i);
}

static inline void begin_plan(struct build *plan)
{
	memset(plan, 0, sizeof *plan);
	plan->size = 16;
}

/* kinds tell what follows: s const char *, i i64, l or b const char * and size_t */
static inline void add(struct build *plan, u16 code, u8 phase, const char *kinds, ...)
{
	struct {
		u8 number[8];
		const void *at;
		size_t size;
	} args[MAX_ARGS];
	size_t count = strlen(kinds);
	va_list list;
	va_start(list, kinds);
	for (size_t i = 0; i < count; i++) {
		if (kinds[i] == 's') {
			args[i].at = va_arg(list, const char *);
			args[i].size = strlen(args[i].at) + 1;
		} else if (kinds[i] == 'i') {
			u64 value = (u64)va_arg(list, i64);
			for (int byte = 0; byte < 8; byte++)
				args[i].number[byte] = (u8)(value >> 8 * byte);
			args[i].at = args[i].number;
			args[i].size = 8;
		} else {
			args[i].at = va_arg(list, const char *);
			args[i].size = va_arg(list, size_t);
		}
	}
	va_end(list);
	put(plan, code, 2);
	put(plan, phase, 1);
	put(plan, count, 1);
	for (size_t i = 0; i < count; i++)
		put(plan, args[i].size, 4);
	for (size_t i = 0; i < count; i++) {
		memcpy(plan->bytes + plan->size, args[i].at, args[i].size);
		plan->size += args[i].size;
	}
	plan->steps++;
}

static inline void end_plan(struct build *plan)
{
	size_t size = plan->size;
	plan->size = 0;
	put(plan, PLAN_MAGIC, 4);
	put(plan, PLAN_VERSION, 2);
	put(plan, 0, 2);
	put(plan, plan->steps, 4);
	put(plan, size, 4);
	plan->size = size;
}

static inline void add_clone(struct build *plan)
{
	add(plan, STEP_CLONE, BEFORE, "ii", (i64)0, (i64)-1);
}

static inline void add_exec(struct build *plan, u8 phase)
{
	add(plan, STEP_EXEC, phase, "sll", "/bin/true", "true\0-x\0", (size_t)8, "A=b\0", (size_t)4);
}

static inline void small_plan(struct build *plan)
{
	begin_plan(plan);
	add_clone(plan);
	add_exec(plan, CHILD);
	end_plan(plan);
}

/* A pod with two apps, and a step of each kind of argument. */
static inline void large_plan(struct build *plan)
{
	begin_plan(plan);
	add(plan, STEP_ON_FAILURE, BEFORE, "l", "pyrkt\0failed\0", (size_t)13);
	add(plan, STEP_MKDIR, BEFORE, "si", "/sys/fs/cgroup/x", (i64)0755);
	add(plan, STEP_WRITE, BEFORE, "sb", "/x", "max\0", (size_t)4);
	add_clone(plan);
	add(plan, STEP_MAP_IDS, PARENT, "bbi", "0 1 1\n", (size_t)6, "", (size_t)0, (i64)1);
	add(plan, STEP_HOOK, PARENT, "sllisb", "/h", "h\0", (size_t)2, "", (size_t)0, (i64)-1, "{", "}", (size_t)1);
	add(plan, STEP_SETSID, CHILD, "");
	add(plan, STEP_POD, BEFORE, "ssii", "/run/control", "", (i64)0, (i64)1000);
	for (int app = 0; app < 2; app++)
		add(plan, STEP_POD_APP, BEFORE, "siiib", "name", (i64)-1, (i64)200, (i64)-1, "policy", (size_t)6);
	add(plan, STEP_MOUNT, CHILD, "sssisi", "proc", "proc", "/proc", (i64)14, "", (i64)1);
	add(plan, STEP_INIT, CHILD, "");
	add(plan, STEP_RMDIR, AFTER, "s", "/sys/fs/cgroup/x");
	end_plan(plan);
}

/* Decodes a copy of exactly that size, so that one byte too far is seen; frees nothing that the caller still needs. */
static inline long decode_copy(const void *data, size_t size, u32 *culprit)
{
	u8 *copy = malloc(size ? size : 1);
	memcpy(copy, data, size);
	struct plan plan = {0};
	long r = plan_count(copy, size);
	if (r > 0) {
		plan.steps = malloc((size_t)r * sizeof *plan.steps);
		r = plan_decode(copy, size, &plan, culprit);
		for (u32 i = 0; r == 0 && i < plan.count; i++) {
			const struct step *step = &plan.steps[i];
			const char **room = malloc((plan.longest_list + 1) * sizeof *room);
			for (int arg = 0; arg < step->argc; arg++) {
				struct bytes bytes = step->arg[arg];
				if (bytes.at < copy || bytes.at + bytes.size > copy + size)
					abort();
				if (bytes.size == 8)
					(void)step_number(step, arg);
				/* whatever its kind: a list is never longer than what was made room for */
				if (bytes.size && !bytes.at[bytes.size - 1]) {
					u32 entries = 0;
					for (u32 b = 0; b < bytes.size; b++)
						entries += !bytes.at[b];
					if (entries <= plan.longest_list && step_list(step, arg, room) != entries)
						abort();
				}
			}
			free(room);
		}
		free(plan.steps);
	}
	free(copy);
	return r;
}

#endif
