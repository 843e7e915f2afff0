#include "image.h"

#include "memory.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#if defined(__x86_64__)
#define COPY_RELOCATION R_X86_64_COPY
#elif defined(__aarch64__)
#define COPY_RELOCATION R_AARCH64_COPY
#else
#error "the interpreter's image knows x86_64 and aarch64"
#endif

enum { PAGE = 4096, MAGIC = 0x31474d49, BUILD_ID = 20, MOST_COPIED = 4096, MOST_SOURCES = 1 << 20 };

struct head {
	uint32_t magic, sources, sources_size, key_size;
	uint8_t build[BUILD_ID];
	uint32_t padding;
	uint64_t variables, variables_size;
	struct part parts[PARTS];
};

struct row { /* of a source; the path, with its NUL, follows */
	int64_t modified_ns, size;
	uint32_t length, padding;
};

extern char data_start[], _end[]; /* of the linker: this program's variables, set at the start or not */

static uintptr_t pages_up(uintptr_t address)
{
	return (address + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
}

static uintptr_t pages_down(uintptr_t address)
{
	return address & ~(uintptr_t)(PAGE - 1);
}

static bool note_of(const char *at, size_t size, uint8_t build[BUILD_ID])
{
	const ElfW(Nhdr) *note = (const void *)at;
	if (size < sizeof *note + 4 + BUILD_ID || note->n_type != NT_GNU_BUILD_ID || note->n_descsz != BUILD_ID)
		return false;
	memcpy(build, at + sizeof *note + ((note->n_namesz + 3) & ~3u), BUILD_ID);
	return true;
}

/* A hash of the whole program, from the linker (--build-id). */
static bool build_id(uint8_t build[BUILD_ID])
{
	const ElfW(Phdr) *at = (const void *)getauxval(AT_PHDR);
	for (unsigned long left = getauxval(AT_PHNUM); left; left--, at++)
		for (size_t offset = 0; at->p_type == PT_NOTE && offset + sizeof(ElfW(Nhdr)) < at->p_memsz;) {
			const char *note = (const char *)at->p_vaddr + offset;
			const ElfW(Nhdr) *head = (const void *)note;
			if (note_of(note, at->p_memsz - offset, build))
				return true;
			offset += sizeof *head + ((head->n_namesz + 3) & ~3u) + ((head->n_descsz + 3) & ~3u);
		}
	return false;
}

/* Variables of the C library that the linker has put among ours (environ, stdout): they are this process' own.
 * into: their bytes are kept there; otherwise they are put back. */
static bool copied_variables(char *kept, bool into)
{
	const ElfW(Rela) *at = NULL;
	const ElfW(Sym) *symbols = NULL;
	size_t size = 0, used = 0;
	for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_RELA)
			at = (const void *)entry->d_un.d_ptr;
		else if (entry->d_tag == DT_RELASZ)
			size = entry->d_un.d_val;
		else if (entry->d_tag == DT_SYMTAB)
			symbols = (const void *)entry->d_un.d_ptr;
	}
	for (; at && symbols && size >= sizeof *at; size -= sizeof *at, at++) {
		if (ELF64_R_TYPE(at->r_info) != COPY_RELOCATION)
			continue;
		size_t length = symbols[ELF64_R_SYM(at->r_info)].st_size;
		if (length > MOST_COPIED - used)
			return false;
		if (into)
			memcpy(kept + used, (const void *)at->r_offset, length);
		else
			memcpy((void *)at->r_offset, kept + used, length);
		used += length;
	}
	return true;
}

static bool read_at(int fd, void *into, size_t size, off_t offset)
{
	return pread(fd, into, size, offset) == (ssize_t)size;
}

/* What others could have written must not become our memory. */
static bool is_trusted(int fd, off_t *size)
{
	struct stat image, program;
	if (fstat(fd, &image) < 0 || stat("/proc/self/exe", &program) < 0)
		return false;
	*size = image.st_size;
	return S_ISREG(image.st_mode) && (image.st_uid == 0 || image.st_uid == program.st_uid) && !(image.st_mode & 022);
}

static bool sources_are_fresh(const char *rows, const struct head *head, const char *place)
{
	struct stat found;
	const char *end = rows + head->sources_size;
	bool fresh = true;
	int directory = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (uint32_t i = 0; fresh && i < head->sources; i++) {
		struct row row;
		fresh = (size_t)(end - rows) >= sizeof row;
		if (!fresh)
			break;
		memcpy(&row, rows, sizeof row);
		rows += sizeof row;
		fresh = row.length && (size_t)(end - rows) >= row.length && !rows[row.length - 1] &&
			fstatat(directory, rows, &found, 0) == 0 && found.st_size == row.size &&
			found.st_mtim.tv_sec * 1000000000ll + found.st_mtim.tv_nsec == row.modified_ns;
		rows += row.length;
	}
	close(directory);
	return fresh;
}

static off_t first_part(const struct head *head)
{
	return (off_t)pages_up(sizeof *head + head->key_size + head->sources_size);
}

/* A page behind the end of the file would be there, and kill who touches it. */
static bool is_whole(const struct head *head, off_t size)
{
	off_t wanted = first_part(head) + (off_t)(pages_up((uintptr_t)_end) - pages_down((uintptr_t)data_start));
	for (int i = 0; i < PARTS; i++)
		wanted += (off_t)head->parts[i].used;
	return size == wanted;
}

static bool map_at(int fd, uintptr_t start, size_t size, off_t offset, int flags)
{
	if (!size)
		return true;
	void *found = mmap((void *)start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | flags, fd, offset);
	return found == (void *)start;
}

