/* One instruction on the host processor with given registers, for native.c. Its own file: the C library names registers as we do. */
#ifndef UMBRA_TEST_NATIVE_RUN_H
#define UMBRA_TEST_NATIVE_RUN_H

#include <stdbool.h>
#include <stdint.h>

/* Registers in encoding order. vector, error and cr2 tell what ended the run: 3 is the INT3 that surrounds the instruction. */
struct native_state {
	uint64_t gpr[16], rip, rflags, cr2;
	unsigned vector;
	uint32_t error;
	bool compatibility; /* run as 32-bit code, with the segment that Linux keeps for that */
};

/* Maps [address, address + size) readable and writable. False: the host refuses. */
bool native_map_data(uint64_t address, uint64_t size);
/* Maps it readable and executable; what is stored through *ret_store appears there. */
bool native_map_code(uint64_t address, uint64_t size, uint8_t **ret_store);
/* Takes the signals of faults, for good. */
bool native_init(void);
/* Runs at in->rip until an exception. Only the status flags and DF of in->rflags are taken. */
void native_run(const struct native_state *in, struct native_state *ret_out);

#endif
