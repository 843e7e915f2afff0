#include "memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { ALIGNMENT = 16, PAGE = 4096 };

/* Far from where a kernel puts programs, heaps, libraries and stacks; below 2^38, the least that aarch64 has. */
static const uintptr_t BASE = 0x1000000000;
static const size_t ROOM = 64u << 20;

struct spare {
	struct spare *next;
};

static struct part parts[PARTS];
static struct spare *spare[32]; /* by the power of two that is their size */
static bool recording, exhausted;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *old);
void *__real_mmap64(void *at, size_t size, int protection, int flags, int fd, long offset);
int __real_munmap(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *old);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, long offset);
int __wrap_munmap(void *at, size_t size);

static bool is_ours(const void *pointer)
{
	return (uintptr_t)pointer - BASE < PARTS * ROOM;
}

static void *take(struct part *part, size_t size, size_t alignment)
{
	size = (size + alignment - 1) & ~(alignment - 1);
	if (size > ROOM - part->used) {
		exhausted = true;
		errno = ENOMEM;
		return NULL;
	}
	void *found = (void *)(part->start + part->used);
	part->used += size;
	return found;
}

bool memory_begin(void)
{
	void *room = __real_mmap64((void *)BASE, PARTS * ROOM, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (room != (void *)BASE)
		return false;
	for (int i = 0; i < PARTS; i++)
		parts[i] = (struct part){BASE + (size_t)i * ROOM, 0};
	recording = true;
	return true;
}

bool memory_end(struct part found[PARTS])
{
	recording = false;
	for (int i = 0; i < PARTS; i++)
		found[i] = (struct part){parts[i].start, (parts[i].used + PAGE - 1) & ~(size_t)(PAGE - 1)};
	return !exhausted;
}

/* Sizes are powers of two, so that what is freed fits the next of its kind; the size stands before the block. */
static unsigned kind_of(size_t size)
{
	unsigned kind = 4;
	while (((size_t)1 << kind) < size)
		kind++;
	return kind;
}

static void *block(size_t size)
{
	if (size > ROOM / 2) {
		errno = ENOMEM;
		exhausted = true;
		return NULL;
	}
	unsigned kind = kind_of(size);
	struct spare *found = spare[kind];
	if (found) {
		spare[kind] = found->next;
		return found;
	}
	size_t *made = take(&parts[BLOCKS], ((size_t)1 << kind) + ALIGNMENT, ALIGNMENT);
	if (!made)
		return NULL;
	made[0] = (size_t)1 << kind;
	return (char *)made + ALIGNMENT;
}

static size_t room_of(const void *pointer)
{
	return *(const size_t *)((const char *)pointer - ALIGNMENT);
}

void *__wrap_malloc(size_t size)
{
	return recording ? block(size) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (!recording)
		return __real_calloc(count, size);
	if (size && count > ROOM / size) {
		errno = ENOMEM;
		return NULL;
	}
	void *made = block(count * size);
	return made ? memset(made, 0, count * size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
	if (old && !is_ours(old))
		return __real_realloc(old, size);
	if (old && size <= room_of(old))
		return old;
	void *made = __wrap_malloc(size);
	if (made && old) {
		memcpy(made, old, room_of(old));
		__wrap_free(old);
	}
	return made;
}

/* In a process that began as an image its blocks stay where they are.  What was in a freed one is nobody's business. */
void __wrap_free(void *old)
{
	if (!is_ours(old)) {
		__real_free(old);
	} else if (recording) {
		struct spare *freed = memset(old, 0, room_of(old));
		freed->next = spare[kind_of(room_of(old))];
		spare[kind_of(room_of(old))] = freed;
	}
}

void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, long offset)
{
	if (!recording || at || !(flags & MAP_ANONYMOUS))
		return __real_mmap64(at, size, protection, flags, fd, offset);
	void *found = take(&parts[ARENAS], size, PAGE);
	return found ? found : MAP_FAILED;
}

int __wrap_munmap(void *at, size_t size)
{
	struct part *arenas = &parts[ARENAS];
	if (!is_ours(at))
		return __real_munmap(at, size);
	if (recording) {
		memset(at, 0, size);
		if ((uintptr_t)at + size == arenas->start + arenas->used)
			arenas->used -= size;
	}
	return 0;
}

/* CPython's allocator hands out what was freed before it asks for another arena: so every freed block comes by here. */
void memory_forget(void *(*allocate)(size_t size), void (*release)(void *block), size_t step, size_t largest)
{
	struct spare *taken = NULL;
	uintptr_t end = parts[ARENAS].start + parts[ARENAS].used;
	for (size_t size = step; size <= largest; size += step)
		for (bool more = true; more;) {
			struct spare *made = allocate(size);
			if (!made)
				break;
			memset(made, 0, size);
			more = (uintptr_t)made < end;
			made->next = taken;
			taken = made;
		}
	while (taken) {
		struct spare *next = taken->next;
		taken->next = NULL;
		release(taken);
		taken = next;
	}
}
