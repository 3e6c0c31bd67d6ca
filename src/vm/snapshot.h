/*
 * Snapshots: the whole machine, at any instruction boundary, as a file. snapshot.c knows the order, snapshot_machine.c and
 * snapshot_memory.c what stands in a section, snapshot_stream.c how sections become bytes, snapshot_file.c how these become a file that
 * is either complete or refused.
 *
 *	"UMBRASNP", version, CRC
 *	section: name (8), length (8), digest (8), CRC (4), number (4), CRC of these (4), zero (4); then length bytes
 *	  config    what the machine is made of, and the constants of its time
 *	  machine   clock, turns
 *	  slots     where guest memory lies
 *	  cpu       one a processor: registers, events, its APIC, the state of a nested guest
 *	  board     devices, and the lines between them
 *	  timers    when they expire, in the order in which they do
 *	  ram       up to 1 MiB of guest memory each; what is zero is left out
 *	  end       number of sections, digest of all their headers; nothing follows
 *
 * All numbers are little-endian. Not saved: what is derived (roles, shadow pages, TLBs, blocks), who holds the machine (its consoles, its
 * limits, its MMU mode), counters and the history that reports tell.
 *
 * What is loaded is hostile. A machine comes into being only if the end was reached and every check held; a refusal says why in a line.
 */
#ifndef UMBRA_VM_SNAPSHOT_H
#define UMBRA_VM_SNAPSHOT_H

#include "base/digest.h"
#include "base/pack.h"
#include "vm/vm.h"

#define SNAPSHOT_MAGIC "UMBRASNP"
#define SNAPSHOT_VERSION 1u

/* Takes all bytes; false after which nothing more is written. */
struct snapshot_sink {
	bool (*write)(void *opaque, const void *bytes, size_t length);
	void *opaque;
};

/* Gives up to `length` bytes, fewer only at the end. */
struct snapshot_source {
	size_t (*read)(void *opaque, void *bytes, size_t length);
	void *opaque;
};

/*
 * Writes the machine to a sink. Between runs, or in a checkpoint function. False, with *err: a client still has to answer an access
 * (ERR_USAGE), the sink failed (ERR_OPEN), or the host has no memory. name is the subject of errors.
 */
bool machine_save(struct machine *machine, const struct snapshot_sink *sink, const char *name, struct err *err);
/*
 * A machine that goes on where the saved one was. config: as for machine_create(), for everything that is not the guest's business. Of
 * the rest, memory, cpus and cpu are compared with the snapshot if they are not 0 (NULL); all others come from it. NULL with *err:
 * ERR_IMAGE for what is wrong in the bytes, ERR_USAGE for another configuration.
 */
struct machine *machine_restore(const struct snapshot_source *source, const struct machine_config *config, const char *name,
				struct err *err);

/*
 * The same with a file. Saving replaces a file of that name only when the new one is complete and on the disk, and removes the parts of it
 * that killed processes left (snapshot_file.c).
 */
bool machine_save_file(struct machine *machine, const char *path, struct err *err);
struct machine *machine_restore_file(const char *path, const struct machine_config *config, struct err *err);

/* ---- sections (snapshot_stream.c) --------------------------------------------------------------------------------------- */

struct snapshot_writer {
	const struct snapshot_sink *sink;
	struct digest headers;
	uint32_t count;
	const char *name;
	struct err *err;
	bool failed;
};

struct snapshot_reader {
	const struct snapshot_source *source;
	struct digest headers;
	uint32_t count;
	const char *name;   /* of the snapshot */
	struct err *err;
	bool failed;
	char section[9];    /* the present one */
	uint8_t *bytes;     /* of it; owned */
	struct pack pack;   /* over them */
};

void snapshot_writer_begin(struct snapshot_writer *writer, const struct snapshot_sink *sink, const char *name, struct err *err);
/* Ends a section that was packed, and releases the pack. */
void snapshot_write(struct snapshot_writer *writer, const char *section, struct pack *pack);
/* The last one. False if anything failed. */
bool snapshot_writer_end(struct snapshot_writer *writer);

void snapshot_reader_begin(struct snapshot_reader *reader, const struct snapshot_source *source, const char *name, struct err *err);
/* Reads the next section, whatever it is, into reader->pack. False: the snapshot is refused. */
bool snapshot_read(struct snapshot_reader *reader);
/* Reads a section that has to be of this name. */
bool snapshot_expect(struct snapshot_reader *reader, const char *section);
/* The section has been unpacked: refuses if its pack failed or has something left. */
bool snapshot_section_done(struct snapshot_reader *reader);
/* The present section is "end": the last checks. */
bool snapshot_reader_end(struct snapshot_reader *reader);
void snapshot_reader_finish(struct snapshot_reader *reader);
/* Always false. */
bool snapshot_refuse(struct snapshot_reader *reader, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- contents (snapshot_machine.c, snapshot_memory.c) ------------------------------------------------------------------- */

#define SNAPSHOT_CPU_TEXT 4096u

/* Section "config", as it is in the file. */
struct snapshot_config {
	char cpu[SNAPSHOT_CPU_TEXT];
	uint64_t memory;
	uint32_t cpus;
	bool board, debug_exit, unclaimed_exits, host_fpu;
	uint8_t smram; /* enum machine_smram */
	int64_t rtc_seconds;
};

void snapshot_config_of(const struct machine *machine, struct snapshot_config *ret_config);
void snapshot_config_state(struct snapshot_config *config, struct pack *pack);
void snapshot_machine_state(struct machine *machine, struct pack *pack);
void snapshot_cpu_state(struct machine_cpu *cpu, struct pack *pack);
void snapshot_board_state(struct machine *machine, struct pack *pack);
void snapshot_timers_state(struct machine *machine, struct pack *pack);
/* All sections have been unpacked: derives the rest. */
void snapshot_loaded(struct machine *machine);

void snapshot_slots_state(struct machine *machine, struct pack *pack);
void snapshot_write_memory(struct machine *machine, struct snapshot_writer *writer);
/* One "ram" section. The slots are new, and hold zeros. */
void snapshot_load_memory(struct machine *machine, struct pack *pack);

#endif
