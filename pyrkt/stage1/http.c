/* HTTP/1.0 and 1.1 (RFC 9110, 9112), as much of it as small requests need; the rest is refused in its own words.
 *
 * A message is never guessed at: two lengths, a header that goes on in the next line, a space where none may be, end
 * the connection.
 */
#include "metadata.h"

struct line {
	const char *at;
	size_t size;
};

struct length {
	bool known;
	size_t bytes;
	bool chunked;
	bool coded; /* a Transfer-Encoding of whatever kind */
};

/* 1 and the line without its end; 0: the end is not there yet; -1: a character that may be in no line */
static int next_line(const char *data, size_t size, size_t *at, struct line *line)
{
	line->at = data + *at;
	for (size_t i = *at; i < size; i++) {
		if (data[i] == '\n') {
			line->size = i - *at;
			if (line->size && data[i - 1] == '\r')
				line->size--;
			*at = i + 1;
			return 1;
		}
		if (data[i] == '\r' && i + 1 < size && data[i + 1] != '\n')
			return -1;
		if (((u8)data[i] < ' ' && data[i] != '\r' && data[i] != '\t') || data[i] == 0x7f)
			return -1;
	}
	return 0;
}

static bool is_token(char c)
{
	static const char others[] = "!#$%&'*+-.^_`|~";
	if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
		return true;
	for (size_t i = 0; i < sizeof others - 1; i++)
		if (others[i] == c)
			return true;
	return false;
}

static size_t token(const char *at, size_t size)
{
	size_t used = 0;
	while (used < size && is_token(at[used]))
		used++;
	return used;
}

static bool same_word(const char *at, size_t size, const char *word) /* word: in small letters */
{
	for (size_t i = 0; i < size; i++) {
		char c = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] | 0x20) : at[i];
		if (!word[i] || c != word[i])
			return false;
	}
	return !word[size];
}

static bool starts(struct line line, const char *with)
{
	size_t size = strlen(with);
	return line.size >= size && memcmp(line.at, with, size) == 0;
}

static struct line trimmed(struct line line)
{
	while (line.size && (*line.at == ' ' || *line.at == '\t')) {
		line.at++;
		line.size--;
	}
	while (line.size && (line.at[line.size - 1] == ' ' || line.at[line.size - 1] == '\t'))
		line.size--;
	return line;
}

/* "http://host/path" is the same as "/path": whoever asks through a proxy writes it so. */
static long read_target(const char *data, struct line target, struct request *request)
{
	if (starts(target, "http://")) {
		size_t slash = strlen("http://");
		while (slash < target.size && target.at[slash] != '/')
			slash++;
		target.at += slash;
		target.size -= slash;
	}
	if (target.size && *target.at != '/')
		return -400;
	request->path = (size_t)(target.at - data);
	for (request->path_size = 0; request->path_size < target.size; request->path_size++)
		if (target.at[request->path_size] == '?')
			break;
	return 0;
}

static long read_first_line(const char *data, struct line line, struct request *request)
{
	static const struct {
		const char *name;
		enum method method;
	} methods[] = {{"GET", GET}, {"HEAD", HEAD}, {"POST", POST}};
	size_t method = token(line.at, line.size);
	if (!method || method == line.size || line.at[method] != ' ')
		return -400;
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
		if (strlen(methods[i].name) == method && !memcmp(line.at, methods[i].name, method))
			request->method = methods[i].method;
	struct line target = {line.at + method + 1, 0};
	size_t rest = line.size - method - 1;
	while (target.size < rest && target.at[target.size] != ' ' && target.at[target.size] != '\t')
		target.size++;
	struct line version = {target.at + target.size, rest - target.size};
	if (!target.size || !starts(version, " HTTP/"))
		return -400;
	if (version.size != strlen(" HTTP/1.1") || version.at[7] != '.' || version.at[8] < '0' || version.at[8] > '9')
		return -400;
	if (version.at[6] != '1')
		return -505;
	return read_target(data, target, request);
}

static long read_length(struct line value, struct length *length)
{
	size_t bytes = 0;
	if (length->known || !value.size)
		return -400;
	for (size_t i = 0; i < value.size; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return -400;
		if (bytes <= MOST_BODY)
			bytes = bytes * 10 + (size_t)(value.at[i] - '0');
	}
	length->known = true;
	length->bytes = bytes;
	return 0;
}

static void read_connection(struct line value, struct request *request)
{
	for (size_t at = 0; at < value.size; at++) {
		size_t size = token(value.at + at, value.size - at);
		if (same_word(value.at + at, size, "close"))
			request->keep = false;
		else if (same_word(value.at + at, size, "keep-alive") && request->old)
			request->keep = true;
		at += size;
	}
}

static long read_header(struct line line, struct request *request, struct length *length, bool *host)
{
	size_t name = token(line.at, line.size);
	if (!name || name == line.size || line.at[name] != ':')
		return -400;
	struct line value = trimmed((struct line){line.at + name + 1, line.size - name - 1});
	if (same_word(line.at, name, "content-length"))
		return read_length(value, length);
	if (same_word(line.at, name, "transfer-encoding")) {
		length->chunked = same_word(value.at, value.size, "chunked") && !length->coded;
		length->coded = true;
	} else if (same_word(line.at, name, "connection")) {
		read_connection(value, request);
	} else if (same_word(line.at, name, "expect")) {
		if (!same_word(value.at, value.size, "100-continue"))
			return -417;
		request->expects = !request->old;
	} else if (same_word(line.at, name, "host")) {
		if (*host)
			return -400;
		*host = true;
	} else if (same_word(line.at, name, "content-type")) {
		static const char form[] = "application/x-www-form-urlencoded";
		size_t size = sizeof form - 1;
		request->form = value.size >= size && same_word(value.at, size, form) &&
				(value.size == size || value.at[size] == ';' || value.at[size] == ' ');
	}
	return 0;
}

/* A length that we do not read, and one that contradicts another: RFC 9112, sections 6.1 and 6.3. */
static long judge_length(const struct length *length)
{
	if (length->coded)
		return length->known ? -400 : length->chunked ? -411 : -501;
	return length->bytes > MOST_BODY ? -413 : 0;
}

static long too_much(size_t lines)
{
	return lines ? -431 : -414;
}

long http_read(const char *data, size_t size, struct request *request)
{
	struct length length = {false, 0, false, false};
	struct line line = {data, 0};
	size_t at = 0, lines = 0, most = size < MOST_HEAD ? size : MOST_HEAD;
	bool host = false;
	memset(request, 0, sizeof *request);
	request->form = true;
	for (;;) {
		int found = next_line(data, most, &at, &line);
		if (found <= 0)
			return found < 0 ? -400 : most == MOST_HEAD ? too_much(lines) : 0;
		if (!line.size && !lines)
			continue; /* an empty line too many after the request before */
		if (!line.size)
			break;
		long r = lines++ ? read_header(line, request, &length, &host) : read_first_line(data, line, request);
		if (r < 0)
			return r;
		if (lines == 1) {
			request->old = line.at[line.size - 1] == '0';
			request->keep = !request->old;
		}
	}
	long r = judge_length(&length);
	if (r == 0 && !host && !request->old)
		r = -400;
	if (r < 0)
		return r;
	request->body = at;
	request->body_size = length.bytes;
	if (size - at >= length.bytes)
		return (long)(at + length.bytes);
	return 0;
}
