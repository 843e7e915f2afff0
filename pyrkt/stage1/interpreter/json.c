/* _pyrkt_json: the plain case of base/fastjson.py, without the 0.7 ms in which the library's _json.so is opened.
 *
 * scan(bytes) and dump(value) answer None for whatever is not plain: an error, a number that is no small integer, a key
 * that is there twice, half a surrogate pair.  fastjson then asks _json, which has the words and the last word; so there
 * is one judge of what is JSON, and this only has to be right about what it takes.
 */
#include "json.h"

enum { DEEPEST = 100, MOST_DIGITS = 18 };

struct scan {
	const char *at, *end;
	int depth;
};

static PyObject *value(struct scan *scan);

static void skip_blanks(struct scan *scan)
{
	while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
		scan->at++;
}

static bool takes(struct scan *scan, char wanted)
{
	skip_blanks(scan);
	if (scan->at == scan->end || *scan->at != wanted)
		return false;
	scan->at++;
	return true;
}

static int hexadecimal(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit |= 0x20;
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The character behind \u, as UTF-8; 0 for what is none by itself, or not for us to judge. */
static int escaped_number(struct scan *scan, char *to)
{
	int code = 0;
	if (scan->end - scan->at < 4)
		return 0;
	for (int i = 0; i < 4; i++) {
		int digit = hexadecimal(*scan->at++);
		if (digit < 0)
			return 0;
		code = code << 4 | digit;
	}
	if (code >= 0xd800 && code < 0xe000)
		return 0;
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (char)(0xc0 | code >> 6);
		to[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	to[0] = (char)(0xe0 | code >> 12);
	to[1] = (char)(0x80 | (code >> 6 & 0x3f));
	to[2] = (char)(0x80 | (code & 0x3f));
	return 3;
}

static int escaped(struct scan *scan, char *to)
{
	static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	if (scan->at == scan->end)
		return 0;
	char name = *scan->at++;
	if (name == 'u')
		return escaped_number(scan, to);
	const char *found = name ? strchr(names, name) : NULL;
	if (!found)
		return 0;
	*to = meant[found - names];
	return 1;
}

/* What an escape stands for is never longer than the escape. */
static PyObject *text_with_escapes(struct scan *scan, const char *start)
{
	bool whole = true;
	char *made = PyMem_Malloc((size_t)(scan->end - start)), *to = made;
	PyObject *result = NULL;
	if (!made)
		return NULL;
	scan->at = start;
	while (whole && scan->at < scan->end && *scan->at != '"' && (unsigned char)*scan->at >= ' ') {
		if (*scan->at != '\\') {
			*to++ = *scan->at++;
			continue;
		}
		scan->at++;
		int length = escaped(scan, to);
		whole = length > 0;
		to += length;
	}
	if (whole && scan->at < scan->end && *scan->at++ == '"')
		result = PyUnicode_DecodeUTF8(made, to - made, NULL);
	PyMem_Free(made);
	return result;
}

/* After the opening quote. */
static PyObject *text(struct scan *scan)
{
	const char *start = scan->at;
	for (; scan->at < scan->end && (unsigned char)*scan->at >= ' '; scan->at++) {
		if (*scan->at == '"')
			return PyUnicode_DecodeUTF8(start, scan->at++ - start, NULL);
		if (*scan->at == '\\')
			return text_with_escapes(scan, start);
	}
	return NULL;
}

static bool is_digit(const struct scan *scan)
{
	return scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';
}

static PyObject *integer(struct scan *scan)
{
	long long number = 0;
	bool minus = *scan->at == '-';
	scan->at += minus;
	const char *start = scan->at;
	while (is_digit(scan) && scan->at - start < MOST_DIGITS)
		number = number * 10 + (*scan->at++ - '0');
	ptrdiff_t digits = scan->at - start;
	if (!digits || is_digit(scan) || (digits > 1 && *start == '0'))
		return NULL;
	if (scan->at < scan->end && (*scan->at == '.' || *scan->at == 'e' || *scan->at == 'E'))
		return NULL;
	return PyLong_FromLongLong(minus ? -number : number);
}

static PyObject *object(struct scan *scan)
{
	PyObject *made = PyDict_New();
	if (!made || takes(scan, '}'))
		return made;
	do {
		PyObject *name = takes(scan, '"') ? text(scan) : NULL;
		PyObject *member = name && takes(scan, ':') ? value(scan) : NULL;
		Py_ssize_t before = PyDict_GET_SIZE(made);
		bool good = member && PyDict_SetItem(made, name, member) == 0 && PyDict_GET_SIZE(made) > before;
		Py_XDECREF(name);
		Py_XDECREF(member);
		if (!good)
			goto not_plain;
	} while (takes(scan, ','));
	if (takes(scan, '}'))
		return made;
not_plain:
	Py_DECREF(made);
	return NULL;
}

static PyObject *array(struct scan *scan)
{
	PyObject *made = PyList_New(0);
	if (!made || takes(scan, ']'))
		return made;
	do {
		PyObject *item = value(scan);
		bool good = item && PyList_Append(made, item) == 0;
		Py_XDECREF(item);
		if (!good)
			goto not_plain;
	} while (takes(scan, ','));
	if (takes(scan, ']'))
		return made;
not_plain:
	Py_DECREF(made);
	return NULL;
}

static PyObject *word(struct scan *scan, const char *name, PyObject *meaning)
{
	size_t length = strlen(name);
	if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, name, length) != 0)
		return NULL;
	scan->at += length;
	return Py_NewRef(meaning);
}

