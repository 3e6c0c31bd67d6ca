/*
 * A machine: its parts and how it runs. vm.c puts the parts together, ops.c is what the processors see of it, run.c gives turns,
 * end.c says how it ended; board.c is the PC around the processors, boot.c loads an image into it.
 *
 * Threads: one at a time per machine; machine_stop() alone may be called from anywhere, signal handlers included.
 */
#ifndef UMBRA_VM_VM_H
#define UMBRA_VM_VM_H

#include "cpu/cpuid.h"
#include "cpu/vcpu.h"
#include "dev/lapic.h"
#include "load/image.h"
#include "mem/bus.h"
#include "vm/config.h"

/* Ticks that pass at a PAUSE beyond those of the instruction: waiting loops see time go by faster than they burn instructions. */
#define PAUSE_TICKS 128u
/* The longest turn of a processor that runs alone: stop flags, the client's limits and input are looked at between turns. */
#define LONE_TURN_MAX (1 << 20)

struct board;
struct block_cache;

enum machine_end_reason {
	END_DEBUG_EXIT, END_POWER_OFF, END_TRIPLE_FAULT, END_PANIC, END_HALTED, END_RESET, END_TIMEOUT, END_STOPPED, END_EXIT, END_BUG,
	END_REASON_COUNT,
};

struct machine_end {
	enum machine_end_reason reason;
	int exit_status;
	unsigned vcpu;
	uint64_t value; /* of a debug exit */
	char text[200];
};

/* A processor in its machine. */
struct machine_cpu {
	struct machine *machine;
	struct vcpu *v;
	struct lapic *lapic;      /* NULL without a board */
	int interrupt;            /* without a board: the vector that a client presented, or -1 */
	uint8_t cr8;              /* without a board */
	uint64_t tsc_offset;      /* as the LAPIC's timer knows it */
	enum run_exit exit;       /* why the last turn ended */
	bool answer_wanted;       /* the exit is an access that the client has not answered yet */
};

struct machine {
	struct machine_config config;
	struct mem_space space;
	struct clock clock;
	struct trace trace;
	struct bus ports, mmio;
	struct cpu_model model;
	struct mmu_vm *mmu;
	struct block_cache *blocks;
	struct machine_cpu *cpus;
	unsigned count;
	struct board *board;             /* NULL: none */

	struct machine_cpu *running;     /* whose turn it is, or NULL */
	unsigned next;                   /* whose turn comes next */
	uint64_t turn_end;               /* tick at which the running turn is to end */
	uint64_t outside_origin;         /* with a clock from outside: its ticks when the machine's clock was zero */
	bool turn_cut;                   /* the turn was told to end at once */
	/*
	 * A turn that a limit (or machine_stop()) broke off: it is given to its end before the next one, so that a run in pieces is the run
	 * in one piece. left 0: there is none. began: the machine's instructions when it was given.
	 */
	struct { unsigned vcpu; uint64_t left, began; } broken_turn;
	uint64_t instructions;           /* retired by all */
	volatile int stop;               /* machine_stop() was called */
	bool ended;                      /* end tells of this run */
	bool powered_off, dead;          /* will not run again: until an image is loaded; ever */
	struct machine_end end;
};

/* Returns NULL and fills *err for an impossible configuration or without memory. */
struct machine *machine_create(const struct machine_config *config, struct err *err);
void machine_destroy(struct machine *machine);

/* ---- running (run.c) ---------------------------------------------------------------------------------------------------- */

struct machine_limits {
	uint64_t instructions; /* 0: unlimited */
	bool (*expired)(void *opaque);
	void *opaque;
	/* Both or none: called between turns, once after each so many instructions of the machine. Turns are as without it. */
	uint64_t checkpoint_interval;
	void (*checkpoint)(void *opaque);
	/* Likewise, called after the other one where both are due: for snapshots. */
	uint64_t save_interval;
	void (*save)(void *opaque);
};

/* Runs all processors until machine->end says why not any longer. */
void machine_run(struct machine *machine, const struct machine_limits *limits);
/*
 * Runs one processor, whatever turn of another was broken off, for at most so many instructions (0: unlimited). machine->ended tells
 * whether the machine ended meanwhile.
 */
enum run_exit machine_run_cpu(struct machine *machine, unsigned index, uint64_t instructions);
/* A digest of everything that the guest could ever come to see (digest.c): clock, memory, processors, devices. Between turns. */
uint64_t machine_digest(const struct machine *machine);
/* Performs the access of the last exit on the client's behalf: value is what was read. */
void machine_answer(struct machine_cpu *cpu, uint64_t value);
void machine_stop(struct machine *machine);
/* Ends the running turn after the present instruction, so that all is looked at again. */
void machine_cut_turn(struct machine *machine);
/* An interrupt of this processor came or went: it looks before its next instruction, or is woken. */
void machine_wake(struct machine_cpu *cpu);

/* ---- ends (end.c) ------------------------------------------------------------------------------------------------------- */

/* The run is to end; the first reason counts. */
void machine_end(struct machine *machine, enum machine_end_reason reason, uint64_t value);
/* A bug was caught in the run: the machine is dead. */
void machine_end_bug(struct machine *machine, const char *file, int line, const char *what);
const char *machine_end_name(enum machine_end_reason reason);

/* ---- the processors' view (ops.c) --------------------------------------------------------------------------------------- */

extern const struct cpu_ops machine_cpu_ops;
extern const struct lapic_cpu_ops machine_lapic_ops;

/* ---- loading (boot.c) --------------------------------------------------------------------------------------------------- */

/* All devices and processors as after RESET; memory stays. The first processor runs, the others wait for a start-up IPI. */
void machine_reset(struct machine *machine);
/*
 * Loads an image and puts the first processor at its entry, after a reset. The caller fills in what it knows of the request; the
 * memory map, firmware areas and the RSDP are added here.
 */
bool machine_load(struct machine *machine, const struct load_request *request, struct err *err);

#endif
