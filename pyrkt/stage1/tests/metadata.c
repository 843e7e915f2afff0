/* The metadata service's pure half: hashes, texts, requests, the table, the answers. */
#include "../metadata.h"
#include "../sha512.h"

#include <stdio.h>
#include <stdlib.h>

static int checks, failures;

#define CHECK(what)                                                                                                    \
	do {                                                                                                           \
		checks++;                                                                                              \
		if (!(what)) {                                                                                         \
			failures++;                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                     \
		}                                                                                                      \
	} while (0)

#define TOKEN "00112233445566778899aabbccddeeff"
#define UUID "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

static void as_hex(const u8 *bytes, size_t size, char *into)
{
	for (size_t i = 0; i < size; i++)
		sprintf(into + 2 * i, "%02x", bytes[i]);
}

/* FIPS 180-4's examples, and the hash over all digests of "\0\1\2..." from 0 bytes on, by another implementation. */
static void hashes(void)
{
	static const char abc[] = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
				  "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
	static const char all[] = "95555a7719ba798fb9f260421570ba74d5934b8acd38de3df1d5e8d561000e41"
				  "383007d5a87184eb18678ee0416933fb3143d86456e2c6d81c98081b37293339";
	struct sha512 hash, sum;
	u8 digest[SHA512_BYTES], data[400];
	char hex[2 * SHA512_BYTES + 1];
	sha512_begin(&hash);
	sha512_add(&hash, "a", 1);
	sha512_add(&hash, "bc", 2);
	sha512_end(&hash, digest);
	as_hex(digest, sizeof digest, hex);
	CHECK(!strcmp(hex, abc));
	sha512_begin(&sum);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (u8)i;
	for (size_t size = 0; size < sizeof data; size++) {
		sha512_begin(&hash);
		for (size_t at = 0; at < size; at += 37)
			sha512_add(&hash, data + at, size - at < 37 ? size - at : 37);
		sha512_end(&hash, digest);
		sha512_add(&sum, digest, sizeof digest);
	}
	sha512_end(&sum, digest);
	as_hex(digest, sizeof digest, hex);
	CHECK(!strcmp(hex, all));
}

/* RFC 4231, cases 1 to 3; the key of case 4 has 25 bytes. */
static void signatures(void)
{
	static const struct {
		const char *key, *data, *digest;
		size_t key_size, data_size;
	} cases[] = {
		{"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", "Hi There",
		 "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
		 "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
		 20, 8},
		{"Jefe", "what do ya want for nothing?",
		 "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
		 "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
		 4, 28},
	};
	u8 digest[SHA512_BYTES];
	char hex[2 * SHA512_BYTES + 1];
	struct hmac hmac;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hmac_begin(&hmac, (const u8 *)cases[i].key, cases[i].key_size);
		hmac_add(&hmac, cases[i].data, cases[i].data_size);
		hmac_end(&hmac, digest);
		as_hex(digest, sizeof digest, hex);
		CHECK(!strcmp(hex, cases[i].digest));
	}
	CHECK(same_secret("abc", "abc", 3) && same_secret("abc", "abd", 2));
	CHECK(!same_secret("abc", "abd", 3) && !same_secret("xbc", "abc", 3));
}

static bool encodes(const char *bytes, size_t size, const char *text)
{
	char into[16] = "";
	base64((const u8 *)bytes, size, into);
	return !strcmp(into, text);
}

static bool decodes(const char *text, bool plus, const char *expected)
{
	char at[32] = "";
	memcpy(at, text, strlen(text));
	long size = percent_decode(at, strlen(text), plus);
	return expected ? size == (long)strlen(expected) && !memcmp(at, expected, (size_t)size) : size < 0;
}

