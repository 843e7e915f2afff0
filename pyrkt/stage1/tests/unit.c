/* The decoder and the strings: each rule, kept and broken. */
#include "../streams.h"
#include "../text.h"
#include "build.h"

#include <time.h>
#include <unistd.h>

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

static void stamps_are_the_librarys(void)
{
	static const i64 moments[] = {0, 59, 86399, 86400, 951782399, 951782400, 1709164800, 1709251199, 1709251200, 1735689599,
				      1767225600, 2147483648, 4102444799, 4107542400, 13574563200};
	char ours[STAMP + 1] = "", theirs[STAMP + 1];
	for (i64 day = 0; day < 200 * 366; day++) {
		time_t moment = day * 86400 + day % 86400;
		log_stamp(ours, moment, day);
		size_t at = strftime(theirs, sizeof theirs, "%Y-%m-%dT%H:%M:%S", gmtime(&moment));
		snprintf(theirs + at, sizeof theirs - at, ".%09ldZ", (long)day);
		CHECK(!strcmp(ours, theirs));
	}
	for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
		time_t moment = moments[i];
		log_stamp(ours, moment, 999999999);
		strftime(theirs, sizeof theirs, "%Y-%m-%dT%H:%M:%S.999999999Z", gmtime(&moment));
		CHECK(!strcmp(ours, theirs));
	}
}

static char content[1 << 16];

static size_t read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	size_t size = file ? fread(content, 1, sizeof content - 1, file) : 0;
	content[size] = 0;
	if (file)
		fclose(file);
	return size;
}

static void lines_are_framed(const char *path)
{
	struct log log = {.path = path, .most = 1 << 20, .files = 2};
	static const u8 bytes[] = "one\n\ntwo\0\r\nrest";
	CHECK(log_open(&log) == 0);
	log_begin("stderr");
	log_add(&log, bytes, 3, true);
	log_add(&log, bytes + 4, 0, true);
	log_add(&log, bytes + 5, 5, true);
	log_add(&log, bytes + 11, 4, false);
	log_end(&log);
	log_end(&log); /* nothing more */
	size_t size = read_file(path);
	CHECK((i64)size == log.size && size == 4 * (STAMP + 11) + 3 + 0 + 5 + 4);
	const char *at = content;
	static const struct {
		const char *tail;
		size_t size;
	} lines[] = {{" stderr F one\n", 14}, {" stderr F \n", 11}, {" stderr F two\0\r\n", 16}, {" stderr P rest\n", 15}};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		CHECK(at[STAMP - 1] == 'Z' && !memcmp(at + STAMP, lines[i].tail, lines[i].size));
		at += STAMP + lines[i].size;
	}
	close((int)log.fd);
}

static void files_are_bounded(const char *path)
{
	static char name[256];
	static const u8 bytes[] = "123456789\n";
	struct log log = {.path = path, .most = 1000, .files = 3};
	CHECK(log_open(&log) == 0);
	for (int round = 0; round < 40; round++) {
		log_begin("stdout");
		for (int line = 0; line < 1 + round % 40; line++)
			log_add(&log, bytes, 9, true);
		log_end(&log);
		CHECK(log.size <= 1000);
	}
	for (int i = 0; i <= 3; i++) {
		snprintf(name, sizeof name, i ? "%s.%d" : "%s", path, i);
		size_t size = read_file(name);
		CHECK(i == 3 ? !size : size > (i ? 900 : 0) && size <= 1000 && content[size - 1] == '\n');
		unlink(name);
	}
	close((int)log.fd);
}

static void what_is_longer_than_a_file_has_one_of_its_own(const char *path)
{
	static u8 bytes[5000];
	struct log log = {.path = path, .most = 100, .files = 1};
	CHECK(log_open(&log) == 0);
	for (int round = 0; round < 3; round++) {
		log_begin("stdout");
		log_add(&log, bytes, 4999, false);
		log_end(&log);
		CHECK(read_file(path) == 4999 + STAMP + 11);
	}
	unlink(path);
	close((int)log.fd);
}

static void what_cannot_be_written_is_counted(const char *path)
{
	static const u8 bytes[] = "a\n";
	struct log log = {.path = path, .most = 1 << 20, .files = 2};
	CHECK(log_open(&log) == 0);
	long good = log.fd, full = open("/dev/full", O_RDWR);
	for (int round = 0; round < 3; round++) {
		log.fd = full;
		log_begin("stdout");
		for (int line = 0; line < 50; line++)
			log_add(&log, bytes, 1, true);
		log_end(&log);
		CHECK(log.lost == 50u * (u32)(round + 1) && log.error == ENOSPC && log.size == 0);
	}
	log.fd = good;
	log_begin("stdout");
	log_add(&log, bytes, 1, true);
	log_end(&log);
	read_file(path);
	CHECK(strstr(content, "Z stderr F:lost 150 28\n"));
	CHECK(strstr(content, "Z stdout F a\n") && !log.lost);
	unlink(path);
	close((int)good);
	close((int)full);
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
	char directory[] = "/tmp/pyrkt-unit-XXXXXX", path[64];
	CHECK(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/log", directory);
	stamps_are_the_librarys();
	lines_are_framed(path);
	unlink(path);
	files_are_bounded(path);
	what_is_longer_than_a_file_has_one_of_its_own(path);
	what_cannot_be_written_is_counted(path);
	CHECK(rmdir(directory) == 0);
	fprintf(stderr, "stage1 unit: %d checks, %d failed\n", checks, failures);
	return failures != 0;
}
