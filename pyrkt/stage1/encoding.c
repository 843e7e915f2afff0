/* Bytes as text: percent signs, forms, base64, UUIDs. */
#include "metadata.h"

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long percent_decode(char *at, size_t size, bool plus_is_space)
{
	size_t to = 0;
	for (size_t i = 0; i < size; i++) {
		char c = at[i];
		if (c == '+' && plus_is_space)
			c = ' ';
		if (c == '%') {
			int high = size - i > 2 ? digit(at[i + 1]) : -1, low = size - i > 2 ? digit(at[i + 2]) : -1;
			if (high < 0 || low < 0)
				return -1;
			c = (char)(high << 4 | low);
			i += 2;
		}
		at[to++] = c;
	}
	return (long)to;
}

static bool take_field(char *pair, size_t size, struct field *wanted, u32 count)
{
	size_t name = 0;
	while (name < size && pair[name] != '=')
		name++;
	char *value = pair + (name < size ? name + 1 : size);
	long name_size = percent_decode(pair, name, true);
	long value_size = percent_decode(value, (size_t)(pair + size - value), true);
	if (name_size < 0 || value_size < 0)
		return false;
	for (u32 i = 0; i < count; i++) {
		if ((size_t)name_size != strlen(wanted[i].name) || memcmp(pair, wanted[i].name, (size_t)name_size) != 0)
			continue;
		/* what is signed must be clear */
		if (wanted[i].at)
			return false;
		wanted[i].at = value;
		wanted[i].size = (size_t)value_size;
	}
	return true;
}

bool form_read(char *form, size_t size, struct field *wanted, u32 count)
{
	for (size_t at = 0; at < size;) {
		size_t end = at;
		while (end < size && form[end] != '&')
			end++;
		if (!take_field(form + at, end - at, wanted, count))
			return false;
		at = end + 1;
	}
	return true;
}

void base64(const u8 *bytes, size_t size, char *into)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < size; i += 3, into += 4) {
		u32 rest = size - i < 3 ? (u32)(size - i) : 3;
		u32 word = (u32)bytes[i] << 16 | (rest > 1 ? (u32)bytes[i + 1] << 8 : 0) | (rest > 2 ? bytes[i + 2] : 0);
		into[0] = digits[word >> 18];
		into[1] = digits[word >> 12 & 63];
		into[2] = rest > 1 ? digits[word >> 6 & 63] : '=';
		into[3] = rest > 2 ? digits[word & 63] : '=';
	}
}

bool uuid_read(const char *text, size_t size, u8 uuid[16])
{
	u32 digits = 0;
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '-')
			continue;
		int value = digit(text[i]);
		if (value < 0 || digits == 32)
			return false;
		uuid[digits / 2] = (u8)(digits % 2 ? uuid[digits / 2] << 4 | value : value);
		digits++;
	}
	return digits == 32;
}
