/*
 * A load plan: which bytes will lie where in guest memory. Loaders add pieces; each is checked against the memory map, the
 * reserved areas and all earlier pieces when it is added, and nothing reaches the guest before plan_commit.
 *
 * Private to load/.
 */
#ifndef UMBRA_LOAD_PLAN_H
#define UMBRA_LOAD_PLAN_H

#include <string.h>

#include "base/strbuf.h"
#include "load/image.h"

#define PLAN_MAX_PIECES 192
#define PLAN_4G (1ull << 32)
#define PLAN_1M 0x100000ull
#define PLAN_LOW_END 0xa0000ull

struct plan_piece {
	gpa_t gpa;
	uint64_t span;        /* bytes of guest memory; what `length` does not fill is zeroed */
	const uint8_t *bytes; /* into the request, or owned */
	uint64_t length;
	void *owned; /* released with the plan */
	bool kept;   /* nothing is written: the range only stays free of other pieces */
};

struct plan {
	const struct load_request *request;
	struct plan_piece pieces[PLAN_MAX_PIECES];
	unsigned count;
	unsigned image_count; /* how many of them are the image itself; set by plan_image_done */
};

void plan_init(struct plan *plan, const struct load_request *request);
void plan_finish(struct plan *plan);

/* Puts length bytes at gpa and zeroes up to span. what names the piece in errors. A span of zero adds nothing. */
bool plan_put(struct plan *plan, const char *what, gpa_t gpa, const uint8_t *bytes, uint64_t length, uint64_t span,
	      struct err *err);
/* As plan_put, for bytes that the plan takes over: buffer is empty afterwards, also on failure. */
bool plan_put_buffer(struct plan *plan, const char *what, gpa_t gpa, struct strbuf *buffer, struct err *err);
/* Keeps a range of RAM free of other pieces without writing to it. A span of zero keeps nothing. */
bool plan_keep(struct plan *plan, const char *what, gpa_t gpa, uint64_t span, struct err *err);
/* Marks the end of the image's own pieces. */
void plan_image_done(struct plan *plan);
/* Lowest and first-beyond-highest address of the image's pieces. */
void plan_image_extent(const struct plan *plan, gpa_t *ret_low, gpa_t *ret_high);

/* Finds free RAM within [floor, ceiling), the lowest or the highest place. Adds nothing. */
bool plan_find_lowest(const struct plan *plan, gpa_t floor, gpa_t ceiling, uint64_t size, uint64_t alignment, gpa_t *ret_gpa);
bool plan_find_highest(const struct plan *plan, gpa_t floor, gpa_t ceiling, uint64_t size, uint64_t alignment, gpa_t *ret_gpa);
/* Room for boot information: as high as possible in conventional memory, else above the first MiB and below 4 GiB. */
bool plan_find_low(const struct plan *plan, const char *what, uint64_t size, uint64_t alignment, gpa_t *ret_gpa, struct err *err);

enum plan_modules { MODULES_ABOVE_IMAGE, MODULES_HIGH };
/* Places every module of the request, page aligned below 4 GiB; ret_gpa has LOAD_MAX_MODULES elements. */
bool plan_modules(struct plan *plan, enum plan_modules where, gpa_t *ret_gpa, struct err *err);

/* Writes everything to the guest. */
bool plan_commit(const struct plan *plan, const struct load_target *target, struct err *err);

/* A value from an untrusted file at an offset; false when it does not lie within length bytes. */
static inline bool bytes_get(const uint8_t *bytes, uint64_t length, uint64_t offset, void *ret_value, size_t size)
{
	if (offset > length || length - offset < size)
		return false;
	memcpy(ret_value, bytes + offset, size);
	return true;
}

static inline bool bytes_get32(const uint8_t *bytes, uint64_t length, uint64_t offset, uint32_t *ret_value)
{
	return bytes_get(bytes, length, offset, ret_value, sizeof(*ret_value));
}

/* Appends a text with its terminating zero; NULL is the empty text. */
static inline void bytes_add_text(struct strbuf *buffer, const char *text)
{
	strbuf_add(buffer, text ? text : "", text ? strlen(text) + 1 : 1);
}

/* Fills err with ERR_IMAGE and the kernel's name as its subject; returns false. */
#define plan_refuse(plan, err, format, ...) err_set(err, ERR_IMAGE, "%s: " format, (plan)->request->name, ##__VA_ARGS__)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "boot information is copied to the guest as it lies in memory");

#endif
