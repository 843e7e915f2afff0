/* Where the interpreter's memory lies: at fixed addresses while an image is made, so that the image can be mapped there.
 *
 * Every call of malloc(3) and its like, and of mmap(2), in libpython's objects comes here (ld --wrap); the C library's own
 * do not, so that none of its memory is in an image.
 */
#ifndef PYRKT_MEMORY_H
#define PYRKT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct part {
	uintptr_t start;
	size_t used; /* bytes, whole pages once an image is written */
};

enum { BLOCKS, ARENAS, PARTS };

bool memory_begin(void);                  /* from here on allocations are made at the fixed addresses */
bool memory_end(struct part parts[PARTS]); /* from here on they are not; false if there was not room enough */

/* Overwrites what the freed blocks of CPython's allocator (of sizes that are multiples of step) still hold. */
void memory_forget(void *(*allocate)(size_t size), void (*release)(void *block), size_t step, size_t largest);

#endif