/* The page in which our variables begin holds what the dynamic linker has filled in, too. */
static bool replace_variables(int fd, off_t offset)
{
	char copied[MOST_COPIED];
	uintptr_t start = (uintptr_t)data_start, first = pages_down(start), whole = pages_up(start);
	return copied_variables(copied, true) && read_at(fd, data_start, whole - start, offset + (off_t)(start - first)) &&
	       map_at(fd, whole, pages_up((uintptr_t)_end) - whole, offset + (off_t)(whole - first), MAP_FIXED) &&
	       copied_variables(copied, false);
}

static bool head_is_good(int fd, struct head *head, const char *key, char *rows)
{
	uint8_t build[BUILD_ID];
	char known[2 * PATH_MAX];
	return read_at(fd, head, sizeof *head, 0) && head->magic == MAGIC && build_id(build) &&
	       !memcmp(build, head->build, BUILD_ID) && head->variables == (uintptr_t)data_start &&
	       head->variables_size == (uintptr_t)(_end - data_start) && head->key_size == strlen(key) + 1 &&
	       head->key_size <= sizeof known && head->sources_size <= MOST_SOURCES &&
	       read_at(fd, known, head->key_size, sizeof *head) && !memcmp(known, key, head->key_size) &&
	       read_at(fd, rows, head->sources_size, (off_t)sizeof *head + head->key_size);
}

static bool map_image(int fd, const struct head *head)
{
	off_t offset = first_part(head);
	for (int i = 0; i < PARTS; i++) {
		if (!map_at(fd, head->parts[i].start, head->parts[i].used, offset, MAP_FIXED_NOREPLACE))
			return false;
		offset += (off_t)head->parts[i].used;
	}
	return replace_variables(fd, offset);
}

enum image image_load(const char *path, const char *place, const char *key)
{
	if (sysconf(_SC_PAGESIZE) != PAGE)
		return IMAGE_IN_THE_WAY;
	struct head head;
	off_t size;
	char *rows = malloc(MOST_SOURCES);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool good = rows && fd >= 0 && is_trusted(fd, &size) && head_is_good(fd, &head, key, rows) &&
		    is_whole(&head, size) && sources_are_fresh(rows, &head, place);
	free(rows); /* before the allocator's variables are the image's */
	enum image found = !good ? IMAGE_NONE : map_image(fd, &head) ? IMAGE_LOADED : IMAGE_IN_THE_WAY;
	if (fd >= 0)
		close(fd);
	return found;
}

static bool write_whole(FILE *file, const void *data, size_t size)
{
	return !size || fwrite(data, size, 1, file) == 1;
}

static bool pad(FILE *file)
{
	static const char nothing[PAGE];
	long at = ftell(file);
	return at >= 0 && write_whole(file, nothing, pages_up((uintptr_t)at) - (uintptr_t)at);
}

static bool write_head(FILE *file, struct head *head, const char *key, const struct source *sources)
{
	head->magic = MAGIC;
	head->key_size = (uint32_t)strlen(key) + 1;
	head->variables = (uintptr_t)data_start;
	head->variables_size = (uintptr_t)(_end - data_start);
	for (uint32_t i = 0; i < head->sources; i++)
		head->sources_size += (uint32_t)(sizeof(struct row) + strlen(sources[i].path) + 1);
	if (!build_id(head->build) || head->sources_size > MOST_SOURCES || !write_whole(file, head, sizeof *head) ||
	    !write_whole(file, key, head->key_size))
		return false;
	for (uint32_t i = 0; i < head->sources; i++) {
		struct row row = {sources[i].modified_ns, sources[i].size, (uint32_t)strlen(sources[i].path) + 1, 0};
		if (!write_whole(file, &row, sizeof row) || !write_whole(file, sources[i].path, row.length))
			return false;
	}
	return pad(file);
}

static bool write_image(FILE *file, const char *key, const struct source *sources, uint32_t count)
{
	struct head head = {.sources = count};
	/* from here to the end of the variables nothing may be allocated that the image would have to know of */
	if (!memory_end(head.parts) || !write_head(file, &head, key, sources))
		return false;
	for (int i = 0; i < PARTS; i++)
		if (!write_whole(file, (const void *)head.parts[i].start, head.parts[i].used))
			return false;
	uintptr_t start = pages_down((uintptr_t)data_start);
	return write_whole(file, (const void *)start, pages_up((uintptr_t)_end) - start) && fflush(file) == 0 &&
	       fdatasync(fileno(file)) == 0;
}

/* Without a name until it is whole, where the file system can: a process that is killed leaves nothing. */
static int open_new(const char *path, const char *name, bool *named)
{
	char directory[PATH_MAX];
	snprintf(directory, sizeof directory, "%s", path);
	*strrchr(directory, '/') = 0;
	int fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
	*named = fd < 0;
	return fd < 0 ? open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644) : fd;
}

static bool give_name(int fd, const char *name)
{
	char open_file[40];
	snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, open_file, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
}

/* Others who start at the same moment write files of their own; the last one stays. */
bool image_save(const char *path, const char *key, const struct source *sources, uint32_t count)
{
	char name[PATH_MAX];
	bool named;
	if (snprintf(name, sizeof name, "%s.%d", path, (int)getpid()) >= (int)sizeof name)
		return false;
	unlink(name); /* of a process that had this number, and was killed */
	int fd = open_new(path, name, &named);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	bool good = file && fchmod(fd, 0644) == 0 && write_image(file, key, sources, count) &&
		    (named || give_name(fd, name));
	if (file && fclose(file) != 0)
		good = false;
	if (good && rename(name, path) == 0)
		return true;
	unlink(name);
	return false;
}
