/* The C modules of this interpreter: what CPython needs itself and our hot modules import, and ours.  All others are files in the
 * library's lib-dynload, or missing (zlib, pyexpat): nothing that pyrkt-oci does asks for those.
 */
#include "json.h"

#define MODULES(M)                                                                                                     \
	M(_abc) M(_bisect) M(_codecs) M(_collections) M(_datetime) M(_functools) M(_heapq) M(_imp) M(_io) M(_locale)   \
	M(_operator) M(_posixsubprocess) M(_random) M(_signal) M(_socket) M(_sre) M(_stat) M(_string) M(_struct)       \
	M(_symtable) M(_thread) M(_tokenize) M(_tracemalloc) M(_weakref) M(array) M(atexit) M(binascii) M(zlib) M(errno)       \
	M(faulthandler) M(fcntl) M(_pyrkt_json) M(gc) M(grp) M(itertools) M(math) M(_ast) M(posix) M(pwd) M(select) M(time) M(_opcode) \
	M(_blake2) M(_md5) M(_sha1) M(_sha256) M(_sha512) M(_sha3) M(unicodedata)

#define DECLARE(name) extern PyObject *PyInit_##name(void);
MODULES(DECLARE)
extern PyObject *PyMarshal_Init(void);
extern PyObject *_PyWarnings_Init(void);

#define ENTRY(name) {#name, PyInit_##name},
struct _inittab _PyImport_Inittab[] = {MODULES(ENTRY){"marshal", PyMarshal_Init},
				       {"_warnings", _PyWarnings_Init},
				       {"builtins", NULL},
				       {"sys", NULL},
				       {NULL, NULL}};
