/* Images in gzip files: what comes out, the limit, members in a row, and every way of being broken. */
#include "images.h"

#include <zlib.h>

#include "base/alloc.h"

#define LIMIT (64ull << 20)

/* The bytes as one gzip member; room behind it is the caller's. */
static size_t pack(const uint8_t *bytes, size_t length, uint8_t *packed, size_t room)
{
	z_stream stream = {.next_in = (Bytef *)bytes, .avail_in = (uInt)length, .next_out = packed, .avail_out = (uInt)room};
	assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	deflateEnd(&stream);
	return stream.total_out;
}

static void fill(uint8_t *bytes, size_t length)
{
	uint32_t state = 1;
	for (size_t n = 0; n < length; n++)
		bytes[n] = (uint8_t)((state = state * 1664525 + 1013904223) >> (n % 3000 < 1500 ? 24 : 28));
}

static void expect_contents(const uint8_t *packed, size_t length, const uint8_t *wanted, size_t wanted_length)
{
	struct err err = {0};
	uint8_t *bytes;
	size_t got;
	if (!image_unpack("kernel.gz", packed, length, LIMIT, &bytes, &got, &err))
		fail_msg("%s", err.text);
	assert_int_equal(got, wanted_length);
	if (wanted_length)
		assert_memory_equal(bytes, wanted, wanted_length);
	image_release(bytes);
}

static void expect_failure(const uint8_t *packed, size_t length, uint64_t limit, enum err_code code, const char *part)
{
	struct err err = {0};
	uint8_t *bytes = (uint8_t *)1;
	size_t got = 77;
	assert_false(image_unpack("kernel.gz", packed, length, limit, &bytes, &got, &err));
	assert_int_equal(err.code, code);
	assert_ptr_equal(bytes, (uint8_t *)1);
	assert_int_equal(got, 77);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" does not contain \"%s\"", err.text, part);
	assert_ptr_equal(strstr(err.text, "kernel.gz"), err.text);
}

static void inflates(void **state)
{
	static const size_t lengths[] = {0, 1, 4096, 1 << 20, (1 << 20) + 1, 5 << 20};
	uint8_t *bytes = malloc(5 << 20), *packed = malloc(6 << 20);
	fill(bytes, 5 << 20);
	for (size_t n = 0; n < ARRAY_LEN(lengths); n++) {
		size_t length = pack(bytes, lengths[n], packed, 6 << 20);
		assert_true(image_is_packed(packed, length));
		expect_contents(packed, length, bytes, lengths[n]);
		memset(packed + length, 0, 512); /* padding */
		expect_contents(packed, length + 512, bytes, lengths[n]);
		length += pack(bytes + lengths[n], 0, packed + length, 1 << 16);
		expect_contents(packed, length, bytes, lengths[n]);
	}
	size_t length = pack(bytes, 3 << 20, packed, 6 << 20);
	length += pack(bytes + (3 << 20), 2 << 20, packed + length, (6 << 20) - length);
	expect_contents(packed, length, bytes, 5 << 20);
	free(bytes);
	free(packed);
}

/* A thousandth of its contents: exactly the limit is fine, one byte more is not. */
static void stops_at_the_limit(void **state)
{
	uint8_t *zeros = calloc(16, 1 << 20), *packed = malloc(1 << 20);
	size_t length = pack(zeros, 16 << 20, packed, 1 << 20);
	struct err err = {0};
	uint8_t *bytes;
	size_t got;
	assert_true(image_unpack("kernel.gz", packed, length, 16 << 20, &bytes, &got, &err) && got == 16 << 20);
	image_release(bytes);
	expect_failure(packed, length, (16 << 20) - 1, ERR_IMAGE, "more than the 15 MiB of guest memory");
	expect_failure(packed, length, 1, ERR_IMAGE, "more than the 0 MiB");
	expect_failure(packed, length, 0, ERR_IMAGE, "more than the 0 MiB");
	free(zeros);
	free(packed);
}

static void refuses_what_is_broken(void **state)
{
	uint8_t bytes[800], packed[4096];
	fill(bytes, sizeof(bytes));
	size_t length = pack(bytes, sizeof(bytes), packed, sizeof(packed));
	for (size_t cut = 3; cut < length; cut++) {
		uint8_t *exact = malloc(cut);
		memcpy(exact, packed, cut);
		expect_failure(exact, cut, LIMIT, ERR_IMAGE, "truncated");
		free(exact);
	}
	for (size_t at = 10; at < length; at++) { /* the header's time and flags may be anything */
		struct err err = {0};
		uint8_t *got = NULL;
		size_t got_length = 0;
		packed[at] ^= 0x40;
		/* Some bits mean nothing: lengths of codes that do not occur, the rest of the last byte. */
		if (image_unpack("kernel.gz", packed, length, LIMIT, &got, &got_length, &err))
			assert_true(at < length - 8 && got_length == sizeof(bytes) && memcmp(got, bytes, got_length) == 0);
		else
			assert_int_equal(err.code, ERR_IMAGE);
		image_release(got);
		packed[at] ^= 0x40;
	}
	expect_failure((const uint8_t *)"\x1f\x8b", 2, LIMIT, ERR_IMAGE, "no gzip file");
	expect_failure((const uint8_t *)"\x1f\x8b\x07xxxxxxxxxx", 13, LIMIT, ERR_IMAGE, "no gzip file");
	expect_failure((const uint8_t *)"\x1f\x8b\x08\xff\0\0\0\0\0\0", 10, LIMIT, ERR_IMAGE, "damaged");
}

static void survives_without_memory(void **state)
{
	uint8_t bytes[800], packed[4096];
	fill(bytes, sizeof(bytes));
	size_t length = pack(bytes, sizeof(bytes), packed, sizeof(packed));
	alloc_fail_after(0);
	expect_failure(packed, length, LIMIT, ERR_INTERNAL, "out of host memory");
	alloc_fail_after(-1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inflates),
		cmocka_unit_test(stops_at_the_limit),
		cmocka_unit_test(refuses_what_is_broken),
		cmocka_unit_test(survives_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
