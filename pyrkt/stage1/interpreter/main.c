/* pyrkt's interpreter: PYTHON PLACE SCRIPT ARGUMENTS...
 *
 * CPython's own library behind a start of ours.  A bare interpreter takes 6 ms to make its world, and our modules 5 ms
 * to load; both are the same each time.  So it is done once: the memory that results is written to a file beside the
 * compiled modules (image.c), and every later start maps that and calls boot.resume(), 0.5 ms after its first
 * instruction.  Whatever is in the way (no image and none can be made, an address that is taken), PYTHON is executed
 * with SCRIPT instead, as if this program did not exist.
 */
#include "image.h"
#include "memory.h"

#include <Python.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PYTHON = 1, PLACE, SCRIPT, FIRST, NOT_FOUND = 127, MOST_SOURCES = 1024, ENOUGH = 16 << 20 /* an image is 7 MB */ };
enum { SMALL = 512, SMALL_STEP = 16 }; /* what CPython's allocator serves from arenas (Objects/obmalloc.c) */

static PyObject *resume; /* boot.resume, in the image */

static bool set_up(char **argv)
{
	PyPreConfig first;
	PyConfig config;
	PyPreConfig_InitIsolatedConfig(&first);
	first.utf8_mode = 1;
	PyConfig_InitIsolatedConfig(&config);
	if (PyStatus_Exception(Py_PreInitialize(&first)))
		return false;
	config.site_import = 0;
	config.module_search_paths_set = 1;
	config.write_bytecode = 1;
	/* all paths are given, so that none is searched for */
	bool good = true;
	const char *values[] = {argv[PYTHON], PYTHON_PREFIX, PYTHON_LIBRARY};
	wchar_t *wide[3];
	for (int i = 0; i < 3; i++)
		good = (wide[i] = Py_DecodeLocale(values[i], NULL)) && good;
	if (!good)
		return false;
	wchar_t **names[] = {&config.program_name, &config.executable, &config.base_executable};
	for (int i = 0; i < 3; i++)
		good = good && !PyStatus_Exception(PyConfig_SetString(&config, names[i], wide[0]));
	wchar_t **prefixes[] = {&config.home, &config.prefix, &config.exec_prefix, &config.base_prefix, &config.base_exec_prefix};
	for (int i = 0; i < 5; i++)
		good = good && !PyStatus_Exception(PyConfig_SetString(&config, prefixes[i], wide[1]));
	wchar_t *dynamic = Py_DecodeLocale(PYTHON_LIBRARY "/lib-dynload", NULL);
	good = good && dynamic && !PyStatus_Exception(PyConfig_SetString(&config, &config.stdlib_dir, wide[2])) &&
	       !PyStatus_Exception(PyWideStringList_Append(&config.module_search_paths, wide[2])) &&
	       !PyStatus_Exception(PyWideStringList_Append(&config.module_search_paths, dynamic));
	return good && !PyStatus_Exception(Py_InitializeFromConfig(&config));
}

/* boot.prepare() loads the modules; returns (path, mtime in ns, size) of each source. */
static PyObject *prepared(const char *place)
{
	PyObject *path = PySys_GetObject("path"), *name = PyUnicode_DecodeFSDefault(place), *rows = NULL;
	if (!path || !name || PyList_Append(path, name) < 0)
		return NULL;
	PyObject *boot = PyImport_ImportModule("pyrkt.runtime.boot");
	if (boot) {
		resume = PyObject_GetAttrString(boot, "resume");
		rows = PyObject_CallMethod(boot, "prepare", "O", name);
	}
	return resume && rows && PyList_Check(rows) && PyList_Size(rows) <= MOST_SOURCES ? rows : NULL;
}

/* In a child: an image is never of a process that has done something.  All can read it, so there is nothing of the
 * caller in it; and what is compiled on the way is nobody else's to write, whatever the caller's mask. */
