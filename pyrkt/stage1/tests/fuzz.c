/* The decoder against anything: it accepts or refuses, and reads no byte that is not there.
 *
 * With libFuzzer this is its target; without (PYRKT_DRIVER) a driver of our own damages whole plans, the same way in
 * every run: fuzz SECONDS.
 */
#include "build.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u32 culprit;
	decode_copy(data, size, &culprit);
	return 0;
}

#ifdef PYRKT_DRIVER
#include <time.h>

static u64 state = 0x9e3779b97f4a7c15;

static u64 dice(u64 below) /* xorshift64*: the same numbers in every run */
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1d >> 11) % below;
}

/* One change: a bit, a byte that is often a border, a length, a piece moved, a piece cut out, the end cut off. */
static void damage(struct build *plan)
{
	static const u8 borders[] = {0, 1, 2, 4, 8, 15, 16, 0x7f, 0x80, 0xff};
	size_t at = dice(plan->size), to = dice(plan->size), count = 1 + dice(32);
	count = at + count > plan->size ? plan->size - at : count;
	switch (dice(7)) {
	case 0:
		plan->bytes[at] ^= (u8)(1 << dice(8));
		break;
	case 1:
		plan->bytes[at] = borders[dice(sizeof borders)];
		break;
	case 2:
		plan->bytes[at] = (u8)dice(256);
		break;
	case 3: /* the total agrees with the size again, so that the steps are looked at */
		for (int i = 0; i < 4; i++)
			plan->bytes[12 + i] = (u8)(plan->size >> 8 * i);
		break;
	case 4:
		if (to + count <= plan->size)
			memmove(plan->bytes + to, plan->bytes + at, count);
		break;
	case 5:
		if (plan->size - count > 16) {
			memmove(plan->bytes + at, plan->bytes + at + count, plan->size - at - count);
			plan->size -= count;
		}
		break;
	default:
		if (at > 16)
			plan->size = at;
	}
}

int main(int argc, char **argv)
{
	static struct build plan;
	long seconds = argc > 1 ? atol(argv[1]) : 15, runs = 0, accepted = 0;
	u32 culprit;
	for (time_t end = time(NULL) + seconds; time(NULL) < end;)
		for (int round = 0; round < 4096; round++, runs++) {
			if (dice(2))
				large_plan(&plan);
			else
				small_plan(&plan);
			for (u64 changes = 1 + dice(6); changes; changes--)
				damage(&plan);
			accepted += decode_copy(plan.bytes, plan.size, &culprit) == 0;
		}
	fprintf(stderr, "stage1 fuzz: %ld plans, %ld accepted\n", runs, accepted);
	return runs == 0;
}
#endif
