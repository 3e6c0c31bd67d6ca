/*
 * A machine: its configuration, its life, loading an image, running, and the report on how it ended.
 *
 * Threads: one thread at a time per machine; umbra_vm_stop() from anywhere.
 */
#ifndef UMBRA_VM_H
#define UMBRA_VM_H

#include <umbra/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct umbra_vm;
struct umbra_vcpu;

enum umbra_mmu_mode {
	UMBRA_MMU_TDP,    /* direct stage-2 tables; the processor walks both dimensions */
	UMBRA_MMU_SHADOW, /* shadow pages of the guest's own tables */
};

enum umbra_console {
	UMBRA_CONSOLE_SERIAL, /* the first serial port */
	UMBRA_CONSOLE_DEBUG,  /* the debug console, port 0xe9 */
};

/*
 * Where SMRAM is. Processors start with an SMBASE in it and a handler that does nothing, as firmware would leave them; with NONE as after
 * RESET.
 */
enum umbra_smram {
	UMBRA_SMRAM_TSEG,       /* a MiB at 3 GiB that only system-management mode sees */
	UMBRA_SMRAM_COMPATIBLE, /* 128 KiB at A0000h, seen by that mode instead of graphics memory; for at most 64 processors */
	UMBRA_SMRAM_NONE,       /* ordinary memory, from 30000h */
};

/* Answers of an input function that are no byte. */
#define UMBRA_INPUT_NONE (-1) /* nothing now */
#define UMBRA_INPUT_END (-2)  /* nothing ever again; the function is not called any more */

#define UMBRA_MAX_CPUS 255
#define UMBRA_MAX_MEMORY (64ull << 30)

/* What a machine is made of. umbra_config_init() gives the usual values; texts are copied, nothing has to outlive the create. */
struct umbra_config {
	size_t size;              /* sizeof(struct umbra_config) */
	bool board;               /* a PC around the processors: RAM, interrupt controllers, timers, consoles. Usual: true. Without it the
	                           * machine has no memory, no device and no interrupt controller, and every access to a port or to an
	                           * address without a slot is an exit (or goes to the client's devices, see device.h) */
	uint64_t memory;          /* bytes of the board's RAM, a multiple of 4096, 1 MiB to UMBRA_MAX_MEMORY. Usual: 128 MiB */
	unsigned cpus;            /* 1 to UMBRA_MAX_CPUS. Usual: 1 */
	const char *cpu;          /* CPU model "MODEL[,+feature|,-feature|,name=value]". NULL, the usual: "amd" */
	bool qemu_cpu_names;      /* cpu is in QEMU's names: unknown models become "intel" or "amd", unknown features are ignored */
	enum umbra_mmu_mode mmu;  /* usual: UMBRA_MMU_TDP */
	bool debug_exit;          /* board: isa-debug-exit at port 0xf4. Usual: true */
	bool unclaimed_exits;     /* board: accesses that nobody claims are exits, instead of reading as ones. Usual: false */
	unsigned check_interval;  /* verify the whole MMU after every nth exit; a violation is a UMBRA_END_BUG. 0, the usual: never */
	unsigned shadow_page_quota; /* most shadow pages alive. 0, the usual: 8192 */
	unsigned tlb_entries;     /* per TLB bank, a power of two. 0: the usual number */
	unsigned tlb_banks;       /* per processor, at least 4. 0: the usual number */
	int64_t rtc_seconds;      /* board: the date at the start, seconds since 1970. Usual: 2000-01-01. Never taken from the host */
	/* Where a guest's output goes, byte by byte in order; NULL: dropped. Called inside umbra_vm_run(). */
	void (*output)(void *opaque, enum umbra_console console, const void *bytes, size_t length);
	/*
	 * The next byte for the first serial port, or UMBRA_INPUT_*; NULL: no input, ever. Called now and then inside umbra_vm_run().
	 * wait: the machine has nothing else to do; the function may block for a while (some 100 ms), so that the process sleeps.
	 */
	int (*input)(void *opaque, bool wait);
	void *opaque;             /* for all functions of this structure */
	/*
	 * A clock from outside, both functions or none. NULL, the usual: the machine's clock counts instructions, so that a run can be
	 * repeated. time: nanoseconds that never go back; the machine's clock follows them while it runs. sleep: called when no processor
	 * has work; returns after so many nanoseconds, or earlier, at the latest when there is input.
	 */
	uint64_t (*time)(void *opaque);
	void (*sleep)(void *opaque, uint64_t nanoseconds);
	/*
	 * Transcendental functions of the x87, RCPPS and RSQRTPS: of the host's processor instead of umbra's own, which are the same on
	 * every host. UMBRA_ERROR_USAGE where the host has none. Usual: false.
	 */
	bool host_fpu;
	enum umbra_smram smram;   /* board. Usual: UMBRA_SMRAM_TSEG */
};

