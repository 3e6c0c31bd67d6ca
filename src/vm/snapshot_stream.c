/* Sections as bytes, see snapshot.h: each is checked as a whole before anybody looks into it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "vm/snapshot.h"

#define NAME_SIZE 8u
#define FILE_HEADER_SIZE 16u
#define HEADER_SIZE 40u
#define HEADER_CHECKED 32u

/* The most that a section of each name may hold. */
static const struct {
	char name[NAME_SIZE + 1];
	uint32_t limit;
} sections[] = {
	{"config", 8192}, {"machine", 4096}, {"slots", 65536}, {"cpu", 65536}, {"board", 262144}, {"timers", 65536},
	{"ram", (1 << 20) + 4096}, {"end", 64},
};

static void put(uint8_t *bytes, uint64_t value, unsigned size)
{
	for (unsigned n = 0; n < size; n++)
		bytes[n] = (uint8_t)(value >> 8 * n);
}

static uint64_t get(const uint8_t *bytes, unsigned size)
{
	uint64_t value = 0;
	for (unsigned n = 0; n < size; n++)
		value |= (uint64_t)bytes[n] << 8 * n;
	return value;
}

static uint32_t crc_of(const void *bytes, size_t length)
{
	return (uint32_t)crc32(0, bytes, (uInt)length);
}

