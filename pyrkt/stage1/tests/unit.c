/* The decoder and the strings: each rule, kept and broken. */
#include "../text.h"
#include "build.h"

static int checks, failures;

#define CHECK(what)                                                                                                    \
	do {                                                                                                           \
		checks++;                                                                                              \
		if (!(what)) {                                                                                         \
			failures++;                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                     \
		}                                                                                                      \
	} while (0)

static u32 culprit;

static bool good(const struct build *plan)
{
	return decode_copy(plan->bytes, plan->size, &culprit) == 0;
}

static void whole_plans_pass(void)
{
	static struct build plan;
	small_plan(&plan);
	CHECK(good(&plan));
	large_plan(&plan);
	CHECK(good(&plan));
	/* what stands behind the plan, the causes, is nobody's business here */
	memcpy(plan.bytes + plan.size, "cause", 6);
	plan.size += 6;
	CHECK(good(&plan));
}

static void values_are_read_back(void)
{
	static struct build build;
	struct step steps[2];
	struct plan plan = {.steps = steps};
	const char *words[8];
	begin_plan(&build);
	add(&build, STEP_CLONE, BEFORE, "ii", (i64)INT64_MIN, (i64)-2);
	add_exec(&build, CHILD);
	end_plan(&build);
	CHECK(plan_decode(build.bytes, build.size, &plan, &culprit) == 0);
	CHECK(plan.count == 2 && plan.longest_list == 2);
	CHECK(step_number(&steps[0], 0) == INT64_MIN && step_number(&steps[0], 1) == -2);
	CHECK(!strcmp(step_text(&steps[1], 0), "/bin/true"));
	CHECK(step_list(&steps[1], 1, words) == 2 && !strcmp(words[0], "true") && !strcmp(words[1], "-x") && !words[2]);
	CHECK(step_list(&steps[1], 2, words) == 1 && !strcmp(words[0], "A=b") && !words[1]);
}

static void every_cut_is_refused(void)
{
	static struct build plan;
	large_plan(&plan);
	for (size_t size = 0; size < plan.size; size++)
		CHECK(decode_copy(plan.bytes, size, &culprit) < 0);
}

static void headers_are_checked(void)
{
	static struct build plan;
	static const struct {
		size_t at;
		u8 value;
	} faults[] = {{0, 'Q'}, {4, 2}, {5, 1}, {6, 1}, {8, 0}, {8, 3}, {8, 1}, {11, 0xff}, {12, 0}, {12, 15}, {15, 0xff}};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		small_plan(&plan);
		plan.bytes[faults[i].at] = faults[i].value;
		CHECK(!good(&plan));
	}
}

static void refuses(u16 code, u8 phase, const char *kinds, const char *text, size_t size)
{
	static struct build plan;
	begin_plan(&plan);
	add_clone(&plan);
	add(&plan, code, phase, kinds, text, size);
	add_exec(&plan, CHILD);
	end_plan(&plan);
	CHECK(!good(&plan));
	CHECK(culprit == 1);
}

static void steps_are_checked(void)
{
	refuses(0, CHILD, "", NULL, 0);
	refuses(11, CHILD, "", NULL, 0);
	refuses(CODES, CHILD, "", NULL, 0);
	refuses(0xffff, CHILD, "", NULL, 0);
	refuses(STEP_SETSID, BEFORE, "", NULL, 0); /* wrong phase */
	refuses(STEP_SETSID, PHASES, "", NULL, 0);
	refuses(STEP_SETSID, 255, "", NULL, 0);
	refuses(STEP_SETSID, CHILD, "b", "", 0);      /* too many arguments */
	refuses(STEP_HOSTNAME, CHILD, "", NULL, 0);   /* too few */
	refuses(STEP_HOSTNAME, CHILD, "b", "x", 1);   /* no NUL */
	refuses(STEP_HOSTNAME, CHILD, "b", "", 0);    /* not even that */
	refuses(STEP_HOSTNAME, CHILD, "b", "a\0b", 4); /* two */
	refuses(STEP_UMASK, CHILD, "b", "\0\0\0\0", 4);
	refuses(STEP_UMASK, CHILD, "b", "\0\0\0\0\0\0\0\0\0", 9);
	refuses(STEP_CLONE, BEFORE, "b", "", 0);
}

static void lists_end_with_nul(void)
{
	static struct build plan;
	begin_plan(&plan);
	add_clone(&plan);
	add(&plan, STEP_EXEC, CHILD, "sll", "/x", "a\0b", (size_t)3, "", (size_t)0);
	end_plan(&plan);
	CHECK(!good(&plan));
}

