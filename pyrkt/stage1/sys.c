/* What a C library would bring: the first instruction, five functions on memory, and their fortified forms. */
#include "sys.h"

long read_all(long fd, void *into, size_t size)
{
	size_t have = 0;
	while (have < size) {
		long r = sys(__NR_read, fd, (u8 *)into + have, size - have);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		if (r == 0)
			break;
		have += (size_t)r;
	}
	return (long)have;
}

long write_all(long fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		long r = sys(__NR_write, fd, (const u8 *)data + done, size - done);
		if (r == -EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? r : -EIO;
		done += (size_t)r;
	}
	return 0;
}

_Noreturn void sys_exit(int code)
{
	for (;;)
		sys(__NR_exit_group, code);
}

#ifndef PYRKT_HOSTED /* the sanitizers need the C library; everybody else does without */
#undef memcpy
#undef memset
#undef memcmp
#undef strlen
#undef strcmp

int main(int argc, char **argv, char **envp);

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tand sp, x0, #-16\n\tbl begin\n\tbrk #1\n");
#endif

uintptr_t __stack_chk_guard;

__attribute__((used, noreturn)) void __stack_chk_fail(void)
{
	__builtin_trap();
}

/* The stack at the start of a process: argc, argv, NULL, environment, NULL, auxiliary vector. */
__attribute__((used, noreturn, no_stack_protector)) void begin(long *stack)
{
	char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1, **end = envp;
	while (*end)
		end++;
	for (const u64 *aux = (const u64 *)(end + 1); aux[0]; aux += 2)
		if (aux[0] == 25) /* AT_RANDOM */
			__stack_chk_guard = *(const uintptr_t *)aux[1];
	sys_exit(main((int)stack[0], argv, envp));
}

__attribute__((used)) void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((u8 *)to)[i] = ((const u8 *)from)[i];
	return to;
}

__attribute__((used)) void *memset(void *to, int byte, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((u8 *)to)[i] = (u8)byte;
	return to;
}

__attribute__((used)) int memcmp(const void *one, const void *two, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (((const u8 *)one)[i] != ((const u8 *)two)[i])
			return ((const u8 *)one)[i] - ((const u8 *)two)[i];
	return 0;
}

__attribute__((used)) size_t strlen(const char *text)
{
	size_t length = 0;
	while (text[length])
		length++;
	return length;
}

__attribute__((used)) int strcmp(const char *one, const char *two)
{
	while (*one && *one == *two)
		one++, two++;
	return (u8)*one - (u8)*two;
}

/* what _FORTIFY_SOURCE=2 calls where it knows the size of the target and not the length */
__attribute__((used)) void *__memcpy_chk(void *restrict to, const void *restrict from, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return memcpy(to, from, size);
}

__attribute__((used)) void *__memset_chk(void *to, int byte, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return memset(to, byte, size);
}
#endif
