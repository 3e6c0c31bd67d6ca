/*
 * A machine of one processor for the tests of cpu/: RAM from address 0, an MMU, a block cache, and devices that only record.
 *
 * Every vector leads to a HLT of its own, so a test sees a fault as a halted processor and asks fixture_frame() what was pushed. The
 * low 2 MiB are mapped by 4 KiB pages, which a test may change; the rest of the first 4 GiB is mapped one to one, without user access.
 * A failure to build the machine ends the program: no test could say anything then.
 */
#ifndef UMBRA_TEST_CPU_FIXTURE_H
#define UMBRA_TEST_CPU_FIXTURE_H

#include "cpu/vcpu.h"

enum fixture_mode { FIXTURE_REAL, FIXTURE_PROTECTED, FIXTURE_LONG };

#define FIXTURE_RAM_SIZE (4u << 20)
#define FIXTURE_CODE 0x10000u
#define FIXTURE_DATA 0x20000u
#define FIXTURE_STACK 0x30000u /* grows down from here */
#define FIXTURE_HANDLERS 0x4000u
#define FIXTURE_EVENT_STACK 0x7000u
#define FIXTURE_TABLES 0x8000u
#define FIXTURE_ROM 0x400000u  /* one read-only page behind the RAM */
#define FIXTURE_MMIO 0xd0000000u /* nobody's RAM, and mapped */

#define FIXTURE_CODE64 0x08u
#define FIXTURE_DATA0 0x10u
#define FIXTURE_CODE32 0x18u
#define FIXTURE_TSS 0x40u

#define FIXTURE_LOG_SIZE 256

struct fixture_access {
	bool mmio, write;
	uint64_t address, value;
	unsigned size;
};

struct fixture {
	struct mem_space space;
	struct trace trace;
	struct clock clock;
	struct mmu_vm *mmu;
	struct block_cache *blocks;
	struct vcpu *v;
	uint8_t *ram;
	enum fixture_mode mode;
	/* Devices: what reads return (raised by one each time), whether accesses leave as exits, what happened. */
	uint64_t next_read;
	bool exit_on_port, exit_on_mmio;
	struct fixture_access log[FIXTURE_LOG_SIZE];
	unsigned log_count;
	/* The interrupt controller: `interrupts` of them wait, the next one is `vector`; raise_on_port: a port write adds one. */
	unsigned interrupts;
	int vector;
	bool raise_on_port;
	unsigned acknowledged;
};

struct fixture_frame {
	unsigned vector;
	bool has_error;
	uint32_t error;
	uint64_t rip, rflags, rsp; /* rsp: as it was before the event */
	uint16_t cs;
};

/* mmu is MMU_TDP or MMU_SHADOW. The processor stands at FIXTURE_CODE, CPL 0, interrupts off, flat segments. */
struct fixture *fixture_create(enum fixture_mode mode, enum mmu_mode mmu);
/* The same with a given model. */
struct fixture *fixture_create_model(enum fixture_mode mode, enum mmu_mode mmu, const struct cpu_model *model);
void fixture_destroy(struct fixture *f);

/* Back to the state after fixture_create(), but for memory and the entries of caches. */
void fixture_rewind(struct fixture *f);
/* Stores bytes at FIXTURE_CODE, through mem_write, so that blocks made of older bytes go. */
void fixture_code(struct fixture *f, const void *bytes, size_t length);
void fixture_code_at(struct fixture *f, uint64_t address, const void *bytes, size_t length);
#define FIXTURE_CODE_BYTES(f, ...) fixture_code(f, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
/* CPL 3 (user true) or 0; pages must be mapped for it. */
void fixture_set_user(struct fixture *f, bool user);
/* Replaces the entry of a page in the low 2 MiB (0: not present) and drops its translations. Only with paging. */
void fixture_map(struct fixture *f, uint64_t gva, uint64_t entry);

/* Runs n instructions (events count) or until something stops it. */
enum run_exit fixture_run(struct fixture *f, int64_t n);
/* Runs until HLT, at most 100000 instructions, `slice` at a time; stops early at other exits. */
enum run_exit fixture_run_to_halt(struct fixture *f, int64_t slice);
/* Whether the processor halted in a handler; then what that handler was given. */
bool fixture_frame(struct fixture *f, struct fixture_frame *ret);

uint64_t fixture_load(struct fixture *f, uint64_t address, unsigned size);
void fixture_store(struct fixture *f, uint64_t address, unsigned size, uint64_t value);
/* A digest of everything a guest could look at: registers, flags, rip, and all of RAM. */
uint64_t fixture_digest(struct fixture *f);

#endif