static void texts(void)
{
	u8 uuid[16];
	CHECK(encodes("", 0, "") && encodes("f", 1, "Zg==") && encodes("fo", 2, "Zm8=") && encodes("foo", 3, "Zm9v"));
	CHECK(encodes("foobar", 6, "Zm9vYmFy") && encodes("\xff\xfe\xfd", 3, "//79") && encodes("\xfb\xf0", 2, "+/A="));
	CHECK(decodes("a%41%7e%e4", true, "aA~\xe4") && decodes("a+b", true, "a b") && decodes("a+b", false, "a+b"));
	CHECK(decodes("", true, "") && decodes("%2B%2b", true, "++"));
	CHECK(decodes("%", true, NULL) && decodes("%4", true, NULL) && decodes("a%", true, NULL));
	CHECK(decodes("%4g", true, NULL) && decodes("%g4", true, NULL) && decodes("%%41", true, NULL) && decodes("%-1", true, NULL));
	CHECK(uuid_read(UUID, 36, uuid) && uuid[0] == 0x0a && uuid[15] == 0x4d && uuid[6] == 0x4a);
	CHECK(uuid_read("0A1B2C3D4E5F4A6B8C7D9E0F1A2B3C4D", 32, uuid) && uuid[3] == 0x3d);
	CHECK(!uuid_read(UUID, 35, uuid) && !uuid_read(UUID "0", 37, uuid) && !uuid_read("", 0, uuid));
	CHECK(!uuid_read("0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4g", 36, uuid));
}

enum { WRONG = -1 };

/* how many of the three fields were found; what a has */
static int form(const char *text, const char *a)
{
	char at[64] = "";
	struct field fields[3] = {{"a", NULL, 0}, {"long", NULL, 0}, {"c", NULL, 0}};
	memcpy(at, text, strlen(text));
	if (!form_read(at, strlen(text), fields, 3))
		return WRONG;
	CHECK(!a == !fields[0].at);
	if (a && fields[0].at)
		CHECK(fields[0].size == strlen(a) && !memcmp(fields[0].at, a, fields[0].size));
	return !!fields[0].at + !!fields[1].at + !!fields[2].at;
}

static void forms(void)
{
	CHECK(form("", NULL) == 0 && form("a=1", "1") == 1 && form("a=1&long=2&c=3", "1") == 3);
	CHECK(form("c=3&x=9&a=%26%3d+%2B&&", "&= +") == 2 && form("a=", "") == 1 && form("a", "") == 1);
	CHECK(form("%61=b=c", "b=c") == 1 && form("aa=1&lon=2&longe=3&A=4", NULL) == 0 && form("=5", NULL) == 0);
	CHECK(form("a=1&a=1", NULL) == WRONG && form("a=%", NULL) == WRONG && form("x=%zz&a=1", NULL) == WRONG);
	CHECK(form("a%=1", NULL) == WRONG);
}

static struct request request;

static long reads(const char *text)
{
	size_t size = strlen(text);
	char *copy = malloc(size + 1); /* of the exact size: the sanitizer sees each byte beyond */
	memcpy(copy, text, size);
	copy = realloc(copy, size ? size : 1);
	long r = http_read(copy, size, &request);
	free(copy);
	return r;
}

#define H "Host: x\r\n"

