/* Counting what was seen, see coverage.h. */
#include "coverage.h"

#include <stdlib.h>

#include "arch/eflags.h"
#include "arch/fpu.h"
#include "insn/operand.h"

void coverage_note(struct coverage *coverage, unsigned row, const struct host_state *in, const struct host_state *out)
{
	struct row_coverage *r = &coverage->rows[row];
	r->count++;
	coverage->total++;
	if (out->vector != HOST_COMPLETED) {
		r->faults++;
		r->vectors |= 1ull << (out->vector & 63);
		return;
	}
	r->flags_set |= (uint16_t)(out->rflags & FLAGS_STATUS);
	r->flags_clear |= (uint16_t)(~out->rflags & FLAGS_STATUS);
	if (insn_rows[row].unit == INSN_UNIT_INT)
		return; /* x87 and vector state takes no part and was not read */
	uint8_t simd = (uint8_t)(out->xsave.mxcsr & ~in->xsave.mxcsr & MXCSR_EXCEPTIONS);
	uint8_t x87 = (uint8_t)(out->xsave.fsw & ~in->xsave.fsw & FSW_EXCEPTIONS);
	r->simd_set |= simd;
	r->simd_clear |= (uint8_t)(~simd & MXCSR_EXCEPTIONS);
	r->x87_set |= x87;
	r->x87_clear |= (uint8_t)(~x87 & FSW_EXCEPTIONS);
}

static const struct coverage *sorted_coverage; /* for qsort, which takes no argument */

static int by_count(const void *a, const void *b)
{
	uint64_t x = sorted_coverage->rows[*(const uint16_t *)a].count, y = sorted_coverage->rows[*(const uint16_t *)b].count;
	return x < y ? -1 : x > y;
}

static void report_flags(const struct row_coverage *r, const struct insn_row_info *info, FILE *out)
{
	static const struct { uint16_t bit; const char *name; } flags[] = {
		{FLAG_CF, "CF"}, {FLAG_PF, "PF"}, {FLAG_AF, "AF"}, {FLAG_ZF, "ZF"}, {FLAG_SF, "SF"}, {FLAG_OF, "OF"},
	};
	for (unsigned n = 0; n < sizeof(flags) / sizeof(flags[0]); n++)
		if (info->flags_written & flags[n].bit) {
			if (!(r->flags_set & flags[n].bit))
				fprintf(out, " %s=0", flags[n].name);
			else if (!(r->flags_clear & flags[n].bit))
				fprintf(out, " %s=1", flags[n].name);
		}
}

static void report_exceptions(const struct row_coverage *r, FILE *out)
{
	static const char letters[] = "IDZOUP";
	for (unsigned n = 0; n < 6; n++)
		if ((r->simd_set | r->x87_set) >> n & 1)
			fprintf(out, " %cE", letters[n]);
	for (unsigned n = 0; n < 32; n++)
		if (r->vectors >> n & 1)
			fprintf(out, " #%u", n);
}

void coverage_report(const struct coverage *coverage, FILE *out)
{
	uint16_t order[INSN_ROW_COUNT];
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++)
		order[n] = (uint16_t)n;
	sorted_coverage = coverage;
	qsort(order, INSN_ROW_COUNT, sizeof(order[0]), by_count);
	fprintf(out, "# encoding: comparisons, faults; flags that had one value only; exceptions that were raised, and their vectors\n");
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++) {
		const struct row_coverage *r = &coverage->rows[order[n]];
		if (!r->count)
			continue;
		fprintf(out, "%-28s %10llu %9llu ;", insn_row_names[order[n]], (unsigned long long)r->count, (unsigned long long)r->faults);
		report_flags(r, &insn_rows[order[n]], out);
		fprintf(out, " ;");
		report_exceptions(r, out);
		fprintf(out, "\n");
	}
}

bool coverage_save(const struct coverage *coverage, const char *path)
{
	FILE *out = fopen(path, "w");
	if (!out)
		return false;
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++)
		if (coverage->rows[n].count)
			fprintf(out, "%s %llu\n", insn_row_names[n], (unsigned long long)coverage->rows[n].count);
	return fclose(out) == 0;
}
