/* HOME, for a program that was given none: as the container's own /etc/passwd has it, which the image made. */
#include "stage1.h"
#include "text.h"

#include <limits.h>

enum { LONGEST_FILE = 1 << 20, UID = 2, HOME = 5 };

static char home[PATH_MAX + 8];

const char *home_variable(void)
{
	return *home ? home : NULL;
}

struct line {
	int field;
	i64 uid; /* -1: not a number */
	struct text directory;
};

static void begin(struct line *line, char *room, size_t size)
{
	line->field = 0;
	line->uid = -1;
	line->directory = (struct text){.start = room, .size = size};
	*room = 0;
}

static void take(struct line *line, char c)
{
	if (c == ':')
		line->field++;
	else if (line->field == UID)
		line->uid = c < '0' || c > '9' || line->uid > UINT_MAX ? (i64)UINT_MAX + 1
								       : (line->uid < 0 ? 0 : line->uid) * 10 + (c - '0');
	else if (line->field == HOME)
		text_add_bytes(&line->directory, &c, 1);
}

/* The first line of the user decides, as with getpwuid(3). */
static bool look_up(long fd, i64 uid, char *directory, size_t size)
{
	char chunk[4096];
	struct line line;
	begin(&line, directory, size);
	long got;
	for (size_t total = 0; total < LONGEST_FILE; total += (size_t)got) {
		got = sys(__NR_read, fd, chunk, sizeof chunk);
		if (got <= 0)
			break;
		for (long i = 0; i < got; i++) {
			if (chunk[i] != '\n') {
				take(&line, chunk[i]);
				continue;
			}
			if (line.uid == uid && line.field >= HOME && !line.directory.cut)
				return *directory == '/';
			begin(&line, directory, size);
		}
	}
	return line.uid == uid && line.field >= HOME && !line.directory.cut && *directory == '/';
}

long step_HOME(const struct step *step)
{
	static char directory[PATH_MAX];
	struct stat found;
	struct text text = TEXT(home);
	long fd = in_root("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	bool known = fd >= 0 && sys_stat(fd, &found) >= 0 && S_ISREG(found.st_mode) &&
		     look_up(fd, step_number(step, 0), directory, sizeof directory);
	if (fd >= 0)
		sys_close(fd);
	text_add(&text, "HOME=");
	text_add(&text, known ? directory : "/");
	return 0;
}
