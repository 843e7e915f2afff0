/* pyrkt and pyrkt-oci: executes "python3 -I -S entry.py ARGUMENTS" of the package that was installed beside it.
 *
 * A script cannot carry those flags, and with them the interpreter starts in 6 ms instead of 20: no site, no user
 * directories, no PYTHON* variables.  Everything is found from where this program lies, DIR/bin:
 *
 *   package      DIR/lib/pythonX.Y/{site,dist}-packages/pyrkt, or below lib64
 *   interpreter  DIR/bin/pythonX.Y, DIR/bin/python3, /usr/bin/pythonX.Y, /usr/local/bin/pythonX.Y
 *
 * Where the package has an interpreter of its own, pyrkt-oci is started by that, without a world to make
 * (interpreter/main.c), and it executes the other one should it not be able to.
 *
 * What needs no decision, and so no interpreter, is done here (quick.c).
 */
#include "quick.h"
#include "sys.h"
#include "text.h"

#include <limits.h>
#include <sys/mman.h>

enum { NOT_FOUND = 127, ENTRIES = 512, EXECUTABLE = 1 /* X_OK */, FIRST_WORDS = 9 };

struct entry { /* struct linux_dirent64 */
	u64 inode;
	i64 offset;
	u16 size;
	u8 type;
	char name[];
};

struct program {
	const char *below, *cached; /* the package: what to run, and the directory and name of its compiled form */
};

static const struct program programs[] = {
	{"/pyrkt/cli/entry.py", NULL}, /* finds itself by __file__, which a compiled script changes */
	{"/pyrkt/runtime/entry.py", "/pyrkt/runtime/__pycache__/entry.cpython-"},
};

static char directory[PATH_MAX], packages[PATH_MAX], version[16], script[PATH_MAX], python[PATH_MAX];
static char called[PATH_MAX]; /* the first argument if the caller knows us by another name: help and errors begin with it */

static void join(char *into, const char *first, const char *second, const char *third)
{
	struct text text = {.start = into, .size = PATH_MAX};
	text_add(&text, first);
	text_add(&text, second);
	text_add(&text, third);
	if (text.cut)
		into[0] = 0; /* no file has that name */
}

static bool is_there(const char *path, int mode)
{
	return sys(__NR_faccessat, AT_FDCWD, path, mode) == 0;
}