static uint64_t digest_of(const void *bytes, size_t length)
{
	struct digest digest;

	digest_init(&digest);
	digest_bytes(&digest, bytes, length);
	return digest_value(&digest);
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static void write_bytes(struct snapshot_writer *writer, const void *bytes, size_t length)
{
	if (!writer->failed && length && !writer->sink->write(writer->sink->opaque, bytes, length)) {
		err_set(writer->err, ERR_OPEN, "%s: could not be written whole; is the disk full?", writer->name);
		writer->failed = true;
	}
}

void snapshot_writer_begin(struct snapshot_writer *writer, const struct snapshot_sink *sink, const char *name, struct err *err)
{
	uint8_t header[FILE_HEADER_SIZE];

	*writer = (struct snapshot_writer){.sink = sink, .name = name, .err = err};
	digest_init(&writer->headers);
	memcpy(header, SNAPSHOT_MAGIC, 8);
	put(header + 8, SNAPSHOT_VERSION, 4);
	put(header + 12, crc_of(header, 12), 4);
	write_bytes(writer, header, sizeof(header));
}

static void make_header(uint8_t header[HEADER_SIZE], const char *section, uint32_t number, const void *bytes, size_t length)
{
	memset(header, 0, HEADER_SIZE);
	memcpy(header, section, strlen(section));
	put(header + 8, length, 8);
	put(header + 16, digest_of(bytes, length), 8);
	put(header + 24, crc_of(bytes, length), 4);
	put(header + 28, number, 4);
	put(header + HEADER_CHECKED, crc_of(header, HEADER_CHECKED), 4);
}

void snapshot_write(struct snapshot_writer *writer, const char *section, struct pack *pack)
{
	uint8_t header[HEADER_SIZE];

	if (!writer->failed && pack->failed) {
		err_set(writer->err, pack->starved ? ERR_INTERNAL : ERR_USAGE, "%s: the machine cannot be saved now: %s", writer->name,
			pack->why);
		writer->failed = true;
	}
	if (!writer->failed) {
		make_header(header, section, writer->count++, pack->bytes, pack->length);
		digest_bytes(&writer->headers, header, sizeof(header));
		write_bytes(writer, header, sizeof(header));
		write_bytes(writer, pack->bytes, pack->length);
	}
	pack_finish(pack);
}

bool snapshot_writer_end(struct snapshot_writer *writer)
{
	uint64_t headers = digest_value(&writer->headers);
	struct pack pack;

	pack_save(&pack);
	PACK(&pack, writer->count);
	PACK(&pack, headers);
	snapshot_write(writer, "end", &pack);
	return !writer->failed;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

bool snapshot_refuse(struct snapshot_reader *reader, const char *format, ...)
{
	char text[300];
	va_list arguments;

	if (reader->failed)
		return false;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	reader->failed = true;
	return err_set(reader->err, ERR_IMAGE, "%s: %s", reader->name, text);
}

static bool read_bytes(struct snapshot_reader *reader, void *bytes, size_t length)
{
	if (reader->failed)
		return false;
	return reader->source->read(reader->source->opaque, bytes, length) == length ||
	       snapshot_refuse(reader, "the snapshot is torn: it ends in the middle");
}

void snapshot_reader_begin(struct snapshot_reader *reader, const struct snapshot_source *source, const char *name, struct err *err)
{
	uint8_t header[FILE_HEADER_SIZE];

	*reader = (struct snapshot_reader){.source = source, .name = name, .err = err};
	digest_init(&reader->headers);
	pack_load(&reader->pack, NULL, 0);
	if (source->read(source->opaque, header, sizeof(header)) != sizeof(header) || memcmp(header, SNAPSHOT_MAGIC, 8)) {
		snapshot_refuse(reader, "not a snapshot");
		return;
	}
	uint64_t version = get(header + 8, 4);
	if (get(header + 12, 4) != crc_of(header, 12))
		snapshot_refuse(reader, "the snapshot is damaged: its first line has another checksum");
	else if (version != SNAPSHOT_VERSION)
		snapshot_refuse(reader, "a snapshot of version %llu; this umbra reads version %u", (unsigned long long)version,
				SNAPSHOT_VERSION);
}

static bool find_limit(const char *name, uint64_t *ret_limit)
{
	for (size_t n = 0; n < ARRAY_LEN(sections); n++) {
		if (!strcmp(sections[n].name, name)) {
			*ret_limit = sections[n].limit;
			return true;
		}
	}
	return false;
}

/* The header, which is sound, against what a section may be. */
static bool check_header(struct snapshot_reader *reader, const uint8_t header[HEADER_SIZE])
{
	uint64_t limit, length = get(header + 8, 8);

	if (get(header + HEADER_CHECKED, 4) != crc_of(header, HEADER_CHECKED) || get(header + HEADER_CHECKED + 4, 4))
		return snapshot_refuse(reader, "the snapshot is damaged: the head of section %u has another checksum", reader->count);
	if (get(header + 28, 4) != reader->count)
		return snapshot_refuse(reader, "the snapshot is damaged: section %u is not the one that belongs there", reader->count);
	memcpy(reader->section, header, NAME_SIZE);
	if (!find_limit(reader->section, &limit))
		return snapshot_refuse(reader, "section %u is of no known kind", reader->count);
	return length <= limit || snapshot_refuse(reader, "%s: %llu bytes; at most %llu", reader->section, (unsigned long long)length,
						  (unsigned long long)limit);
}

static bool read_payload(struct snapshot_reader *reader, const uint8_t header[HEADER_SIZE])
{
	size_t length = (size_t)get(header + 8, 8);

	mem_free(reader->bytes);
	reader->bytes = mem_zalloc(length ? length : 1, 1);
	if (!reader->bytes) {
		reader->failed = true;
		return err_set(reader->err, ERR_INTERNAL, "%s: the host has no memory for it", reader->name);
	}
	if (!read_bytes(reader, reader->bytes, length))
		return false;
	if (crc_of(reader->bytes, length) != get(header + 24, 4) || digest_of(reader->bytes, length) != get(header + 16, 8))
		return snapshot_refuse(reader, "the snapshot is damaged: %s has another checksum", reader->section);
	pack_load(&reader->pack, reader->bytes, length);
	return true;
}

bool snapshot_read(struct snapshot_reader *reader)
{
	struct digest before = reader->headers;
	uint8_t header[HEADER_SIZE];

	if (!read_bytes(reader, header, sizeof(header)) || !check_header(reader, header) || !read_payload(reader, header))
		return false;
	digest_bytes(&reader->headers, header, sizeof(header));
	if (!strcmp(reader->section, "end"))
		reader->headers = before; /* what it tells of is all the others */
	else
		reader->count++;
	return true;
}

bool snapshot_expect(struct snapshot_reader *reader, const char *section)
{
	return snapshot_read(reader) && (!strcmp(reader->section, section) ||
					 snapshot_refuse(reader, "section %s where %s belongs", reader->section, section));
}

bool snapshot_section_done(struct snapshot_reader *reader)
{
	return pack_is_whole(&reader->pack) || snapshot_refuse(reader, "%s: %s", reader->section, reader->pack.why);
}

bool snapshot_reader_end(struct snapshot_reader *reader)
{
	uint64_t headers = 0;
	uint32_t count = 0;
	uint8_t more;

	PACK(&reader->pack, count);
	PACK(&reader->pack, headers);
	if (!snapshot_section_done(reader))
		return false;
	if (count != reader->count || headers != digest_value(&reader->headers))
		return snapshot_refuse(reader, "the snapshot is damaged: its sections are not those that were written");
	return reader->source->read(reader->source->opaque, &more, 1) == 0 ||
	       snapshot_refuse(reader, "the snapshot is damaged: something follows its end");
}

void snapshot_reader_finish(struct snapshot_reader *reader)
{
	mem_free(reader->bytes);
	reader->bytes = NULL;
}
