/* System calls without a C library: results are >= 0 or -errno.
 *
 * stage1 is linked without one: 40 KiB instead of 760 KiB in every container's page tables and in every sealed copy,
 * no locale, no lazy binding, no allocator that a child of clone(2) could meet in an odd state.  The library's headers
 * still give the types, and its fortified functions are defined in sys.c.
 */
#ifndef PYRKT_SYS_H
#define PYRKT_SYS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

#if defined(__x86_64__)
static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}
#else
#error "pyrkt runs on x86_64 and aarch64; a further architecture needs call6 here and _start in sys.c"
#endif

/* sys(__NR_dup3, from, to, 0): pads to six arguments and makes words of pointers */
#define sys(...) sys_padded(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define sys_padded(number, a, b, c, d, e, f, ...)                                                                      \
	call6((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline long sys_open(long directory, const char *path, u64 flags, u32 mode)
{
	return sys(__NR_openat, directory, path, flags | O_CLOEXEC, mode);
}

/* Closes what is open, and only that; close(2) is never repeated. */
static inline void sys_close(long fd)
{
	if (fd >= 0)
		sys(__NR_close, fd);
}

static inline long sys_stat(long fd, struct stat *into)
{
	return sys(__NR_newfstatat, fd, "", into, AT_EMPTY_PATH);
}

long read_all(long fd, void *into, size_t size); /* up to size bytes, or to the end of the file */
long write_all(long fd, const void *data, size_t size);
_Noreturn void sys_exit(int code);

#endif
