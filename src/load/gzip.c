/*
 * Images in a gzip file (RFC 1952), inflated before anybody looks at them; zlib does the work. What comes out is bounded by the caller:
 * a few kilobytes can inflate to many gigabytes.
 */
#include "load/image.h"

#include <string.h>
#include <zlib.h>

#include "base/alloc.h"

#define FIRST_CAPACITY (1u << 16)
#define GZIP_FORMAT (15 + 16) /* the largest window; a gzip header, and nothing else, is expected */
#define INPUT_PIECE (1u << 30)/* zlib counts in 32 bits */

struct inflation {
	z_stream stream;
	const uint8_t *input;
	size_t input_left;
	uint8_t *bytes;
	size_t length, capacity;
	uint64_t limit;
};

bool image_is_packed(const uint8_t *bytes, size_t length)
{
	return length >= 3 && bytes[0] == 0x1f && bytes[1] == 0x8b && bytes[2] == Z_DEFLATED;
}

/* Room for at least one byte more; false at the limit (then err is set) or without memory. */
static bool make_room(struct inflation *job, const char *name, struct err *err)
{
	if (job->length < job->capacity)
		return true;
	if (job->capacity >= job->limit)
		return err_set(err, ERR_IMAGE, "%s: inflates to more than the %llu MiB of guest memory; raise --memory", name,
			       (unsigned long long)(job->limit >> 20));
	size_t capacity = (size_t)MIN(job->capacity ? (uint64_t)job->capacity * 2 : FIRST_CAPACITY, job->limit);
	uint8_t *bytes = mem_realloc(job->bytes, capacity, 1);
	if (!bytes)
		return err_set(err, ERR_INTERNAL, "%s: out of host memory while it is inflated", name);
	job->bytes = bytes;
	job->capacity = capacity;
	return true;
}

static void feed(struct inflation *job)
{
	if (job->stream.avail_in || !job->input_left)
		return;
	size_t piece = MIN(job->input_left, INPUT_PIECE);
	job->stream.next_in = (Bytef *)job->input;
	job->stream.avail_in = (uInt)piece;
	job->input += piece;
	job->input_left -= piece;
}

/* One call of zlib: moves what fits. */
static int step(struct inflation *job)
{
	size_t room = MIN(job->capacity - job->length, INPUT_PIECE);
	job->stream.next_out = job->bytes + job->length;
	job->stream.avail_out = (uInt)room;
	int status = inflate(&job->stream, Z_NO_FLUSH);
	job->length += room - job->stream.avail_out;
	return status;
}

/* A gzip file may have several members, one behind the other. What follows the last and is none, such as padding, is ignored. */
static bool another_member(struct inflation *job)
{
	feed(job);
	return job->stream.avail_in >= 3 && image_is_packed(job->stream.next_in, job->stream.avail_in) &&
	       inflateReset(&job->stream) == Z_OK;
}

static bool run(struct inflation *job, const char *name, struct err *err)
{
	for (;;) {
		feed(job);
		bool starved = !job->stream.avail_in;
		if (!make_room(job, name, err))
			return false;
		int status = step(job);
		if (status == Z_STREAM_END) {
			if (!another_member(job))
				return true;
		} else if (status == Z_MEM_ERROR) {
			return err_set(err, ERR_INTERNAL, "%s: out of host memory while it is inflated", name);
		} else if (status == Z_BUF_ERROR || (status == Z_OK && starved && job->length < job->capacity)) {
			return err_set(err, ERR_IMAGE, "%s: truncated: the gzip file ends before its contents do", name);
		} else if (status != Z_OK) {
			return err_set(err, ERR_IMAGE, "%s: a damaged gzip file: %s", name,
				       job->stream.msg ? job->stream.msg : "it does not inflate");
		}
	}
}

bool image_unpack(const char *name, const uint8_t *bytes, size_t length, uint64_t limit, uint8_t **ret_bytes, size_t *ret_length,
		  struct err *err)
{
	struct inflation job = {.input = bytes, .input_left = length, .limit = limit};

	if (!image_is_packed(bytes, length))
		return err_set(err, ERR_IMAGE, "%s: no gzip file", name);
	if (inflateInit2(&job.stream, GZIP_FORMAT) != Z_OK)
		return err_set(err, ERR_INTERNAL, "%s: out of host memory while it is inflated", name);
	bool done = run(&job, name, err);
	inflateEnd(&job.stream);
	if (!done) {
		mem_free(job.bytes);
		return false;
	}
	*ret_bytes = job.bytes;
	*ret_length = job.length;
	return true;
}

void image_release(uint8_t *bytes)
{
	mem_free(bytes);
}
