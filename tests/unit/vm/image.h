/* A snapshot in memory, for tests: what machine_save() writes to and machine_restore() reads from (vm/snapshot.h). */
#ifndef UMBRA_TEST_VM_IMAGE_H
#define UMBRA_TEST_VM_IMAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/snapshot.h"

struct image {
	uint8_t *bytes; /* to be freed */
	size_t length, capacity, at;
};

static bool image_write(void *opaque, const void *bytes, size_t length)
{
	struct image *image = opaque;

	while (image->length + length > image->capacity) {
		image->capacity = image->capacity ? image->capacity * 2 : 65536;
		image->bytes = realloc(image->bytes, image->capacity);
		if (!image->bytes) {
			fprintf(stderr, "image: no memory\n");
			abort();
		}
	}
	memcpy(image->bytes + image->length, bytes, length);
	image->length += length;
	return true;
}

static size_t image_read(void *opaque, void *bytes, size_t length)
{
	struct image *image = opaque;
	size_t some = MIN(length, image->length - image->at);

	memcpy(bytes, image->bytes + image->at, some);
	image->at += some;
	return some;
}

/* In place of what the image held. */
static inline bool image_save(struct image *image, struct machine *machine, struct err *err)
{
	const struct snapshot_sink sink = {image_write, image};

	image->length = image->at = 0;
	return machine_save(machine, &sink, "snapshot", err);
}

static inline struct machine *image_restore(struct image *image, const struct machine_config *config, struct err *err)
{
	const struct snapshot_source source = {image_read, image};

	image->at = 0;
	return machine_restore(&source, config, "snapshot", err);
}

#endif
