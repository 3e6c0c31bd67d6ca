/*
 * The oracle bench: instructions of the table with random states, on the host processor and in the machine, compared in everything.
 *
 * A comparison is one instruction with one input state whose complete output (registers, flags that are defined, memory, fault) reached the
 * comparer. Batches of EXECUTOR_BATCH states for one encoding run in a child process (executor.c) while the machine runs the batch
 * before. The first difference of an encoding is shrunk, as far as the difference stays, and printed as a case that --case takes.
 *
 * Usage: oracle [--seed N] [--count N] [--only OP] [--report FILE] [--save FILE] [--case "..."] [--seed-fault N] [--fpu-host] [--progress]
 *   --count       comparisons, shared evenly among the encodings (default 2,000,000)
 *   --report      writes the encodings by count, least first, and what was seen
 *   --save        writes "encoding count" lines
 *   --seed-fault  makes one operation, chosen by N, wrong for some inputs; the bench must find it
 *   --fpu-host    the machine's approximations are the host's and must agree to the bit
 *   --stepped N   every Nth state takes the plain handlers (default 4), the others the short ones
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "coverage.h"
#include "executor.h"
#include "inputs.h"
#include "machine.h"

#define MAX_REPORTS 20
#define ATTEMPTS 500

struct options {
	uint64_t seed, count, fault;
	const char *only, *report, *save, *text;
	unsigned stepped_every;
	bool seed_fault, progress, host_fpu;
};

/* A batch on its way. */
struct flight {
	struct test_code code;
	unsigned row;
	bool full; /* something is in it */
};

struct bench {
	struct generator generator;
	struct executor *executor;
	struct machine *machine;
	const struct options *options;
	uint16_t rows[INSN_ROW_COUNT];
	unsigned row_count;
	struct flight flights[2];
	struct coverage coverage;
	bool reported[INSN_ROW_COUNT], skipped[INSN_ROW_COUNT];
	unsigned spare; /* the batch that is not executing, for single states */
	struct test_code failing_code;
	unsigned failing_row, failures;
	struct host_state failing[EXECUTOR_BATCH];
	bool failing_stepped[EXECUTOR_BATCH];
	uint64_t differences, lost, masked[INSN_OP_COUNT];
};

/* ---- one state at a time: shrinking and replaying ----------------------------------------------------------------------------- */

/* What differs for this state alone, or NULL. */
static const char *try_state(struct bench *b, const struct test_code *code, const struct host_state *in, bool stepped,
			     struct host_state *ret_expected, struct host_state *ret_got)
{
	struct executor_batch *batch = executor_batch(b->executor, b->spare);
	bool extended = row_is_extended(code->row);
	memcpy(batch->bytes, code->bytes, sizeof(batch->bytes));
	batch->length = code->insn.length;
	batch->count = 1;
	batch->extended = extended;
	batch->in[0] = *in;
	executor_start(b->executor, b->spare);
	if (!executor_finish(b->executor))
		return "lost";
	*ret_expected = batch->out[0];
	*ret_got = *in;
	machine_place(b->machine, code);
	if (!machine_run(b->machine, in, extended, stepped, ret_got))
		return "ending";
	return compare_states(code, in, ret_expected, ret_got, extended, b->options->host_fpu);
}

static void print_bytes(const char *name, unsigned number, const uint8_t *bytes, unsigned size)
{
	printf(" %s%u=", name, number);
	for (unsigned n = size; n-- > 0;)
		printf("%02x", bytes[n]);
}

/* Everything that is not what inputs of zero would be. --case reads this. */
static void print_case(const struct test_code *code, const struct host_state *s)
{
	static const uint8_t zeros[32];
	printf("case bytes=");
	for (unsigned n = 0; n < code->insn.length; n++)
		printf("%02x", code->bytes[n]);
	printf(" flags=%" PRIx64, s->rflags);
	for (unsigned n = 0; n < 16; n++)
		if (s->gpr[n])
			printf(" r%u=%" PRIx64, n, s->gpr[n]);
	if (row_is_extended(code->row))
		printf(" mxcsr=%x fcw=%x fsw=%x tags=%x", s->xsave.mxcsr, s->xsave.fcw, s->xsave.fsw, s->xsave.ftw);
	for (unsigned n = 0; n < 16 && row_is_extended(code->row); n++) {
		if (memcmp(s->xsave.xmm[n], zeros, 16))
			print_bytes("x", n, s->xsave.xmm[n], 16);
		if (memcmp(s->xsave.ymm_high[n], zeros, 16))
			print_bytes("y", n, s->xsave.ymm_high[n], 16);
	}
	for (unsigned n = 0; n < 8 && row_is_extended(code->row); n++)
		if (s->xsave.st[n].mantissa || s->xsave.st[n].exponent)
			printf(" st%u=%04x:%016" PRIx64, n, s->xsave.st[n].exponent, s->xsave.st[n].mantissa);
	for (unsigned n = 0; n < HOST_WINDOW_SIZE; n += 16)
		if (memcmp(s->window + n, zeros, 16))
			print_bytes("m", n, s->window + n, 16);
	printf("\n");
}