/* Fills in the usual values. Use the macro: it supplies the caller's idea of the size. */
UMBRA_API void umbra_config_init_sized(struct umbra_config *config, size_t size);
#define umbra_config_init(config) umbra_config_init_sized((config), sizeof(struct umbra_config))

/*
 * Creates a machine; the caller owns it and releases it with umbra_vm_destroy(). NULL on failure: UMBRA_ERROR_USAGE for an
 * impossible configuration, UMBRA_ERROR_INTERNAL without host memory.
 * With a board, the first processor starts as after reset once an image was loaded and the others wait for a start-up IPI.
 */
UMBRA_API struct umbra_vm *umbra_vm_create(const struct umbra_config *config, struct umbra_error *error);
/* Releases the machine with its processors; memory that the caller supplied stays the caller's. NULL is allowed. */
UMBRA_API void umbra_vm_destroy(struct umbra_vm *vm);

/* The number of processors, and the nth of them (NULL beyond the last). They live as long as the machine. */
UMBRA_API unsigned umbra_vm_cpu_count(const struct umbra_vm *vm);
UMBRA_API struct umbra_vcpu *umbra_vm_cpu(struct umbra_vm *vm, unsigned index);

/* A boot module: bytes and the text that the guest sees with it (NULL: none). */
struct umbra_module {
	const char *text;
	const void *bytes;
	size_t length;
};

/* An image to load. Everything stays the caller's and is not needed after umbra_vm_load(). */
struct umbra_image {
	size_t size;          /* sizeof(struct umbra_image) */
	const char *name;     /* the file's name: subject of errors, and argv[0] of a multiboot guest */
	const void *bytes;
	size_t length;
	/* "multiboot", "multiboot2", "pvh", "elf", "linux", "bootsector" or "flat"; NULL: recognised (never as "flat") */
	const char *kind;
	uint64_t flat_address;/* where a "flat" image lies and begins; it starts in real mode below 1 MiB */
	const char *cmdline;  /* NULL: none */
	const struct umbra_module *modules; /* Linux: the archives of its initramfs, in this order */
	unsigned module_count;
	/*
	 * Linux: 32 or 64, the mode in which the kernel is entered; 0: 64 if it can. As wide as it is so that it does not lie in what was
	 * padding of the structure before it had this field.
	 */
	uint64_t entry;
};

/* All fields empty but size, and flat_address 0x7c00. */
UMBRA_API void umbra_image_init_sized(struct umbra_image *image, size_t size);
#define umbra_image_init(image) umbra_image_init_sized((image), sizeof(struct umbra_image))

/*
 * Resets the machine, checks and loads an image, and puts the first processor at its entry. Needs a board. False:
 * UMBRA_ERROR_IMAGE for what is wrong in the file, UMBRA_ERROR_USAGE for arguments; guest memory is unchanged then.
 * Symbols of an ELF image are kept for reports.
 */
UMBRA_API bool umbra_vm_load(struct umbra_vm *vm, const struct umbra_image *image, struct umbra_error *error);

/* When a run ends although the guest goes on. Zeroed fields but size: it does not. */
struct umbra_run_limits {
	size_t size;           /* sizeof(struct umbra_run_limits) */
	uint64_t instructions; /* retired by all processors together in this run; 0: unlimited */
	/* Asked between turns (every few milliseconds of a busy guest): true ends the run with UMBRA_END_TIMEOUT. May be NULL. */
	bool (*expired)(void *opaque);
	void *opaque;                 /* for all functions of this structure */
	/*
	 * Both or none: called between turns, once whenever the machine has retired so many more instructions. The run goes on as without
	 * it, so that the call comes up to a turn late (4096 instructions; 2^20 while one processor alone has work).
	 */
	uint64_t checkpoint_interval;
	void (*checkpoint)(void *opaque);
	/* Likewise, and behind the other where both are due: the place to save a snapshot every so many instructions (snapshot.h). */
	uint64_t save_interval;
	void (*save)(void *opaque);
};

