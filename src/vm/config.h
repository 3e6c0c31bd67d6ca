/* What a machine is made of: the plain values from which vm.c and board.c build it. Texts need to live during the create only. */
#ifndef UMBRA_VM_CONFIG_H
#define UMBRA_VM_CONFIG_H

#include "base/err.h"
#include "mmu/mmu.h"

#define MACHINE_MAX_CPUS 255u
#define MACHINE_MIN_MEMORY (1ull << 20)
#define MACHINE_MAX_MEMORY (64ull << 30)

/* Where SMRAM is: in a MiB that only SMM sees, behind graphics memory (for 64 processors), or in ordinary RAM at 30000h. */
enum machine_smram { MACHINE_SMRAM_TSEG, MACHINE_SMRAM_COMPATIBLE, MACHINE_SMRAM_NONE };
#define MACHINE_SMRAM_COMPATIBLE_SIZE 0x20000u
#define MACHINE_SMRAM_COMPATIBLE_CPUS 64u

enum machine_console { MACHINE_CONSOLE_SERIAL, MACHINE_CONSOLE_DEBUG };

/* Answers of machine_config.input that are no byte. */
#define MACHINE_INPUT_NONE (-1)
#define MACHINE_INPUT_END (-2)

struct machine_config {
	bool board;
	uint64_t memory;          /* bytes of the board's RAM */
	unsigned cpus;
	const char *cpu;          /* model text; NULL: the default model */
	bool cpu_is_qemu;         /* the text is in QEMU's names */
	enum mmu_mode mmu_mode;
	bool debug_exit;
	bool host_fpu;            /* approximations of the host's processor */
	bool unclaimed_exits;
	enum machine_smram smram;
	unsigned check_interval;
	unsigned shadow_page_quota;
	unsigned tlb_entries;     /* power of two; 0: default */
	unsigned tlb_banks;       /* 0: default */
	int64_t rtc_seconds;
	void (*output)(void *opaque, enum machine_console console, const void *bytes, size_t length);
	int (*input)(void *opaque, bool wait);
	/*
	 * Both or none. With them the machine's clock follows the outside's, in nanoseconds that never go back, instead of the
	 * instructions, and a machine without work sleeps: wait() returns after so many nanoseconds or when there is input.
	 */
	uint64_t (*time)(void *opaque);
	void (*wait)(void *opaque, uint64_t nanoseconds);
	void *opaque;
};

/* The usual values. */
void machine_config_init(struct machine_config *config);
/* False, with a line that names the option, for a configuration that cannot be. */
bool machine_config_check(const struct machine_config *config, struct err *err);

#endif
