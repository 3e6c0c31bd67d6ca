/* One instruction on the host processor with given registers, for native.c. Its own file: the C library names registers as we do. */
#ifndef UMBRA_TEST_NATIVE_RUN_H
#define UMBRA_TEST_NATIVE_RUN_H

#include <stdbool.h>
#include <stdint.h>

/* What ended a run that no exception ended: a branch to itself, say, which stands at rip. */
#define NATIVE_ENDLESS 256

/* Registers in encoding order. vector, error and cr2 tell what ended the run: 3 is the INT3 that surrounds the instruction. */
struct native_state {
	uint64_t gpr[16], rip, rflags, cr2;
	unsigned vector;
	uint32_t error;
	bool compatibility; /* run as 32-bit code, with the segment that Linux keeps for that */
	uint16_t selector;  /* not 0: run with this code segment, native_code16() for one */
	bool single_step;   /* with TF: what completes ends in vector 1 */
};

/* Maps [address, address + size) readable and writable. False: the host refuses. */
bool native_map_data(uint64_t address, uint64_t size);
/* Maps it readable and executable; what is stored through *ret_store appears there. */
bool native_map_code(uint64_t address, uint64_t size, uint8_t **ret_store);
/* Selector of a 16-bit code segment at `base` (below 4 GiB), made with modify_ldt; 0: the host has none. */
uint16_t native_code16(uint64_t base);
/* Takes the signals of faults and of the timer of the process's own time, for good. */
bool native_init(void);
/*
 * Runs at in->rip until an exception. Only the status flags and DF of in->rflags are taken. In a segment of native_code16() in->rip counts
 * from its base.
 */
void native_run(const struct native_state *in, struct native_state *ret_out);

#endif