static void lengths_cannot_overflow(void)
{
	static struct build plan;
	for (int byte = 0; byte < 4; byte++)
		for (u32 argument = 0; argument < 3; argument++) {
			small_plan(&plan);
			/* header, CLONE's 4 + 8 + 16 bytes, EXEC's 4, then its lengths */
			plan.bytes[16 + 28 + 4 + argument * 4 + (u32)byte] ^= 0xff;
			CHECK(!good(&plan));
		}
}

static bool order(const char *words)
{
	static struct build plan;
	begin_plan(&plan);
	for (; *words; words++)
		switch (*words) {
		case 'L':
			add_clone(&plan);
			break;
		case 'F':
			add(&plan, STEP_ON_FAILURE, BEFORE, "l", "x\0", (size_t)2);
			break;
		case 's':
			add(&plan, STEP_SETSID, CHILD, "");
			break;
		case 'm':
			add(&plan, STEP_MEET, CHILD, "");
			break;
		case 'M':
			add(&plan, STEP_MEET, PARENT, "");
			break;
		case 'X':
			add_exec(&plan, CHILD);
			break;
		case 'I':
			add(&plan, STEP_INIT, CHILD, "");
			break;
		case 'P':
			add(&plan, STEP_POD, BEFORE, "ssii", "", "", (i64)0, (i64)0);
			break;
		case 'A':
			add(&plan, STEP_POD_APP, BEFORE, "siiib", "n", (i64)-1, (i64)-1, (i64)-1, "", (size_t)0);
			break;
		}
	end_plan(&plan);
	return good(&plan);
}

static void processes_end_in_exec_or_init(void)
{
	static const char *const right[] = {"LX", "FLsX", "XL", "PLI", "PALsI", "LIPAA", "LMmX"};
	static const char *const wrong[] = {"X",   "L",   "LLX",  "FFLX", "Ls",  "LXs", "LXX", "LI",    "LAI", "LAX",
					    "PLX", "PPLI", "PLIs", "PLIX", "PLs", "PI",  "LMX", "LmX", "LMMmX"};
	for (size_t i = 0; i < sizeof right / sizeof *right; i++)
		CHECK(order(right[i]));
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		CHECK(!order(wrong[i]));
}

static void apps_are_counted(void)
{
	static char words[MAX_APPS + 8];
	for (int count = MAX_APPS; count <= MAX_APPS + 1; count++) {
		char *at = words;
		*at++ = 'P';
		*at++ = 'L';
		for (int i = 0; i < count; i++)
			*at++ = 'A';
		*at++ = 'I';
		*at = 0;
		CHECK(order(words) == (count <= MAX_APPS));
	}
}

static void text_stays_in_its_room(void)
{
	char room[8] = "";
	struct text text = TEXT(room);
	text_add(&text, "abcd");
	text_add_number(&text, -12);
	CHECK(!strcmp(room, "abcd-12") && !text.cut && text.used == 7);
	text_add(&text, "x");
	CHECK(text.cut && !strcmp(room, "abcd-12"));
	text_add(&text, "");
	CHECK(text.cut);
}

static void numbers_are_written_and_read(void)
{
	static const i64 numbers[] = {0, 7, 10, 4294967296, INT64_MAX};
	char room[24];
	i64 back;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		struct text text = TEXT(room);
		char expected[32];
		text_add_number(&text, numbers[i]);
		snprintf(expected, sizeof expected, "%lld", (long long)numbers[i]);
		CHECK(!strcmp(room, expected));
		if (numbers[i] < INT64_MAX)
			CHECK(text_number(room, &back) && back == numbers[i]);
	}
	struct text text = TEXT(room);
	text_add_number(&text, INT64_MIN);
	CHECK(!strcmp(room, "-9223372036854775808"));
	static const char *const wrong[] = {"", " 1", "1 ", "-1", "+1", "0x1", "1_0", "99999999999999999999"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		CHECK(!text_number(wrong[i], &back));
}

static void small_helpers(void)
{
	CHECK(!strcmp(text_base("/a/b"), "b") && !strcmp(text_base("b"), "b") && !*text_base("/a/"));
	CHECK(text_starts("PATH=/bin", "PATH=") && !text_starts("PAT", "PATH=") && text_starts("x", ""));
}

int main(void)
{
	whole_plans_pass();
	values_are_read_back();
	every_cut_is_refused();
	headers_are_checked();
	steps_are_checked();
	lists_end_with_nul();
	lengths_cannot_overflow();
	processes_end_in_exec_or_init();
	apps_are_counted();
	text_stays_in_its_room();
	numbers_are_written_and_read();
	small_helpers();
	fprintf(stderr, "stage1 unit: %d checks, %d failed\n", checks, failures);
	return failures != 0;
}
