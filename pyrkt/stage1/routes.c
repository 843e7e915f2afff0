/* The table of what the metadata service serves: checked once, then walked.
 *
 * Little-endian.  u32 magic, u16 version, u16 0, u32 size of all, u32 routes; the token; the UUID as text, 36 bytes, and
 * 4 of 0; then each route: u16 size of its path, u16 type, u32 size of its body, path, body.  The path is what follows
 * "/acMetadata/v1/".
 */
#include "metadata.h"

enum { ROUTE_HEADER = 8, UUID_TEXT = 36, TOKEN_AT = 16, UUID_AT = TOKEN_AT + TOKEN_SIZE };

static u32 get16(const u8 *at)
{
	return (u32)at[0] | (u32)at[1] << 8;
}

static u32 get32(const u8 *at)
{
	return get16(at) | get16(at + 2) << 16;
}

/* Reads the route at *at and goes on to the next; false if it does not fit into what is left. */
static bool next_route(const u8 **at, const u8 *end, struct route *route)
{
	size_t left = (size_t)(end - *at);
	if (left < ROUTE_HEADER)
		return false;
	u32 type = get16(*at + 2);
	*route = (struct route){.path_size = get16(*at), .type = type, .body_size = get32(*at + 4)};
	*at += ROUTE_HEADER;
	left -= ROUTE_HEADER;
	if (type >= TYPES || !route->path_size || left < route->path_size || left - route->path_size < route->body_size)
		return false;
	route->path = (const char *)*at;
	route->body = *at + route->path_size;
	*at = route->body + route->body_size;
	return true;
}

static bool is_token(const char *token)
{
	for (int i = 0; i < TOKEN_SIZE; i++)
		if (!((token[i] >= '0' && token[i] <= '9') || (token[i] >= 'a' && token[i] <= 'f')))
			return false;
	return true;
}

bool table_decode(const u8 *data, size_t size, struct table *table)
{
	struct route route;
	if (size < TABLE_HEADER || size > MOST_TABLE || get32(data) != TABLE_MAGIC ||
	    get32(data + 4) != TABLE_VERSION || get32(data + 8) != size || get32(data + UUID_AT + UUID_TEXT))
		return false;
	*table = (struct table){data, (u32)size, get32(data + 12), (const char *)data + TOKEN_AT, {0}};
	if (!is_token(table->token) || !uuid_read((const char *)data + UUID_AT, UUID_TEXT, table->uuid))
		return false;
	const u8 *at = data + TABLE_HEADER, *end = data + size;
	for (u32 i = 0; i < table->count; i++)
		if (!next_route(&at, end, &route))
			return false;
	return at == end;
}

bool table_find(const struct table *table, const char *path, size_t size, struct route *route)
{
	const u8 *at = table->at + TABLE_HEADER, *end = table->at + table->size;
	while (next_route(&at, end, route))
		if (route->path_size == size && !memcmp(route->path, path, size))
			return true;
	return false;
}