enum umbra_end_reason {
	UMBRA_END_DEBUG_EXIT,   /* the guest wrote `value` to isa-debug-exit */
	UMBRA_END_POWER_OFF,
	UMBRA_END_TRIPLE_FAULT, /* processor `vcpu` shut down */
	UMBRA_END_PANIC,        /* the guest announced a panic (pvpanic, port 0x505) */
	UMBRA_END_HALTED,       /* every processor waits and nothing can wake one: halted for ever */
	UMBRA_END_RESET,        /* the guest asked for a reset */
	UMBRA_END_TIMEOUT,      /* a limit of the run */
	UMBRA_END_STOPPED,      /* umbra_vm_stop() */
	UMBRA_END_EXIT,         /* processor `vcpu` made an access that the client must perform: see umbra_vcpu_exit() */
	UMBRA_END_BUG,          /* a fault in the library; the machine is dead, other machines are not touched */
};

struct umbra_end {
	enum umbra_end_reason reason;
	int exit_status;  /* for the process: (value << 1 | 1) & 255 of a debug exit; 0 power off, 100 triple fault, 102 panic, 104 halted
	                   * for ever, 106 reset, 124 timeout, 130 stopped, 70 bug; 0 for UMBRA_END_EXIT */
	unsigned vcpu;    /* the processor concerned, or that ran last */
	uint64_t value;
	char text[200];   /* one line, lower case, without newline */
};

/*
 * Runs the machine, its processors taking deterministic turns, until it ends. limits may be NULL. After UMBRA_END_TIMEOUT and
 * UMBRA_END_STOPPED it may be run on; after UMBRA_END_EXIT too, once the exit's data are filled in; after UMBRA_END_DEBUG_EXIT,
 * UMBRA_END_RESET and UMBRA_END_PANIC the guest continues behind the access; after the others the same end comes again, until
 * an image is loaded (UMBRA_END_TRIPLE_FAULT: or the processor is reset; UMBRA_END_BUG: for ever).
 */
UMBRA_API struct umbra_end umbra_vm_run(struct umbra_vm *vm, const struct umbra_run_limits *limits);

/* Ends the present run, or the next one at once, with UMBRA_END_STOPPED. Any thread; async-signal-safe. */
UMBRA_API void umbra_vm_stop(struct umbra_vm *vm);

/* The end of the last run; UMBRA_END_STOPPED before the first. */
UMBRA_API struct umbra_end umbra_vm_end(const struct umbra_vm *vm);
/* "triple fault", "halted for ever" ...: constant text. */
UMBRA_API const char *umbra_end_name(enum umbra_end_reason reason);

/* Names for listings, counted from 0; NULL after the last. Constant text. */
UMBRA_API const char *umbra_cpu_model_name(unsigned n);
UMBRA_API const char *umbra_cpu_feature_name(unsigned n);

/* Instructions retired so far by all processors, and the machine's clock in ticks of 0.5 ns. */
UMBRA_API uint64_t umbra_vm_instructions(const struct umbra_vm *vm);
UMBRA_API uint64_t umbra_vm_ticks(const struct umbra_vm *vm);

/*
 * A digest of the whole machine: memory, all registers of all processors, interrupt controllers, timers, devices, clock. Equal machines
 * that ran alike have equal digests, on every host, and what differs anywhere shows. Between runs, or in a checkpoint function.
 */
UMBRA_API uint64_t umbra_vm_digest(const struct umbra_vm *vm);

/* Writes the report on the last end for a kernel's developer: reason, faults, registers, code, page walk, screen. */
UMBRA_API void umbra_vm_report(struct umbra_vm *vm, umbra_write_function *write, void *opaque);
/* Writes the text screen at 0xb8000 if anything is visible; false: nothing was. */
UMBRA_API bool umbra_vm_screen(struct umbra_vm *vm, umbra_write_function *write, void *opaque);
/* The address of a symbol of the loaded ELF image; false if there is none of that name. */
UMBRA_API bool umbra_vm_symbol(const struct umbra_vm *vm, const char *name, uint64_t *ret_address);

#ifdef __cplusplus
}
#endif

#endif
