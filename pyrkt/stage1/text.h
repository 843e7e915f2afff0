/* Strings built in a buffer of fixed size, and numbers in them. */
#ifndef PYRKT_TEXT_H
#define PYRKT_TEXT_H

#include "sys.h"

struct text {
	char *start;
	size_t size, used; /* room in bytes; bytes written without the NUL */
	bool cut;          /* something did not fit: the text must not be used */
};

#define TEXT(buffer) ((struct text){.start = (buffer), .size = sizeof(buffer)})

void text_add(struct text *text, const char *more);
void text_add_bytes(struct text *text, const void *bytes, size_t size);
void text_add_number(struct text *text, i64 number);
bool text_number(const char *text, i64 *number); /* decimal digits only, all of them */
const char *text_base(const char *path);         /* what follows the last slash */
bool text_starts(const char *text, const char *with);

#endif