/* DIR of DIR/bin/NAME, following links; argv[0] serves where there is no /proc */
static void find_directory(const char *called)
{
	long size = sys(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", directory, sizeof directory - 1);
	if (size < 0) {
		join(directory, called, "", "");
		size = (long)strlen(directory);
	}
	directory[size] = 0;
	for (int parts = 0; parts < 2; parts++) {
		while (size > 0 && directory[size - 1] != '/')
			size--;
		while (size > 0 && directory[size - 1] == '/')
			size--;
		directory[size] = 0;
	}
}

static bool holds_package(const char *lib, const char *name, const char *below)
{
	static const char *const kinds[] = {"/site-packages", "/dist-packages"};
	char base[PATH_MAX];
	join(base, lib, "/", name);
	for (int i = 0; i < 2; i++) {
		join(packages, base, kinds[i], "");
		join(script, packages, below, "");
		if (is_there(script, 0)) {
			struct text text = TEXT(version);
			text_add(&text, name + strlen("python"));
			return !text.cut;
		}
	}
	return false;
}

static bool find_package(const char *library, const char *below)
{
	char lib[PATH_MAX];
	u64 buffer[ENTRIES];
	bool found = false;
	join(lib, directory, library, "");
	long fd = sys_open(AT_FDCWD, lib, O_RDONLY | O_DIRECTORY, 0), size;
	if (fd < 0)
		return false;
	while (!found && (size = sys(__NR_getdents64, fd, buffer, sizeof buffer)) > 0)
		for (const u8 *at = (const u8 *)buffer; !found && at < (const u8 *)buffer + size;) {
			const struct entry *entry = (const void *)at;
			at += entry->size;
			found = text_starts(entry->name, "python3.") && holds_package(lib, entry->name, below);
		}
	sys_close(fd);
	return found;
}

static bool find_python(void)
{
	static const char *const places[] = {"/usr/bin/python", "/usr/local/bin/python"};
	join(python, directory, "/bin/python", version);
	if (is_there(python, EXECUTABLE))
		return true;
	join(python, directory, "/bin/python3", "");
	if (is_there(python, EXECUTABLE))
		return true;
	for (int i = 0; i < 2; i++) {
		join(python, places[i], version, "");
		if (is_there(python, EXECUTABLE))
			return true;
	}
	return false;
}

static u32 word(const u8 *at)
{
	return (u32)at[0] | (u32)at[1] << 8 | (u32)at[2] << 16 | (u32)at[3] << 24;
}

/* PEP 552: a compiled file says of which source it is by time and size, or (flags 1) that nobody needs to look. */
static bool is_fresh(const char *compiled)
{
	u8 head[16];
	struct stat source;
	long fd = sys_open(AT_FDCWD, compiled, O_RDONLY, 0);
	if (fd < 0)
		return false;
	long size = read_all(fd, head, sizeof head);
	sys_close(fd);
	if (size != sizeof head)
		return false;
	if (word(head + 4))
		return word(head + 4) == 1;
	return sys(__NR_newfstatat, AT_FDCWD, script, &source, 0) >= 0 && word(head + 8) == (u32)source.st_mtim.tv_sec &&
	       word(head + 12) == (u32)source.st_size;
}

static void prefer_compiled(const char *cached)
{
	char digits[16], compiled[PATH_MAX], path[PATH_MAX];
	size_t count = 0;
	for (const char *at = version; *at; at++) /* "3.11" is "311" there */
		if (*at != '.')
			digits[count++] = *at;
	digits[count] = 0;
	join(path, packages, cached, digits);
	join(compiled, path, ".pyc", "");
	if (is_fresh(compiled))
		memcpy(script, compiled, sizeof script);
}

static void *room(size_t size)
{
	void *found = (void *)sys(__NR_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return (uintptr_t)found > -4096ul ? NULL : found;
}

/* What the caller's Python was told is not for ours; and without a locale to load it starts 0.3 ms sooner. */
static const char **environment_for(char **given, bool plain_locale)
{
	size_t count = 0;
	while (given[count])
		count++;
	const char **made = room((count + 2) * sizeof *made), **to = made;
	if (!made)
		return NULL;
	for (char **from = given; *from; from++)
		if (!text_starts(*from, "PYTHON") && !(plain_locale && text_starts(*from, "LC_ALL=")))
			*to++ = *from;
	if (plain_locale)
		*to++ = "LC_ALL=C";
	*to = NULL;
	return made;
}

static int fail(const char *what)
{
	static const char head[] = "pyrkt: ", hint[] = "\n  hint: install pyrkt again\n";
	write_all(2, head, sizeof head - 1);
	write_all(2, what, strlen(what));
	write_all(2, hint, sizeof hint - 1);
	return NOT_FOUND;
}

static void become(const char *path, u32 count, int argc, char **argv, const char **words, const char **environment)
{
	if (*called)
		words[count++] = called;
	for (int i = 1; i < argc; i++)
		words[count++] = argv[i];
	words[count] = NULL;
	sys(__NR_execve, path, words, environment);
}

static void become_own(int argc, char **argv, const char **words, const char **environment)
{
	char path[PATH_MAX];
	u32 count = 0;
	join(path, packages, "/pyrkt/runtime/interpreter-", version);
	words[count++] = path;
	words[count++] = python;
	words[count++] = packages;
	words[count++] = script;
	become(path, count, argc, argv, words, environment);
}

/* What Python compiles it keeps in directories made with our mask: nobody else may put a module of theirs there. */
static bool others_could_write(void)
{
	long mask = sys(__NR_umask, 022);
	sys(__NR_umask, mask);
	return (mask & 022) != 022;
}

static void become_python(int argc, char **argv, const char **words, const char **environment, bool plain_locale)
{
	u32 count = 0;
	words[count++] = python;
	words[count++] = "-I";
	words[count++] = "-S";
	if (others_could_write())
		words[count++] = "-B";
	if (plain_locale) {
		words[count++] = "-X";
		words[count++] = "utf8";
	}
	words[count++] = script;
	become(python, count, argc, argv, words, environment);
}

int main(int argc, char **argv, char **envp)
{
	const char *name = argc > 0 ? text_base(argv[0]) : "";
	/* under any other name, "runc" for instance, it is what engines call */
	const struct program *program = &programs[strcmp(name, "pyrkt") != 0];
	if (program->cached && quick(argc, argv) == 0)
		return 0;
	find_directory(argc > 0 ? argv[0] : "");
	if (!find_package("/lib", program->below) && !find_package("/lib64", program->below))
		return fail("the Python package is not beside this program");
	if (!find_python())
		return fail("no Python of the package's version");
	if (program->cached && *name && strcmp(name, "pyrkt-oci"))
		join(called, "--called=", name, "");
	if (program->cached)
		prefer_compiled(program->cached);
	/* people's messages are in their language; engines parse the other's */
	bool plain_locale = program->cached;
	const char **environment = environment_for(envp, plain_locale);
	const char **words = room(((size_t)argc + FIRST_WORDS) * sizeof *words);
	if (!words || !environment)
		return fail("out of memory");
	if (program->cached)
		become_own(argc, argv, words, environment);
	become_python(argc, argv, words, environment, plain_locale);
	return fail("the Python interpreter cannot be executed");
}
