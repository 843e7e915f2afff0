/* The log file of an app: lines of the CRI, files of a bounded size, a bounded number of them. */
#include "streams.h"
#include "text.h"

#include <limits.h>
#include <sys/uio.h>
#include <time.h>

enum { HEAD = STAMP + 1 + 6 + 3, BATCH = 32, PARTS = 3, SECONDS_A_DAY = 86400 };

static struct {
	char whole[HEAD], part[HEAD], note[HEAD + 64]; /* "TIME stdout F ", "TIME stdout P ", "TIME stderr F:lost 3 28\n" */
	struct iovec parts[BATCH * PARTS];
	u32 sizes[BATCH];
	u32 used, lines;
	i64 bytes;
} batch;

static void digits(char *at, u64 number, u32 count)
{
	while (count) {
		at[--count] = (char)('0' + number % 10);
		number /= 10;
	}
}

static bool leaps(u64 year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

void log_stamp(char *into, i64 seconds, i64 nanoseconds)
{
	static const u8 months[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	u64 past = seconds < 0 ? 0 : (u64)seconds, day = past / SECONDS_A_DAY, year = 1970, month = 0;
	past %= SECONDS_A_DAY;
	for (; day >= 365u + leaps(year); year++)
		day -= 365u + leaps(year);
	for (u64 length; day >= (length = months[month] + (month == 1 && leaps(year))); month++)
		day -= length;
	memcpy(into, "0000-00-00T00:00:00.000000000Z", STAMP);
	digits(into, year, 4);
	digits(into + 5, month + 1, 2);
	digits(into + 8, day + 1, 2);
	digits(into + 11, past / 3600, 2);
	digits(into + 14, past / 60 % 60, 2);
	digits(into + 17, past % 60, 2);
	digits(into + 20, (u64)nanoseconds, 9);
}

static long open_file(const struct log *log)
{
	return sys_open(AT_FDCWD, log->path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY, 0600);
}

static i64 size_of(long fd)
{
	struct stat found;
	return sys_stat(fd, &found) < 0 ? 0 : found.st_size;
}

/* A line that somebody could not end must not become the beginning of ours. */
static void end_line(struct log *log)
{
	u8 last = '\n';
	if (log->size)
		sys(__NR_pread64, log->fd, &last, 1, log->size - 1);
	if (last != '\n' && write_all(log->fd, "\n", 1) >= 0)
		log->size++;
}

long log_open(struct log *log)
{
	log->fd = open_file(log);
	if (log->fd < 0)
		return log->fd;
	log->size = size_of(log->fd);
	end_line(log);
	return 0;
}

static void name(char *into, size_t room, const char *path, i64 number)
{
	struct text text = {.start = into, .size = room};
	text_add(&text, path);
	if (number) {
		text_add(&text, ".");
		text_add_number(&text, number);
	}
	if (text.cut)
		*into = 0;
}

/* What cannot be moved is written over or goes on growing: a log is no reason to stop its app. */
static void rotate(struct log *log)
{
	char from[PATH_MAX], to[PATH_MAX];
	for (i64 number = log->files - 1; number > 0; number--) {
		name(from, sizeof from, log->path, number - 1);
		name(to, sizeof to, log->path, number);
		sys(__NR_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	}
	if (log->files <= 1)
		sys(__NR_unlinkat, AT_FDCWD, log->path, 0);
	long fd = open_file(log);
	if (fd < 0)
		return;
	sys_close(log->fd);
	log->fd = fd;
	log->size = size_of(fd);
}

/* Returns how many bytes are written, of less than all with log->error set. */
static i64 write_parts(struct log *log, struct iovec *parts, u32 count)
{
	i64 done = 0;
	while (count) {
		long r = sys(__NR_writev, log->fd, parts, count);
		if (r == -EINTR)
			continue;
		if (r <= 0) {
			log->error = r ? -r : EIO;
			return done;
		}
		done += r;
		for (; count && (size_t)r >= parts->iov_len; parts++, count--)
			r -= (long)parts->iov_len;
		if (count) {
			parts->iov_base = (u8 *)parts->iov_base + r;
			parts->iov_len -= (size_t)r;
		}
	}
	return done;
}

/* Of what was written only whole lines stay.  By the size that the file has: somebody may have cut it meanwhile. */
static void take_back(struct log *log, i64 bytes)
{
	if (bytes)
		sys(__NR_ftruncate, log->fd, size_of(log->fd) - bytes);
}

static bool tell_lost(struct log *log)
{
	struct text text = {.start = batch.note, .size = sizeof batch.note};
	if (!log->lost)
		return true;
	text_add_bytes(&text, batch.whole, STAMP);
	text_add(&text, " stderr F:lost ");
	text_add_number(&text, (i64)log->lost);
	text_add(&text, " ");
	text_add_number(&text, log->error);
	text_add(&text, "\n");
	struct iovec part = {batch.note, text.used};
	i64 done = write_parts(log, &part, 1);
	if (done < (i64)text.used) {
		take_back(log, done);
		return false;
	}
	log->size += done;
	log->lost = 0;
	return true;
}

static void flush(struct log *log)
{
	u32 kept = 0;
	i64 whole = 0;
	if (!batch.lines)
		return;
	if (log->size && log->size + batch.bytes > log->most)
		rotate(log);
	if (tell_lost(log)) {
		i64 done = write_parts(log, batch.parts, batch.used);
		while (kept < batch.lines && whole + batch.sizes[kept] <= done)
			whole += batch.sizes[kept++];
		take_back(log, done - whole);
		log->size += whole;
	}
	log->lost += batch.lines - kept;
	batch.used = batch.lines = 0;
	batch.bytes = 0;
}

void log_begin(const char *stream)
{
	struct timespec now = {0, 0};
	sys(__NR_clock_gettime, CLOCK_REALTIME, &now);
	log_stamp(batch.whole, now.tv_sec, now.tv_nsec);
	batch.whole[STAMP] = ' ';
	memcpy(batch.whole + STAMP + 1, stream, 6);
	memcpy(batch.whole + STAMP + 7, " F ", 3);
	memcpy(batch.part, batch.whole, HEAD);
	batch.part[STAMP + 8] = 'P';
}

static void part(const void *bytes, size_t size)
{
	batch.parts[batch.used++] = (struct iovec){(void *)(uintptr_t)bytes, size};
}

/* A whole line has its end behind it already. */
void log_add(struct log *log, const u8 *text, u32 size, bool whole)
{
	u32 bytes = HEAD + size + 1;
	if (batch.lines == BATCH || (batch.lines && log->size + batch.bytes + bytes > log->most))
		flush(log);
	part(whole ? batch.whole : batch.part, HEAD);
	part(text, size + whole);
	if (!whole)
		part("\n", 1);
	batch.sizes[batch.lines++] = bytes;
	batch.bytes += bytes;
}

void log_end(struct log *log)
{
	flush(log);
}
