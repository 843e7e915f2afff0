/* SHA-512 and HMAC with it. */
#ifndef PYRKT_SHA512_H
#define PYRKT_SHA512_H

#include "sys.h"

enum { SHA512_BYTES = 64, SHA512_BLOCK = 128 };

struct sha512 {
	u64 state[8], size; /* size: bytes so far */
	u8 block[SHA512_BLOCK];
};

void sha512_begin(struct sha512 *hash);
void sha512_add(struct sha512 *hash, const void *data, size_t size);
void sha512_end(struct sha512 *hash, u8 digest[SHA512_BYTES]);

struct hmac {
	struct sha512 hash;
	u8 outer[SHA512_BLOCK];
};

void hmac_begin(struct hmac *hmac, const u8 *key, size_t size); /* size: SHA512_BLOCK at most */
void hmac_add(struct hmac *hmac, const void *data, size_t size);
void hmac_end(struct hmac *hmac, u8 digest[SHA512_BYTES]);

/* Looks at every byte, wherever the first difference is. */
bool same_secret(const void *one, const void *two, size_t size);

#endif