static void print_output(const char *who, const struct test_code *code, const struct host_state *in, const struct host_state *out)
{
	printf("  %-8s", who);
	if (out->vector != HOST_COMPLETED)
		printf(" vector %u error %x rip %" PRIx64 " cr2 %" PRIx64, out->vector, out->error, out->rip, out->cr2);
	printf(" flags=%" PRIx64, out->rflags & 0xcd5);
	for (unsigned n = 0; n < 16; n++)
		if (out->gpr[n] != in->gpr[n])
			printf(" r%u=%" PRIx64, n, out->gpr[n]);
	if (row_is_extended(code->row)) {
		printf(" mxcsr=%x fsw=%x fcw=%x tags=%x", out->xsave.mxcsr, out->xsave.fsw, out->xsave.fcw, out->xsave.ftw);
		for (unsigned n = 0; n < 16; n++) {
			if (memcmp(out->xsave.xmm[n], in->xsave.xmm[n], 16))
				print_bytes("x", n, out->xsave.xmm[n], 16);
			if (memcmp(out->xsave.ymm_high[n], in->xsave.ymm_high[n], 16))
				print_bytes("y", n, out->xsave.ymm_high[n], 16);
		}
		for (unsigned n = 0; n < 8; n++)
			if (memcmp(&out->xsave.st[n], &in->xsave.st[n], 10))
				printf(" st%u=%04x:%016" PRIx64, n, out->xsave.st[n].exponent, out->xsave.st[n].mantissa);
	}
	for (unsigned n = 0; n < HOST_WINDOW_SIZE; n += 16)
		if (memcmp(out->window + n, in->window + n, 16))
			print_bytes("m", n, out->window + n, 16);
	printf("\n");
}

/* Registers that make the address: without them the case would be about memory that one side has and the other has not. */
static bool is_address(const struct test_code *code, unsigned step)
{
	const struct insn *i = &code->insn;
	if (step < 16)
		return step == REG_RSP || (((i->flags & INSN_MEM) && (step == i->base || step == i->index)) ||
					   ((code->row->attributes & ATTR_IMPLICIT_DS) && (step == REG_RDI || step == REG_RBX)));
	return (code->row->attributes & ATTR_VSIB) && (step == 16u + i->rm || step == 32u + i->rm);
}

/* Makes parts of the state plain as long as the same thing differs. */
static void shrink(struct bench *b, const struct test_code *code, bool stepped, const char *what, struct host_state *state)
{
	struct host_state trial, expected, got;
	for (unsigned step = 0; step < 16 + 16 + 16 + 8 + 8 + 3; step++) {
		trial = *state;
		if (is_address(code, step))
			continue;
		if (step < 16)
			trial.gpr[step] = 0;
		else if (step < 32)
			memset(trial.xsave.xmm[step - 16], 0, 16);
		else if (step < 48)
			memset(trial.xsave.ymm_high[step - 32], 0, 16);
		else if (step < 56)
			trial.xsave.st[step - 48].mantissa = 0, trial.xsave.st[step - 48].exponent = 0;
		else if (step < 64)
			memset(trial.window + 16 * (step - 56), 0, 16);
		else if (step == 64)
			trial.xsave.mxcsr = 0x1f80;
		else if (step == 65)
			trial.rflags = 2;
		else
			trial.xsave.fcw = 0x37f, trial.xsave.fsw &= 0x3800;
		const char *now = try_state(b, code, &trial, stepped, &expected, &got);
		if (now && !strcmp(now, what))
			*state = trial;
	}
}