static void good_requests(void)
{
	CHECK(reads("GET /a HTTP/1.1\r\n" H "\r\n") == 28 && request.method == GET && request.keep && !request.old);
	CHECK(request.path == 4 && request.path_size == 2 && request.body == 28 && !request.body_size && request.form);
	CHECK(reads("HEAD /a HTTP/1.1\r\n" H "\r\n") == 29 && request.method == HEAD);
	CHECK(reads("DELETE /a HTTP/1.1\r\n" H "\r\n") == 31 && request.method == OTHER_METHOD);
	CHECK(reads("get /a HTTP/1.1\r\n" H "\r\n") == 28 && request.method == OTHER_METHOD);
	CHECK(reads("GET /a HTTP/1.0\n\n") == 17 && request.old && !request.keep);
	CHECK(reads("GET /a HTTP/1.0\nConnection: Keep-Alive\n\n") > 0 && request.keep);
	CHECK(reads("GET /a HTTP/1.1\n" H "CONNECTION: foo ,close\n\n") > 0 && !request.keep);
	CHECK(reads("GET /a HTTP/1.1\n" H "Connection: closed\n\n") > 0 && request.keep);
	CHECK(reads("GET /a HTTP/1.7\r\n" H "\r\n") == 28 && request.keep);
	CHECK(reads("\r\n\r\nGET /a HTTP/1.1\r\n" H "\r\nGET") == 32 && request.path == 8);
	CHECK(reads("GET /a?b=/c HTTP/1.1\r\n" H "\r\n") == 33 && request.path_size == 2);
	CHECK(reads("GET http://h:1/a?b HTTP/1.1\r\n" H "\r\n") > 0 && request.path == 14 && request.path_size == 2);
	CHECK(reads("GET http://h HTTP/1.1\r\n" H "\r\n") > 0 && !request.path_size);
	CHECK(reads("POST /a HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabcGET") == 51 && request.method == POST);
	CHECK(request.body == 48 && request.body_size == 3);
	CHECK(reads("POST /a HTTP/1.1\r\n" H "Content-Length:\t0003 \r\n\r\nabc") > 0 && request.body_size == 3);
	CHECK(reads("POST / HTTP/1.0\r\nContent-Type: Application/X-www-form-urlencoded; charset=x\r\n\r\n") > 0 && request.form);
	CHECK(reads("POST / HTTP/1.0\r\nContent-Type: application/x-www-form-urlencodedx\r\n\r\n") > 0 && !request.form);
	CHECK(reads("POST / HTTP/1.0\r\nContent-Type: text/plain\r\n\r\n") > 0 && !request.form);
	CHECK(reads("GET / HTTP/1.1\r\nHost:\r\nX-Y: a\tb\xe4\r\nEmpty:\r\n\r\n") > 0);
}

static void requests_that_go_on(void)
{
	static const char whole[] = "POST /a HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc";
	char part[sizeof whole];
	for (size_t size = 0; size < sizeof whole - 1; size++) {
		memcpy(part, whole, size);
		part[size] = 0;
		CHECK(reads(part) == 0);
		CHECK(!request.body == (size < sizeof whole - 4));
	}
	CHECK(request.expects && request.body_size == 3);
	CHECK(reads(whole) == (long)strlen(whole));
	CHECK(reads("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n") > 0 && !request.expects);
	CHECK(reads("POST / HTTP/1.1\r\n" H "Content-Length: 65536\r\n\r\n") == 0 && request.body_size == 65536);
}

