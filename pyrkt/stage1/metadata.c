/* What the metadata service answers. */
#include "metadata.h"
#include "sha512.h"
#include "text.h"

static const char *reason(u32 status)
{
	static const struct {
		u32 status;
		const char *words;
	} reasons[] = {
		{200, "OK"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{408, "Request Timeout"},
		{411, "Length Required"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{417, "Expectation Failed"},
		{431, "Request Header Fields Too Large"},
		{501, "Not Implemented"},
		{505, "HTTP Version Not Supported"},
	};
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (reasons[i].status == status)
			return reasons[i].words;
	return "";
}

struct draft { /* what becomes an answer */
	u32 status;
	enum type type;
	const u8 *body; /* in the table */
	u32 body_size;
	bool has_signature;
	char signature[SIGNATURE_SIZE];
	const char *header; /* one more, or NULL */
};

static const char *const READ_ONLY = "Allow: GET, HEAD\r\n", *const POST_ONLY = "Allow: POST\r\n";

static struct draft only(u32 status, const char *header)
{
	return (struct draft){.status = status, .type = TEXT_PLAIN, .header = header};
}

static void sign(const u8 *key, const u8 uuid[16], const struct field *content, char signature[SIGNATURE_SIZE])
{
	struct hmac hmac;
	u8 digest[SHA512_BYTES];
	hmac_begin(&hmac, key, KEY_SIZE);
	hmac_add(&hmac, uuid, 16);
	hmac_add(&hmac, content->at, content->size);
	hmac_end(&hmac, digest);
	base64(digest, sizeof digest, signature);
}

enum { CONTENT, UUID, SIGNATURE, FIELDS };

static struct draft answer_sign(const struct table *table, const u8 *key, const struct field fields[FIELDS])
{
	struct draft draft = only(200, NULL);
	if (!fields[CONTENT].at)
		return only(400, NULL);
	draft.has_signature = true;
	sign(key, table->uuid, &fields[CONTENT], draft.signature);
	return draft;
}

static struct draft answer_verify(const u8 *key, const struct field fields[FIELDS])
{
	char right[SIGNATURE_SIZE];
	u8 signer[16];
	if (!fields[CONTENT].at || !fields[UUID].at || !fields[SIGNATURE].at ||
	    !uuid_read(fields[UUID].at, fields[UUID].size, signer))
		return only(400, NULL);
	sign(key, signer, &fields[CONTENT], right);
	bool same = fields[SIGNATURE].size == sizeof right && same_secret(fields[SIGNATURE].at, right, sizeof right);
	return only(same ? 200 : 403, NULL);
}

static struct draft answer_hmac(const struct table *table, const u8 *key, char *data, const struct request *request,
				bool verify)
{
	struct field fields[FIELDS] = {{"content", NULL, 0}, {"uuid", NULL, 0}, {"signature", NULL, 0}};
	if (request->method != POST)
		return only(405, POST_ONLY);
	if (!request->form)
		return only(415, NULL);
	if (!form_read(data + request->body, request->body_size, fields, FIELDS))
		return only(400, NULL);
	return verify ? answer_verify(key, fields) : answer_sign(table, key, fields);
}

static bool takes(const char **path, size_t *size, const char *start)
{
	size_t length = strlen(start);
	if (*size < length || memcmp(*path, start, length) != 0)
		return false;
	*path += length;
	*size -= length;
	return true;
}

static bool is(const char *path, size_t size, const char *what)
{
	return takes(&path, &size, what) && !size;
}

static struct draft respond(const struct table *table, const u8 *key, char *data, const struct request *request)
{
	struct route route;
	const char *path = data + request->path;
	long decoded = percent_decode(data + request->path, request->path_size, false);
	if (decoded < 0)
		return only(400, NULL);
	size_t size = (size_t)decoded;
	/* The token is the first word of the path, and nobody without it hears of more. */
	if (!takes(&path, &size, "/") || size < TOKEN_SIZE || (size > TOKEN_SIZE && path[TOKEN_SIZE] != '/') ||
	    !same_secret(path, table->token, TOKEN_SIZE))
		return only(401, "WWW-Authenticate: token\r\n");
	path += TOKEN_SIZE;
	size -= TOKEN_SIZE;
	if (!takes(&path, &size, "/acMetadata/v1/"))
		return only(404, NULL);
	if (is(path, size, "pod/hmac/sign") || is(path, size, "pod/hmac/verify"))
		return answer_hmac(table, key, data, request, is(path, size, "pod/hmac/verify"));
	if (!table_find(table, path, size, &route))
		return only(404, NULL);
	if (request->method != GET && request->method != HEAD)
		return only(405, READ_ONLY);
	return (struct draft){.status = 200, .type = route.type, .body = route.body, .body_size = route.body_size};
}

static void write_answer(const struct draft *draft, const struct request *request, struct answer *answer)
{
	static const char *const types[TYPES] = {[JSON] = "application/json", [TEXT_PLAIN] = "text/plain; charset=us-ascii"};
	struct text head = {.start = answer->head, .size = sizeof answer->head};
	answer->status = draft->status;
	answer->keep = request->keep;
	text_add(&head, "HTTP/1.1 ");
	text_add_number(&head, draft->status);
	text_add(&head, " ");
	text_add(&head, reason(draft->status));
	text_add(&head, "\r\nContent-Type: ");
	text_add(&head, types[draft->type]);
	text_add(&head, "\r\nContent-Length: ");
	text_add_number(&head, draft->has_signature ? SIGNATURE_SIZE : draft->body_size);
	text_add(&head, "\r\nCache-Control: no-store\r\n");
	if (draft->header)
		text_add(&head, draft->header);
	if (!answer->keep)
		text_add(&head, "Connection: close\r\n");
	else if (request->old)
		text_add(&head, "Connection: keep-alive\r\n");
	text_add(&head, "\r\n");
	bool bare = request->method == HEAD;
	if (draft->has_signature && !bare)
		text_add_bytes(&head, draft->signature, sizeof draft->signature);
	answer->head_size = (u32)head.used;
	answer->body = bare ? NULL : draft->body;
	answer->body_size = bare ? 0 : draft->body_size;
}

void metadata_answer(const struct table *table, const u8 key[KEY_SIZE], char *data, const struct request *request,
		     struct answer *answer)
{
	struct draft draft = respond(table, key, data, request);
	write_answer(&draft, request, answer);
}

void metadata_refuse(u32 status, struct answer *answer)
{
	static const struct request unread;
	struct draft draft = only(status, NULL);
	write_answer(&draft, &unread, answer);
}