static void report(struct bench *b, const struct test_code *code, unsigned row, bool stepped, const struct host_state *in)
{
	struct host_state state = *in, expected, got;
	b->differences++;
	if (b->reported[row] || b->differences > 100000)
		return;
	b->reported[row] = true;
	const char *what = try_state(b, code, &state, stepped, &expected, &got);
	if (!what) {
		printf("%s: a difference that did not occur again\n", insn_row_names[row]);
		print_case(code, &state);
		return;
	}
	shrink(b, code, stepped, what, &state);
	try_state(b, code, &state, stepped, &expected, &got);
	printf("%s: %s differs (%s handler)\n  ", insn_row_names[row], what, stepped ? "plain" : "short");
	print_case(code, &state);
	print_output("host", code, &state, &expected);
	print_output("machine", code, &state, &got);
}

/* ---- batches ---------------------------------------------------------------------------------------------------------------- */

/* Fills a batch for a row; false: no encoding of it can be made here. */
static bool fill(struct bench *b, struct flight *flight, struct executor_batch *batch, unsigned row, unsigned count)
{
	struct host_state base;
	inputs_base(&b->generator, &base);
	for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
		if (!generate_code(&b->generator, row, &flight->code) || !inputs_make(&b->generator, &flight->code, &base, true, &batch->in[0]))
			continue;
		batch->count = 1;
		for (unsigned tries = 1; tries < 2 * count && batch->count < count; tries++)
			batch->count += inputs_make(&b->generator, &flight->code, &base, false, &batch->in[batch->count]);
		memcpy(batch->bytes, flight->code.bytes, sizeof(batch->bytes));
		batch->length = flight->code.insn.length;
		batch->extended = row_is_extended(flight->code.row);
		flight->row = row;
		return flight->full = true;
	}
	return flight->full = false;
}

/* Runs a batch that the host has executed in the machine, and keeps the states that differ. */
static void check(struct bench *b, unsigned which)
{
	struct flight *flight = &b->flights[which];
	struct executor_batch *batch = executor_batch(b->executor, which);
	struct host_state got;
	machine_place(b->machine, &flight->code);
	b->failures = 0;
	for (unsigned n = 0; n < batch->count; n++) {
		bool stepped = n % b->options->stepped_every == b->options->stepped_every - 1;
		got.xsave = batch->in[n].xsave;
		const char *what = machine_run(b->machine, &batch->in[n], batch->extended, stepped, &got)
					   ? compare_states(&flight->code, &batch->in[n], &batch->out[n], &got, batch->extended,
							    b->options->host_fpu)
					   : "ending";
		coverage_note(&b->coverage, flight->row, &batch->in[n], &batch->out[n]);
		b->masked[flight->code.row->op] += undefined_flags_differ(&flight->code, &batch->in[n], &batch->out[n], &got);
		if (what) {
			b->failing_stepped[b->failures] = stepped;
			b->failing[b->failures++] = batch->in[n];
		}
	}
	b->failing_code = flight->code;
	b->failing_row = flight->row;
	flight->full = false;
}

/* With nothing executing: reports what check() kept. */
static void report_failures(struct bench *b)
{
	for (unsigned n = 0; n < b->failures; n++)
		report(b, &b->failing_code, b->failing_row, b->failing_stepped[n], &b->failing[n]);
	b->failures = 0;
}

static void progress(const struct bench *b)
{
	fprintf(stderr, "\roracle: %" PRIu64 " of %" PRIu64 " comparisons, %" PRIu64 " differences", b->coverage.total, b->options->count,
		b->differences);
}

/* Executes a filled batch on the host; meanwhile the machine runs the other one. */
static void fly(struct bench *b, unsigned which, bool filled)
{
	if (filled)
		executor_start(b->executor, which);
	b->spare = !which;
	if (b->flights[!which].full)
		check(b, !which);
	if (filled && !executor_finish(b->executor)) {
		b->lost++;
		printf("%s: the child process died\n", insn_row_names[b->flights[which].row]);
		b->flights[which].full = false;
	}
	report_failures(b);
}