static void bad_requests(void)
{
	static const struct {
		long status;
		const char *text;
	} cases[] = {
		{400, "G\1T / HTTP/1.1\r\n" H "\r\n"},
		{400, "GET\r\n"},
		{400, "GET \r\n"},
		{400, "GET /\r\n"},
		{400, " GET / HTTP/1.1\r\n"},
		{400, "GET  / HTTP/1.1\r\n"},
		{400, "GET / HTTP/1.1 \r\n"},
		{400, "GET / a HTTP/1.1\r\n"},
		{400, "GET /\tHTTP/1.1\r\n"},
		{400, "GET / HTTP/1\r\n"},
		{400, "GET / HTTP/1.x\r\n"},
		{400, "GET / http/1.1\r\n"},
		{400, "GET a HTTP/1.1\r\n"},
		{400, "OPTIONS * HTTP/1.1\r\n"},
		{400, "GET / HTTP/1.1\r\n\r\n"},
		{400, "GET / HTTP/1.1\r\n" H H "\r\n"},
		{400, "GET / HTTP/1.1\r\n" H "Bad\r\n"},
		{400, "GET / HTTP/1.1\r\n" H "Bad : x\r\n"},
		{400, "GET / HTTP/1.1\r\n" H ": x\r\n"},
		{400, "GET / HTTP/1.1\r\n" H " folded\r\n"},
		{400, "GET / HTTP/1.1\r\n" H "A: b\rc\r\n"},
		{400, "GET / HTTP/1.1\r\n" H "A: \x7f\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: \r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: 1 1\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n"},
		{400, "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{411, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n"},
		{501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"},
		{501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{413, "POST / HTTP/1.1\r\n" H "Content-Length: 65537\r\n\r\n"},
		{413, "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n"},
		{413, "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999999999999999999\r\n\r\n"},
		{417, "POST / HTTP/1.1\r\n" H "Expect: a miracle\r\n"},
		{505, "GET / HTTP/2.0\r\n"},
		{505, "GET / HTTP/0.9\r\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		CHECK(reads(cases[i].text) == -cases[i].status);
		if (reads(cases[i].text) != -cases[i].status)
			fprintf(stderr, "case %zu: %ld\n", i, reads(cases[i].text));
	}
}

static void long_heads(void)
{
	static char text[2 * MOST_HEAD];
	memset(text, 'a', sizeof text - 1);
	memcpy(text, "GET /", 5);
	CHECK(reads(text) == -414);
	memcpy(text, "GET / HTTP/1.1\r\n" H "X: ", 28);
	CHECK(reads(text) == -431);
	text[MOST_HEAD - 1] = 0;
	CHECK(reads(text) == 0);
	/* just as long as may be */
	memset(text, 'a', sizeof text - 1);
	memcpy(text, "GET / HTTP/1.1\r\n" H "X: ", 28);
	memcpy(text + MOST_HEAD - 4, "\r\n\r\n", 5);
	CHECK(reads(text) == MOST_HEAD);
	text[MOST_HEAD - 4] = 'a';
	memcpy(text + MOST_HEAD - 3, "\r\n\r\n", 5);
	CHECK(reads(text) == -431);
}

/* --- the table ----------------------------------------------------------------------------------------------------- */

static u8 made[1024];
static size_t made_size;

static void put(u64 value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		made[made_size++] = (u8)(value >> 8 * i);
}

static void put_text(const char *text)
{
	memcpy(made + made_size, text, strlen(text));
	made_size += strlen(text);
}

static void route(const char *path, u32 type, const char *body)
{
	put(strlen(path), 2);
	put(type, 2);
	put(strlen(body), 4);
	put_text(path);
	put_text(body);
}

static void make_table(void)
{
	made_size = 0;
	put(TABLE_MAGIC, 4);
	put(TABLE_VERSION, 4);
	put(0, 4);
	put(3, 4);
	put_text(TOKEN UUID);
	put(0, 4);
	route("pod/uuid", TEXT_PLAIN, UUID);
	route("pod/annotations", JSON, "null");
	route("apps/a/image/id", TEXT_PLAIN, "");
	for (int i = 0; i < 4; i++)
		made[8 + i] = (u8)(made_size >> 8 * i);
}

static bool good_table(size_t size)
{
	struct table table;
	u8 *copy = malloc(size ? size : 1);
	memcpy(copy, made, size);
	bool good = table_decode(copy, size, &table);
	free(copy);
	return good;
}

static void tables(void)
{
	struct table table;
	struct route found;
	make_table();
	CHECK(good_table(made_size));
	CHECK(table_decode(made, made_size, &table) && table.uuid[1] == 0x1b && !memcmp(table.token, TOKEN, TOKEN_SIZE));
	CHECK(table_find(&table, "pod/uuid", 8, &found) && found.type == TEXT_PLAIN && found.body_size == 36);
	CHECK(table_find(&table, "apps/a/image/id", 15, &found) && !found.body_size);
	CHECK(!table_find(&table, "pod/uui", 7, &found) && !table_find(&table, "pod/uuid/", 9, &found));
	CHECK(!table_find(&table, "", 0, &found));
	for (size_t size = 0; size < made_size; size++) {
		CHECK(!good_table(size));
		make_table(); /* with the size that it says it has */
		for (int i = 0; i < 4; i++)
			made[8 + i] = (u8)(size >> 8 * i);
		CHECK(!good_table(size));
		make_table();
	}
	static const struct {
		size_t at;
		u8 value;
	} faults[] = {{0, 'Q'}, {4, 2}, {6, 1}, {8, 1}, {12, 2}, {12, 4}, {15, 1}, {16, 'g'}, {17, 0}, {48, 'x'}, {84, 1},
		      {TABLE_HEADER, 0}, {TABLE_HEADER + 1, 1}, {TABLE_HEADER + 2, 2}, {TABLE_HEADER + 4, 37}, {TABLE_HEADER + 7, 0xff}};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		make_table();
		made[faults[i].at] = faults[i].value;
		CHECK(!good_table(made_size));
	}
}

/* --- the answers --------------------------------------------------------------------------------------------------- */

static struct answer answer;
static const u8 key[KEY_SIZE] = "key";

static u32 asks(const char *text)
{
	static char data[1024];
	struct table table;
	make_table();
	memcpy(data, text, strlen(text));
	CHECK(table_decode(made, made_size, &table));
	long r = http_read(data, strlen(text), &request);
	CHECK(r == (long)strlen(text));
	metadata_answer(&table, key, data, &request, &answer);
	CHECK(answer.head_size < sizeof answer.head);
	answer.head[answer.head_size] = 0;
	return answer.status;
}

static bool head_is(const char *text)
{
	return !strcmp(answer.head, text);
}

#define A "/" TOKEN "/acMetadata/v1/"
#define T " HTTP/1.1\r\n" H "\r\n"
#define F " HTTP/1.1\r\n" H "Content-Length: "

static void reading(void)
{
	CHECK(asks("GET " A "pod/uuid" T) == 200 && answer.body_size == 36 && !memcmp(answer.body, UUID, 36));
	CHECK(head_is("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Length: 36\r\n"
		      "Cache-Control: no-store\r\n\r\n"));
	CHECK(asks("GET " A "pod/annotations HTTP/1.0\r\n\r\n") == 200 && answer.body_size == 4 && !answer.keep);
	CHECK(head_is("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
		      "Cache-Control: no-store\r\nConnection: close\r\n\r\n"));
	CHECK(asks("HEAD " A "pod/uuid" T) == 200 && !answer.body_size && strstr(answer.head, "Content-Length: 36\r\n"));
	CHECK(asks("GET /%30" "0112233445566778899aabbccddeeff/acMetadata/v1/pod%2fuuid" T) == 200);
	CHECK(asks("GET " A "apps/a/image/id" T) == 200 && !answer.body_size);
	CHECK(asks("GET " A "pod/uuid HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == 200 && answer.keep);
	CHECK(strstr(answer.head, "Connection: keep-alive\r\n") != NULL);
}

static void refusing(void)
{
	static const char *const strangers[] = {"/",
						"",
						"/" UUID "/acMetadata/v1/pod/uuid",
						"/00112233445566778899aabbccddeefe/acMetadata/v1/pod/uuid",
						"/00112233445566778899AABBCCDDEEFF/acMetadata/v1/pod/uuid",
						"/" TOKEN "0/acMetadata/v1/pod/uuid",
						"/00112233445566778899aabbccddeef",
						"//" TOKEN "/acMetadata/v1/pod/uuid",
						"/acMetadata/v1/pod/uuid"};
	char text[256];
	for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
		snprintf(text, sizeof text, "GET http://h%s" T, strangers[i]);
		CHECK(asks(text) == 401 && strstr(answer.head, "\r\nWWW-Authenticate: token\r\n") && answer.keep);
	}
	CHECK(asks("GET /" TOKEN T) == 404 && asks("GET /" TOKEN "/" T) == 404 && asks("GET /" TOKEN "/acMetadata/v1" T) == 404);
	CHECK(asks("GET " A T) == 404 && asks("GET " A "pod/nothing" T) == 404 && asks("GET " A "apps/b/image/id" T) == 404);
	CHECK(asks("POST " A "pod/nothing" T) == 404 && asks("GET " A "pod/uuid/" T) == 404 && asks("GET " A "pod/%" T) == 400);
	CHECK(asks("POST " A "pod/uuid" T) == 405 && strstr(answer.head, "\r\nAllow: GET, HEAD\r\n"));
	CHECK(asks("BREW " A "pod/uuid" T) == 405);
	CHECK(asks("GET " A "pod/hmac/sign" T) == 405 && strstr(answer.head, "\r\nAllow: POST\r\n"));
	CHECK(asks("HEAD " A "pod/hmac/verify" T) == 405);
	metadata_refuse(413, &answer);
	answer.head[answer.head_size] = 0;
	CHECK(!answer.keep && head_is("HTTP/1.1 413 Content Too Large\r\nContent-Type: text/plain; charset=us-ascii\r\n"
				      "Content-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"));
}

/* base64(HMAC-SHA512("key" and zeros, UUID's 16 bytes + "a b&")), by another implementation */
#define SIGNED "O/aZsP78K0r/Xp7OcESNgjf5vBmw4hGyyMEFmDIPK7iMR6jo5FhL5Y1iMtH/hJ9QA5Qf2UD26Y0UHgicY7x30Q=="
#define SIGNED_FORM "O%2FaZsP78K0r%2FXp7OcESNgjf5vBmw4hGyyMEFmDIPK7iMR6jo5FhL5Y1iMtH%2FhJ9QA5Qf2UD26Y0UHgicY7x30Q%3D%3D"

static u32 posts(const char *path, const char *form)
{
	char text[512];
	snprintf(text, sizeof text, "POST " A "%s" F "%zu\r\n\r\n%s", path, strlen(form), form);
	return asks(text);
}

static void signing(void)
{
	CHECK(posts("pod/hmac/sign", "content=a+b%26") == 200);
	CHECK(strstr(answer.head, "\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Length: 88\r\n"));
	CHECK(!strcmp(strstr(answer.head, "\r\n\r\n") + 4, SIGNED));
	CHECK(posts("pod/hmac/sign", "content=") == 200 && posts("pod/hmac/sign", "content") == 200);
	CHECK(posts("pod/hmac/sign", "") == 400 && posts("pod/hmac/sign", "contents=a") == 400);
	CHECK(posts("pod/hmac/sign", "content=a&content=a") == 400 && posts("pod/hmac/sign", "content=%a") == 400);
	CHECK(asks("POST " A "pod/hmac/sign HTTP/1.1\r\n" H "Content-Type: text/plain\r\nContent-Length: 9\r\n\r\ncontent=a") == 415);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&uuid=" UUID "&signature=" SIGNED_FORM) == 200 && !answer.body_size);
	CHECK(posts("pod/hmac/verify", "signature=" SIGNED_FORM "&uuid=" UUID "&content=a%20b%26") == 200);
	CHECK(posts("pod/hmac/verify", "content=a+b%27&uuid=" UUID "&signature=" SIGNED_FORM) == 403);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&uuid=1" UUID "&signature=" SIGNED_FORM) == 400);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&uuid=0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4e&signature=" SIGNED_FORM) == 403);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&uuid=" UUID "&signature=" SIGNED_FORM "A") == 403);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&uuid=" UUID "&signature=") == 403);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&uuid=" UUID) == 400);
	CHECK(posts("pod/hmac/verify", "content=a+b%26&signature=" SIGNED_FORM) == 400);
	CHECK(posts("pod/hmac/verify", "uuid=" UUID "&signature=" SIGNED_FORM) == 400);
}

int main(void)
{
	hashes();
	signatures();
	texts();
	forms();
	good_requests();
	requests_that_go_on();
	bad_requests();
	long_heads();
	tables();
	reading();
	refusing();
	signing();
	fprintf(stderr, "metadata unit: %d checks, %d failed\n", checks, failures);
	return failures != 0;
}
