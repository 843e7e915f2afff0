/* An image: the memory of an interpreter that has loaded our modules, in a file that later starts map.
 *
 * It is good for one build of this program, one place of the package and one interpreter beside it (the key), and as
 * long as each source is the one that was loaded.
 */
#ifndef PYRKT_IMAGE_H
#define PYRKT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct source {
	int64_t modified_ns, size;
	const char *path; /* below the package's place */
};

/* IMAGE_NONE: there is none, or it is of other sources; a new one helps.  IMAGE_IN_THE_WAY: no image can be mapped here. */
enum image { IMAGE_LOADED, IMAGE_NONE, IMAGE_IN_THE_WAY };

/* Replaces this program's variables and maps the heap. */
enum image image_load(const char *path, const char *place, const char *key);

bool image_save(const char *path, const char *key, const struct source *sources, uint32_t count);

#endif