/* One batch of every row that has not had its share. Returns how many there were. */
static unsigned run_turn(struct bench *b, uint64_t share, unsigned *which)
{
	unsigned batches = 0;
	for (unsigned n = 0; n < b->row_count; n++) {
		uint64_t left = share - MIN(b->coverage.rows[b->rows[n]].count, share);
		if (!left || b->skipped[b->rows[n]])
			continue;
		unsigned count = (unsigned)MIN(left, (uint64_t)EXECUTOR_BATCH / 4);
		if (!fill(b, &b->flights[*which], executor_batch(b->executor, *which), b->rows[n], count)) {
			b->skipped[b->rows[n]] = true;
			printf("skipped: %s cannot be generated here\n", insn_row_names[b->rows[n]]);
			continue;
		}
		fly(b, *which, true);
		*which = !*which;
		batches++;
	}
	return batches;
}

static void run(struct bench *b)
{
	uint64_t next_progress = 0, share = (b->options->count + b->row_count - 1) / b->row_count;
	unsigned which = 0;
	while (run_turn(b, share, &which)) {
		if (b->options->progress && b->coverage.total >= next_progress) {
			progress(b);
			next_progress = b->coverage.total + 1000000;
		}
	}
	fly(b, which, false);
}

/* ---- setting up --------------------------------------------------------------------------------------------------------------- */

static void choose_rows(struct bench *b)
{
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++) {
		const struct insn_row_info *row = &insn_rows[n];
		if (!(row->modes & INSN_MODES_64) || !row_is_comparable(row) ||
		    (b->options->only && strcmp(insn_op_names[row->op], b->options->only)))
			continue;
		if (feature_in(&b->generator.env.features, row->feature))
			b->rows[b->row_count++] = (uint16_t)n;
		else
			printf("skipped: %s, the host or the machine has no such feature\n", insn_row_names[n]);
	}
}

static void read_hex_bytes(const char *text, uint8_t *ret_bytes, unsigned size)
{
	unsigned length = (unsigned)strspn(text, "0123456789abcdef") / 2;
	for (unsigned n = 0; n < length && n < size; n++) {
		unsigned value = 0;
		sscanf(text + 2 * n, "%2x", &value);
		ret_bytes[length - 1 - n] = (uint8_t)value;
	}
}

/* One word of a case. False: not understood. */
static bool read_word(const char *word, struct test_code *code, struct host_state *s)
{
	uint64_t value;
	unsigned number, part;
	const char *equals = strchr(word, '=');
	if (!equals)
		return !strcmp(word, "case");
	if (!strncmp(word, "bytes=", 6)) {
		for (unsigned n = 0; n < INSN_MAX_LENGTH && sscanf(word + 6 + 2 * n, "%2x", &part) == 1; n++)
			code->bytes[n] = (uint8_t)part;
		return true;
	}
	if (sscanf(word, "flags=%" SCNx64, &value) == 1)
		return s->rflags = value, true;
	if (sscanf(word, "mxcsr=%x", &part) == 1)
		return s->xsave.mxcsr = part, true;
	if (sscanf(word, "fcw=%x", &part) == 1)
		return s->xsave.fcw = (uint16_t)part, true;
	if (sscanf(word, "fsw=%x", &part) == 1)
		return s->xsave.fsw = (uint16_t)part, true;
	if (sscanf(word, "tags=%x", &part) == 1)
		return s->xsave.ftw = (uint8_t)part, true;
	if (sscanf(word, "r%u=%" SCNx64, &number, &value) == 2 && number < 16)
		return s->gpr[number] = value, true;
	if (sscanf(word, "st%u=%x:%" SCNx64, &number, &part, &value) == 3 && number < 8)
		return s->xsave.st[number].exponent = (uint16_t)part, s->xsave.st[number].mantissa = value, true;
	if (sscanf(word, "x%u=", &number) == 1 && number < 16)
		return read_hex_bytes(equals + 1, s->xsave.xmm[number], 16), true;
	if (sscanf(word, "y%u=", &number) == 1 && number < 16)
		return read_hex_bytes(equals + 1, s->xsave.ymm_high[number], 16), true;
	if (sscanf(word, "m%u=", &number) == 1 && number <= HOST_WINDOW_SIZE - 16)
		return read_hex_bytes(equals + 1, s->window + number, 16), true;
	return false;
}

