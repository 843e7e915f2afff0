/* The metadata service against anything: every request is answered, refused or waited for, every table is taken or
 * refused, and no byte is read that is not there.
 *
 * With libFuzzer this is its target; without (PYRKT_DRIVER) a driver of our own damages whole inputs: fuzz SECONDS.
 */
#include "../metadata.h"

#include <stdio.h>
#include <stdlib.h>

#define TOKEN "00112233445566778899aabbccddeeff"
#define UUID "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define A "/" TOKEN "/acMetadata/v1/"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static const u8 made[] = "PKMD\1\0\0\0\x7c\0\0\0\1\0\0\0" TOKEN UUID "\0\0\0\0"
			 "\x08\0\1\0\x14\0\0\0pod/uuid01234567890123456789";
static long answered, refused;

static void expect(bool what)
{
	if (!what)
		abort();
}

/* As the server does it: request after request, until one is refused or not whole. */
static void converse(char *data, size_t size)
{
	static const u8 key[KEY_SIZE] = "key";
	struct table table;
	struct answer answer;
	struct request request;
	expect(table_decode(made, sizeof made - 1, &table));
	while (size) {
		long r = http_read(data, size, &request);
		if (r == 0) {
			expect(request.body ? request.body <= MOST_HEAD && request.body_size <= MOST_BODY : size < MOST_HEAD);
			return;
		}
		if (r < 0) {
			metadata_refuse((u32)-r, &answer);
			expect(answer.status >= 400 && !answer.keep && answer.head_size < sizeof answer.head);
			refused++;
			return;
		}
		expect((size_t)r <= size && r <= MOST_HEAD + MOST_BODY);
		metadata_answer(&table, key, data, &request, &answer);
		expect(answer.status >= 200 && answer.head_size < sizeof answer.head);
		answered++;
		data += r;
		size -= (size_t)r;
	}
}

static void walk(const u8 *data, size_t size)
{
	struct table table;
	struct route route;
	if (table_decode(data, size, &table))
		expect(!table_find(&table, "\1", 1, &route) || route.path_size == 1);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	/* of the exact size: the sanitizer sees each byte beyond */
	char *copy = malloc(size ? size : 1);
	memcpy(copy, data, size);
	walk((u8 *)copy, size);
	converse(copy, size);
	free(copy);
	return 0;
}

#ifdef PYRKT_DRIVER
#include <time.h>

static u64 state = 0x9e3779b97f4a7c15;

static u64 dice(u64 below) /* xorshift64*: the same numbers in every run */
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1d >> 11) % below;
}

static const char *const whole[] = {
	"GET " A "pod/uuid HTTP/1.1\r\nHost: x\r\n\r\nHEAD " A "pod/%75uid?q HTTP/1.0\nConnection: keep-alive\n\n",
	"POST " A "pod/hmac/sign HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	"Content-Length: 21\r\n\r\ncontent=a+b%20c&x=y&z",
	"POST http://h" A "pod/hmac/verify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 69\r\n\r\n"
	"content=%00&uuid=" UUID "&signature=aaaa",
	"GET /" UUID " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
};

int main(int argc, char **argv)
{
	static u8 data[16384];
	static const u8 borders[] = {0, ' ', '\n', '\r', '%', '&', '/', ':', '=', '0', '9', 0x7f, 0xff};
	long seconds = argc > 1 ? atol(argv[1]) : 15, runs = 0;
	for (time_t end = time(NULL) + seconds; time(NULL) < end;)
		for (int round = 0; round < 4096; round++, runs++) {
			const char *text = whole[dice(sizeof whole / sizeof *whole)];
			size_t size = dice(4) ? strlen(text) : sizeof made - 1;
			memcpy(data, size == sizeof made - 1 ? (const char *)made : text, size);
			for (u64 changes = dice(5); changes; changes--) {
				size_t at = dice(size), count = 1 + dice(size - at), copies = dice(8);
				if (dice(3) == 0)
					data[at] = borders[dice(sizeof borders)];
				else if (dice(3) == 0)
					data[at] ^= (u8)(1 << dice(8));
				else if (dice(3) == 0 && size > 16)
					size = at ? at : 1;
				else if (size + count * copies < sizeof data) {
					memmove(data + at + count * copies, data + at, size - at);
					for (size_t i = 0; i < copies; i++)
						memmove(data + at + count * i, data + at + count * copies, count);
					size += count * copies;
				}
			}
			LLVMFuzzerTestOneInput(data, size);
		}
	fprintf(stderr, "metadata fuzz: %ld inputs, %ld requests answered, %ld refused\n", runs, answered, refused);
	return runs == 0;
}
#endif
