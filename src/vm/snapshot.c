/* Saving and restoring a machine: the order of the sections, and a machine from a configuration that was read. See snapshot.h. */
#include "vm/snapshot.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"

/* ---- saving ------------------------------------------------------------------------------------------------------------- */

static void write_config(struct machine *machine, struct snapshot_writer *writer)
{
	struct snapshot_config config;
	struct pack pack;

	snapshot_config_of(machine, &config);
	pack_save(&pack);
	snapshot_config_state(&config, &pack);
	snapshot_write(writer, "config", &pack);
}

static void write_section(struct machine *machine, struct snapshot_writer *writer, const char *name,
			  void (*state)(struct machine *, struct pack *))
{
	struct pack pack;

	pack_save(&pack);
	state(machine, &pack);
	snapshot_write(writer, name, &pack);
}

static void write_cpu(struct machine_cpu *cpu, struct snapshot_writer *writer)
{
	struct pack pack;

	pack_save(&pack);
	snapshot_cpu_state(cpu, &pack);
	snapshot_write(writer, "cpu", &pack);
}

bool machine_save(struct machine *machine, const struct snapshot_sink *sink, const char *name, struct err *err)
{
	struct snapshot_writer writer;

	if (machine->dead || machine->running)
		return err_set(err, ERR_USAGE, "%s: the machine %s", name,
			       machine->dead ? "is dead after a bug" : "is running an instruction");
	snapshot_writer_begin(&writer, sink, name, err);
	write_config(machine, &writer);
	write_section(machine, &writer, "machine", snapshot_machine_state);
	write_section(machine, &writer, "slots", snapshot_slots_state);
	for (unsigned n = 0; n < machine->count; n++)
		write_cpu(&machine->cpus[n], &writer);
	write_section(machine, &writer, "board", snapshot_board_state);
	write_section(machine, &writer, "timers", snapshot_timers_state);
	snapshot_write_memory(machine, &writer);
	return snapshot_writer_end(&writer);
}

/* ---- a machine from a configuration ------------------------------------------------------------------------------------- */

/* The first setting in which two texts of models differ, with a sign for each: "+nx" and "-nx". */
static bool models_differ(const char *saved, const char *other, char ret_saved[64], char ret_other[64])
{
	while (*saved || *other) {
		size_t a = strcspn(saved, ","), b = strcspn(other, ",");
		if (a != b || memcmp(saved, other, a)) {
			snprintf(ret_saved, 64, "%.*s", (int)MIN(a, (size_t)60), saved);
			snprintf(ret_other, 64, "%.*s", (int)MIN(b, (size_t)60), other);
			return true;
		}
		saved += a + (saved[a] == ',');
		other += b + (other[b] == ',');
	}
	return false;
}

static void text_of(const struct cpu_model *model, char ret_text[SNAPSHOT_CPU_TEXT])
{
	struct strbuf text;

	strbuf_init(&text);
	cpu_model_text(model, &text);
	snprintf(ret_text, SNAPSHOT_CPU_TEXT, "%s", strbuf_text(&text));
	strbuf_finish(&text);
}

/* Whether the text has the setting among its words. */
static bool has_word(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += length)
		if (at > text && at[-1] == ',' && (at[length] == ',' || !at[length]))
			return true;
	return false;
}

/*
 * The saved text names every feature that there was. Those that came to umbra since then are switched off here; one that is gone, or
 * that needs another now, refuses the snapshot.
 */
static bool complete_model(struct snapshot_reader *reader, struct snapshot_config *saved)
{
	char word[64];

	for (unsigned n = 0; cpu_feature_name(n); n++) {
		size_t length = strlen(saved->cpu);
		snprintf(word, sizeof(word), "+%s", cpu_feature_name(n));
		bool present = has_word(saved->cpu, word);
		word[0] = '-';
		if (!present && !has_word(saved->cpu, word) && length + strlen(word) + 2 < sizeof(saved->cpu))
			snprintf(saved->cpu + length, sizeof(saved->cpu) - length, ",%s", word);
	}
	char mine[SNAPSHOT_CPU_TEXT];
	struct cpu_model model;
	struct err err;
	if (!cpu_model_parse(saved->cpu, &model, &err))
		return snapshot_refuse(reader, "its processor is none of this umbra's: %.200s", err.text);
	text_of(&model, mine);
	for (unsigned n = 0; cpu_feature_name(n); n++) {
		snprintf(word, sizeof(word), "+%s", cpu_feature_name(n));
		if (has_word(saved->cpu, word) != has_word(mine, word))
			return snapshot_refuse(reader, "its processor's feature %s is not as this umbra has it", word + 1);
	}
	return true;
}

static bool mismatch(struct snapshot_reader *reader, const char *what, const char *saved, const char *wanted)
{
	reader->failed = true;
	return err_set(reader->err, ERR_USAGE, "%s: the snapshot has %s %s, and %s is asked for; leave the option out", reader->name, what,
		       saved, wanted);
}