static int replay(struct bench *b, const char *text)
{
	struct test_code code = {0};
	struct host_state in = {.rflags = 2}, expected, got;
	char *copy = strdup(text), *rest = NULL;
	in.xsave.mxcsr = 0x1f80;
	in.xsave.fcw = 0x37f;
	in.xsave.xstate_bv = 7;
	for (char *word = strtok_r(copy, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest))
		if (!read_word(word, &code, &in)) {
			fprintf(stderr, "oracle: \"%s\" is no part of a case\n", word);
			return free(copy), 64;
		}
	free(copy);
	if (insn_decode(&b->generator.env, code.bytes, INSN_MAX_LENGTH, &code.insn) != DECODE_OK)
		return fprintf(stderr, "oracle: the bytes do not decode\n"), 64;
	code.row = &insn_rows[code.insn.row];
	int status = 0;
	for (unsigned stepped = 0; stepped < 2; stepped++) {
		const char *what = try_state(b, &code, &in, stepped, &expected, &got);
		printf("%s, %s handler: %s\n", insn_row_names[code.insn.row], stepped ? "plain" : "short", what ? what : "agrees");
		print_output("host", &code, &in, &expected);
		print_output("machine", &code, &in, &got);
		status |= what != NULL;
	}
	return status;
}

static bool read_options(int argc, char **argv, struct options *ret)
{
	for (int n = 1; n < argc; n++) {
		const char *name = argv[n];
		if (!strcmp(name, "--progress") || !strcmp(name, "--fpu-host")) {
			*(name[2] == 'p' ? &ret->progress : &ret->host_fpu) = true;
			continue;
		}
		if (++n == argc)
			return false;
		if (!strcmp(name, "--seed"))
			ret->seed = strtoull(argv[n], NULL, 0);
		else if (!strcmp(name, "--count"))
			ret->count = strtoull(argv[n], NULL, 0);
		else if (!strcmp(name, "--stepped"))
			ret->stepped_every = (unsigned)strtoul(argv[n], NULL, 0);
		else if (!strcmp(name, "--seed-fault"))
			ret->fault = strtoull(argv[n], NULL, 0), ret->seed_fault = true;
		else if (!strcmp(name, "--only"))
			ret->only = argv[n];
		else if (!strcmp(name, "--report"))
			ret->report = argv[n];
		else if (!strcmp(name, "--save"))
			ret->save = argv[n];
		else if (!strcmp(name, "--case"))
			ret->text = argv[n];
		else
			return false;
	}
	return ret->stepped_every > 0 && ret->count > 0;
}

static void finish(struct bench *b)
{
	if (b->options->report) {
		FILE *out = fopen(b->options->report, "w");
		if (out) {
			coverage_report(&b->coverage, out);
			fclose(out);
		}
	}
	if (b->options->save && !coverage_save(&b->coverage, b->options->save))
		fprintf(stderr, "oracle: %s: cannot be written\n", b->options->save);
	for (unsigned op = 0; op < INSN_OP_COUNT; op++)
		if (b->masked[op])
			printf("undefined flags: %s differs in %" PRIu64 "\n", insn_op_names[op], b->masked[op]);
	printf("oracle: seed %" PRIu64 ": %" PRIu64 " comparisons of %u encodings, %" PRIu64 " differences, %" PRIu64 " batches lost\n",
	       b->options->seed, b->coverage.total, b->row_count, b->differences, b->lost);
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct options options = {.seed = 1, .count = 2000000, .stepped_every = 4};
	if (!read_options(argc, argv, &options))
		return fprintf(stderr, "usage: oracle [--seed N] [--count N] [--only OP] [--report FILE] [--save FILE] [--case \"...\"] [--seed-fault N] "
				       "[--stepped N] [--fpu-host] [--progress]\n"), 64;
	if (!masked_table_is_right())
		return 1;
	b.options = &options;
	b.generator.random = options.seed;
	b.executor = executor_create();
	if (!b.executor)
		return printf("oracle: skipped, the host does not give the addresses or has no XSAVE\n"), 77;
	b.machine = machine_create(options.host_fpu, &b.generator.env);
	if (options.text)
		return replay(&b, options.text);
	choose_rows(&b);
	if (!b.row_count)
		return fprintf(stderr, "oracle: no such operation can be compared\n"), 64;
	if (options.seed_fault)
		printf("oracle: %s is made wrong\n", insn_op_names[machine_corrupt(b.machine, options.fault, b.rows, b.row_count)]);
	run(&b);
	finish(&b);
	executor_destroy(b.executor);
	machine_destroy(b.machine);
	return b.differences || b.lost ? 1 : 0;
}
