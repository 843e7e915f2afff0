/* The metadata service of a pod (appc 0.8.11, "App Container Metadata Service"): what is asked, and what is answered.
 *
 * All of this is pure: bytes in, an answer out. Who listens is in listen.c, who answers in server.c.
 */
#ifndef PYRKT_METADATA_H
#define PYRKT_METADATA_H

#include "sys.h"

enum {
	MOST_HEAD = 8192,  /* bytes of a request before its body */
	MOST_BODY = 65536, /* bytes of its body */
	TOKEN_SIZE = 32,
	KEY_SIZE = 64,
	SIGNATURE_SIZE = 88, /* 64 bytes as base64 */
	LONGEST_HEAD = 384,  /* bytes of an answer before its body, with a signature behind it */
};

/* --- encoding.c: bytes as text ------------------------------------------------------------------------------------- */

/* In place; bytes that result, or -1: a percent sign without two hex digits. */
long percent_decode(char *at, size_t size, bool plus_is_space);

struct field {
	const char *name;
	char *at; /* NULL: it is not there */
	size_t size;
};

/* Reads "a=b&c=d" in place; fills in the wanted fields. false: badly written, or one that is wanted comes twice. */
bool form_read(char *form, size_t size, struct field *wanted, u32 count);

void base64(const u8 *bytes, size_t size, char *into); /* with padding, without a NUL */
bool uuid_read(const char *text, size_t size, u8 uuid[16]); /* 32 hex digits, dashes wherever they are */

/* --- http.c: a request ---------------------------------------------------------------------------------------------- */

enum method { OTHER_METHOD, GET, HEAD, POST };

struct request {
	enum method method;
	bool old;     /* HTTP/1.0 */
	bool keep;    /* the connection stays */
	bool expects; /* wants to hear "100 Continue" before it sends its body */
	bool form;    /* the body is what a form sends, or says nothing of what it is */
	size_t path, path_size, body, body_size; /* where they are in what was read; the path as it was written */
};

/* How many bytes of data the first request takes; 0: it goes on beyond them (with .expects, its head is there); negative:
 * minus the status of a request that cannot be answered, and after which nothing more can be read. */
long http_read(const char *data, size_t size, struct request *request);

/* --- routes.c: the table that Python has written (pyrkt/metadata/table.py) ---------------------------------------- */

enum { TABLE_MAGIC = 0x444d4b50 /* "PKMD" */, TABLE_VERSION = 1, TABLE_HEADER = 88, MOST_TABLE = 64 << 20 };
enum type { JSON, TEXT_PLAIN, TYPES };

struct table {
	const u8 *at;
	u32 size, count;
	const char *token; /* TOKEN_SIZE of them */
	u8 uuid[16];
};

struct route {
	const char *path;
	u32 path_size;
	enum type type;
	const u8 *body;
	u32 body_size;
};

bool table_decode(const u8 *data, size_t size, struct table *table);
bool table_find(const struct table *table, const char *path, size_t size, struct route *route);

/* --- metadata.c: the answer ------------------------------------------------------------------------------------------ */

struct answer {
	u32 status, head_size, body_size;
	const u8 *body; /* in the table */
	bool keep;
	char head[LONGEST_HEAD];
};

/* The request's bytes are used up by it. */
void metadata_answer(const struct table *table, const u8 key[KEY_SIZE], char *data, const struct request *request,
		     struct answer *answer);
void metadata_refuse(u32 status, struct answer *answer);

/* --- server.c, listen.c ------------------------------------------------------------------------------------------------ */

_Noreturn void serve_metadata(const char *parent);

#endif
