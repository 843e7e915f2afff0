/* Strings built in a buffer of fixed size, and numbers in them. */
#include "text.h"

void text_add_bytes(struct text *text, const void *bytes, size_t size)
{
	if (text->cut || size >= text->size - text->used) {
		text->cut = true;
		return;
	}
	memcpy(text->start + text->used, bytes, size);
	text->used += size;
	text->start[text->used] = 0;
}

void text_add(struct text *text, const char *more)
{
	text_add_bytes(text, more, strlen(more));
}

void text_add_number(struct text *text, i64 number)
{
	char digits[24];
	size_t at = sizeof digits;
	u64 rest = number < 0 ? -(u64)number : (u64)number;
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (number < 0)
		digits[--at] = '-';
	text_add_bytes(text, digits + at, sizeof digits - at);
}

bool text_number(const char *text, i64 *number)
{
	i64 sum = 0;
	const char *at = text;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (sum > (INT64_MAX - 9) / 10)
			return false;
		sum = sum * 10 + (*at - '0');
	}
	*number = sum;
	return at != text && !*at;
}

const char *text_base(const char *path)
{
	const char *base = path;
	for (; *path; path++)
		if (*path == '/')
			base = path + 1;
	return base;
}

bool text_starts(const char *text, const char *with)
{
	while (*with && *text == *with)
		text++, with++;
	return !*with;
}