static bool compare_numbers(struct snapshot_reader *reader, const struct snapshot_config *saved, const struct machine_config *config)
{
	char theirs[40], mine[40];

	if (config->memory && config->memory != saved->memory) {
		snprintf(theirs, sizeof(theirs), "%llu KiB", (unsigned long long)saved->memory >> 10);
		snprintf(mine, sizeof(mine), "%llu KiB", (unsigned long long)config->memory >> 10);
		return mismatch(reader, "memory of", theirs, mine);
	}
	if (config->cpus && config->cpus != saved->cpus) {
		snprintf(theirs, sizeof(theirs), "%u", saved->cpus);
		snprintf(mine, sizeof(mine), "%u", config->cpus);
		return mismatch(reader, "processors:", theirs, mine);
	}
	return true;
}

static bool compare_model(struct snapshot_reader *reader, const struct snapshot_config *saved, const struct machine_config *config)
{
	char text[SNAPSHOT_CPU_TEXT], saved_text[SNAPSHOT_CPU_TEXT], theirs[64], mine[64];
	struct cpu_model model, saved_model;

	if (!config->cpu)
		return true;
	bool known = config->cpu_is_qemu ? cpu_model_parse_qemu(config->cpu, &model, reader->err) :
					   cpu_model_parse(config->cpu, &model, reader->err);
	if (!known) {
		reader->failed = true;
		return false;
	}
	if (!cpu_model_parse(saved->cpu, &saved_model, reader->err))
		return false;
	text_of(&model, text);
	text_of(&saved_model, saved_text); /* in this version's order */
	return !models_differ(saved_text, text, theirs, mine) || mismatch(reader, "a processor with", theirs, mine);
}

static struct machine *create(struct snapshot_reader *reader, const struct machine_config *config)
{
	struct snapshot_config saved = {.cpus = 0};
	struct machine_config full = *config;
	struct err err;

	if (!snapshot_expect(reader, "config"))
		return NULL;
	snapshot_config_state(&saved, &reader->pack);
	if (!snapshot_section_done(reader) || !complete_model(reader, &saved) || !compare_numbers(reader, &saved, config) ||
	    !compare_model(reader, &saved, config))
		return NULL;
	full.board = saved.board;
	full.memory = saved.memory;
	full.cpus = saved.cpus;
	full.cpu = saved.cpu;
	full.cpu_is_qemu = false;
	full.debug_exit = saved.debug_exit;
	full.unclaimed_exits = saved.unclaimed_exits;
	full.host_fpu = saved.host_fpu;
	full.smram = saved.smram;
	full.rtc_seconds = saved.rtc_seconds;
	struct machine *machine = machine_create(&full, &err);
	if (!machine)
		snapshot_refuse(reader, "%.280s", err.text);
	return machine;
}

/* ---- restoring ---------------------------------------------------------------------------------------------------------- */

static bool load_section(struct machine *machine, struct snapshot_reader *reader, const char *name,
			 void (*state)(struct machine *, struct pack *))
{
	if (!snapshot_expect(reader, name))
		return false;
	state(machine, &reader->pack);
	return snapshot_section_done(reader);
}

static bool load_cpu(struct machine_cpu *cpu, struct snapshot_reader *reader)
{
	if (!snapshot_expect(reader, "cpu"))
		return false;
	snapshot_cpu_state(cpu, &reader->pack);
	return snapshot_section_done(reader);
}

/* "ram" sections up to the end. */
static bool load_memory(struct machine *machine, struct snapshot_reader *reader)
{
	while (snapshot_read(reader)) {
		if (!strcmp(reader->section, "end"))
			return snapshot_reader_end(reader);
		if (strcmp(reader->section, "ram"))
			return snapshot_refuse(reader, "section %s where ram or the end belongs", reader->section);
		snapshot_load_memory(machine, &reader->pack);
		if (!snapshot_section_done(reader))
			return false;
	}
	return false;
}

static bool load(struct machine *machine, struct snapshot_reader *reader)
{
	if (!load_section(machine, reader, "machine", snapshot_machine_state) ||
	    !load_section(machine, reader, "slots", snapshot_slots_state))
		return false;
	for (unsigned n = 0; n < machine->count; n++)
		if (!load_cpu(&machine->cpus[n], reader))
			return false;
	if (!load_section(machine, reader, "board", snapshot_board_state) ||
	    !load_section(machine, reader, "timers", snapshot_timers_state) || !load_memory(machine, reader))
		return false;
	snapshot_loaded(machine);
	return true;
}

/* A bug of ours in a load is a refusal, too. */
static bool load_guarded(struct machine *machine, struct snapshot_reader *reader)
{
	struct bug_trap trap;

	bug_trap_arm(&trap);
	if (setjmp(trap.env)) {
		machine_end_bug(machine, trap.file, trap.line, trap.what);
		reader->failed = true;
		return err_set(reader->err, ERR_INTERNAL, "%s: %.300s", reader->name, machine->end.text);
	}
	bool good = load(machine, reader);
	bug_trap_disarm(&trap);
	return good;
}

struct machine *machine_restore(const struct snapshot_source *source, const struct machine_config *config, const char *name,
				struct err *err)
{
	struct snapshot_reader reader;
	struct machine *machine = NULL;

	snapshot_reader_begin(&reader, source, name, err);
	if (!reader.failed)
		machine = create(&reader, config);
	if (machine && !load_guarded(machine, &reader)) {
		machine_destroy(machine);
		machine = NULL;
	}
	snapshot_reader_finish(&reader);
	return machine;
}