static PyObject *nested(struct scan *scan, PyObject *(*read)(struct scan *))
{
	scan->at++;
	PyObject *found = ++scan->depth > DEEPEST ? NULL : read(scan);
	scan->depth--;
	return found;
}

static PyObject *value(struct scan *scan)
{
	skip_blanks(scan);
	if (scan->at == scan->end)
		return NULL;
	switch (*scan->at) {
	case '{':
		return nested(scan, object);
	case '[':
		return nested(scan, array);
	case '"':
		scan->at++;
		return text(scan);
	case 't':
		return word(scan, "true", Py_True);
	case 'f':
		return word(scan, "false", Py_False);
	case 'n':
		return word(scan, "null", Py_None);
	default:
		return integer(scan);
	}
}

static PyObject *not_plain(void)
{
	PyErr_Clear();
	Py_RETURN_NONE;
}

/* Returns a tuple of the one value, so that null is told from "not plain". */
static PyObject *scan_bytes(PyObject *module, PyObject *data)
{
	(void)module;
	if (!PyBytes_CheckExact(data))
		return not_plain();
	struct scan scan = {PyBytes_AS_STRING(data), PyBytes_AS_STRING(data) + PyBytes_GET_SIZE(data), 0};
	PyObject *found = value(&scan);
	skip_blanks(&scan);
	if (!found || scan.at != scan.end) {
		Py_XDECREF(found);
		return not_plain();
	}
	PyObject *result = PyTuple_Pack(1, found);
	Py_DECREF(found);
	return result;
}

struct dump {
	char *start;
	size_t used, size;
};

static bool put(struct dump *dump, const char *data, size_t length)
{
	if (length > dump->size - dump->used) {
		size_t size = 2 * dump->size + length;
		char *grown = PyMem_Realloc(dump->start, size);
		if (!grown)
			return false;
		dump->start = grown;
		dump->size = size;
	}
	memcpy(dump->start + dump->used, data, length);
	dump->used += length;
	return true;
}

/* As json's encode_basestring: other alphabets stay as they are. */
static bool dump_text(struct dump *dump, PyObject *what)
{
	static const char meant[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
	Py_ssize_t length;
	const char *at = PyUnicode_AsUTF8AndSize(what, &length), *end = at + length;
	if (!at || !put(dump, "\"", 1))
		return false;
	for (; at < end; at++) {
		const char *special = *at ? strchr(meant, *at) : NULL;
		char code[8] = {'\\', 0};
		size_t size = 2;
		if (special)
			code[1] = names[special - meant];
		else if ((unsigned char)*at < ' ')
			size = (size_t)snprintf(code, sizeof code, "\\u%04x", *at);
		else
			code[0] = *at, size = 1;
		if (!put(dump, code, size))
			return false;
	}
	return put(dump, "\"", 1);
}

static bool dump_value(struct dump *dump, PyObject *what, int depth);

static bool dump_object(struct dump *dump, PyObject *what, int depth)
{
	PyObject *name, *member;
	Py_ssize_t at = 0;
	const char *before = "{";
	while (PyDict_Next(what, &at, &name, &member)) {
		if (!PyUnicode_CheckExact(name) || !put(dump, before, 1) || !dump_text(dump, name) || !put(dump, ":", 1) ||
		    !dump_value(dump, member, depth))
			return false;
		before = ",";
	}
	return (*before == ',' || put(dump, "{", 1)) && put(dump, "}", 1);
}

static bool dump_items(struct dump *dump, PyObject *what, int depth)
{
	Py_ssize_t count = PySequence_Fast_GET_SIZE(what);
	if (!put(dump, "[", 1))
		return false;
	for (Py_ssize_t i = 0; i < count; i++)
		if ((i && !put(dump, ",", 1)) || !dump_value(dump, PySequence_Fast_GET_ITEM(what, i), depth))
			return false;
	return put(dump, "]", 1);
}

static bool dump_integer(struct dump *dump, PyObject *what)
{
	char digits[24];
	int overflow;
	long long number = PyLong_AsLongLongAndOverflow(what, &overflow);
	return !overflow && put(dump, digits, (size_t)snprintf(digits, sizeof digits, "%lld", number));
}

static bool dump_value(struct dump *dump, PyObject *what, int depth)
{
	if (depth > DEEPEST)
		return false;
	if (PyUnicode_CheckExact(what))
		return dump_text(dump, what);
	if (PyDict_CheckExact(what))
		return dump_object(dump, what, depth + 1);
	if (PyList_CheckExact(what) || PyTuple_CheckExact(what))
		return dump_items(dump, what, depth + 1);
	if (PyLong_CheckExact(what))
		return dump_integer(dump, what);
	const char *word = what == Py_None ? "null" : what == Py_True ? "true" : what == Py_False ? "false" : NULL;
	return word && put(dump, word, strlen(word));
}

static PyObject *dump_plain(PyObject *module, PyObject *what)
{
	(void)module;
	struct dump dump = {0};
	PyObject *result = dump_value(&dump, what, 0) ? PyUnicode_DecodeUTF8(dump.start, (Py_ssize_t)dump.used, NULL) : NULL;
	PyMem_Free(dump.start);
	return result ? result : not_plain();
}

static PyMethodDef functions[] = {{"scan", scan_bytes, METH_O, NULL}, {"dump", dump_plain, METH_O, NULL}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_pyrkt_json", .m_size = -1, .m_methods = functions};

PyObject *PyInit__pyrkt_json(void)
{
	return PyModule_Create(&definition);
}
