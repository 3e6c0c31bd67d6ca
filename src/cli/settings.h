/* What a command line asks for, after its options have been read. Texts point into argv. */
#ifndef UMBRA_CLI_SETTINGS_H
#define UMBRA_CLI_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#define WALKS_MAX 8

struct asked_walk {
	char place[128];      /* a number or a symbol */
	unsigned access;      /* UMBRA_ACCESS_* */
};

enum listing { LIST_NONE, LIST_HELP, LIST_VERSION, LIST_DEVICES, LIST_CPUS, LIST_TRACE, LIST_MACHINES };

struct settings {
	bool qemu;            /* called as a stand-in for QEMU */
	enum listing listing; /* print this and nothing else */
	bool kernel_named;    /* by an option; else the operand is in kernel, for `umbra restore` the snapshot */
	const char *kernel, *append, *initrd, *kind, *cpu;
	bool load_address_given;
	uint64_t load_address;
	unsigned entry;       /* 32 or 64; 0: as the kernel likes */
	uint64_t memory;
	unsigned cpus;
	bool memory_given, cpus_given;
	bool shadow;
	bool host_fpu;        /* approximations of the host's processor */
	bool host_clock;      /* the guest's time is the host's */
	uint64_t limit_nanoseconds, limit_instructions;
	unsigned check_interval;
	uint64_t digest_interval; /* instructions between two digests; 0: none */
	const char *digest_file;
	uint64_t checkpoint_interval;  /* instructions between two snapshots; 0: none */
	const char *checkpoint_prefix;
	bool save_at_given;
	uint64_t save_at;     /* `umbra save`: the instruction */
	const char *save_to;
	bool debug_exit, no_debug_exit;
	unsigned smram;       /* enum umbra_smram */
	bool serial;          /* the serial port is standard input and output */
	bool debug_console;   /* so is port 0xe9 (output) */
	const char *trace_groups, *trace_file;
	bool json, stats, roles, quiet;
	const char *json_file;
	struct asked_walk walks[WALKS_MAX];
	unsigned walk_count;
};

#endif