static bool make(const char *path, const char *key, char **argv)
{
	static struct source sources[MOST_SOURCES];
	static char *nothing[1];
	int null = open("/dev/null", O_RDWR);
	environ = nothing;
	umask(022);
	signal(SIGXFSZ, SIG_IGN); /* a file may be too large here: that is an error of write(2), then */
	for (int fd = 0; fd < 3; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			return false;
	if (null > 2)
		close(null);
	PyObject *rows;
	if (!memory_begin() || !set_up(argv) || !(rows = prepared(argv[PLACE])))
		return false;
	Py_ssize_t count = PyList_Size(rows);
	for (Py_ssize_t i = 0; i < count; i++) {
		long long modified, size;
		if (!PyArg_ParseTuple(PyList_GetItem(rows, i), "sLL", &sources[i].path, &modified, &size))
			return false;
		sources[i].modified_ns = modified;
		sources[i].size = size;
	}
	memory_forget(PyObject_Malloc, PyObject_Free, SMALL_STEP, SMALL);
	return image_save(path, key, sources, (uint32_t)count);
}

/* Else each call would make it and lose it. */
static bool is_room(const char *directory)
{
	struct statvfs found;
	struct rlimit limit;
	return statvfs(directory, &found) == 0 && found.f_bavail >= ENOUGH / found.f_frsize &&
	       getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur >= ENOUGH;
}

static bool can_be_made(const char *path)
{
	char directory[PATH_MAX];
	snprintf(directory, sizeof directory, "%s", path);
	*strrchr(directory, '/') = 0;
	return access(directory, W_OK) == 0 && is_room(directory);
}

/* The library may be another's, or gone, since this was built. */
static enum image make_and_load(const char *path, const char *key, char **argv)
{
	if (!can_be_made(path) || access(PYTHON_LIBRARY "/encodings/__init__.py", R_OK) != 0)
		return IMAGE_NONE;
	pid_t child = fork();
	int status = 1;
	if (child == 0)
		_exit(!make(path, key, argv));
	if (child < 0 || waitpid(child, &status, 0) < 0 || status)
		return IMAGE_NONE;
	return image_load(path, argv[PLACE], key);
}

static PyObject *words_of(int argc, char **argv)
{
	PyObject *words = PyList_New(0);
	for (int i = FIRST; words && i < argc; i++) {
		PyObject *word = PyUnicode_DecodeFSDefault(argv[i]);
		if (!word || PyList_Append(words, word) < 0)
			return NULL;
	}
	return words;
}

static PyObject *variables_of(char **environment)
{
	PyObject *variables = PyDict_New();
	for (; variables && *environment; environment++) {
		const char *equals = strchr(*environment, '=');
		if (!equals)
			continue;
		PyObject *name = PyBytes_FromStringAndSize(*environment, equals - *environment);
		PyObject *value = PyBytes_FromString(equals + 1);
		if (!name || !value || (PyDict_SetDefault(variables, name, value), PyErr_Occurred()))
			return NULL;
	}
	return variables;
}

/* What Python compiles it keeps in directories made with our mask: nobody else may put a module of theirs there. */
static bool others_could_write(void)
{
	mode_t mask = umask(022);
	umask(mask);
	return (mask & 022) != 022;
}

/* The image was made by another thread of another process; what CPython does after fork(2) is what is needed here. */
static int go_on(int argc, char **argv, char **environment)
{
	PyOS_AfterFork_Child();
	PyThreadState_Get()->thread_id = PyThread_get_thread_ident();
	if (others_could_write() && PySys_SetObject("dont_write_bytecode", Py_True) < 0)
		return 1;
	PyObject *words = words_of(argc, argv), *variables = variables_of(environment);
	PyObject *code = words && variables ? PyObject_CallFunctionObjArgs(resume, words, variables, NULL) : NULL;
	if (!code) {
		PyErr_Print();
		return 1;
	}
	return (int)PyLong_AsLong(code);
}

static int become_python(int argc, char **argv, char **environment)
{
	char *words[argc + 4];
	int count = 0;
	words[count++] = argv[PYTHON];
	words[count++] = "-I";
	words[count++] = "-S";
	if (others_could_write())
		words[count++] = "-B";
	words[count++] = "-X";
	words[count++] = "utf8";
	for (int i = SCRIPT; i < argc; i++)
		words[count++] = argv[i];
	words[count] = NULL;
	execve(argv[PYTHON], words, environment);
	return NOT_FOUND;
}

int main(int argc, char **argv, char **environment)
{
	char path[PATH_MAX], key[2 * PATH_MAX];
	if (argc < FIRST)
		return NOT_FOUND;
	if (snprintf(path, sizeof path, "%s/pyrkt/__pycache__/interpreter.image", argv[PLACE]) < (int)sizeof path &&
	    snprintf(key, sizeof key, "%s\n%s", argv[PYTHON], argv[PLACE]) < (int)sizeof key) {
		enum image image = image_load(path, argv[PLACE], key);
		if (image == IMAGE_NONE)
			image = make_and_load(path, key, argv);
		if (image == IMAGE_LOADED)
			_exit(go_on(argc, argv, environment));
	}
	return become_python(argc, argv, environment);
}
