/*
 * Snapshots: the whole machine, at an instruction boundary, as bytes from which another process can let it go on as if nothing had been.
 *
 * A snapshot holds what the guest could ever come to see: memory, processors (in a nested guest and in system-management mode as well),
 * interrupt controllers, devices, timers, the clock, and how far a turn has come. It does not hold what belongs to whoever runs the
 * machine: its MMU mode, limits, consoles and input, traces and counters, symbols, the history that reports tell. A snapshot that was made
 * under UMBRA_MMU_TDP may be restored under UMBRA_MMU_SHADOW. A client's devices (device.h) are to be added again before the machine
 * runs; a client's slots (mem.h) come back with their contents, in memory of the library.
 *
 * Every byte is checked before it is used: what is torn, damaged, or made up is refused with a line that says why.
 *
 * Threads: as for the machine; restoring needs none.
 */
#ifndef UMBRA_SNAPSHOT_H
#define UMBRA_SNAPSHOT_H

#include <umbra/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Saves the machine to a file, between runs or inside a function of struct umbra_run_limits. The file appears complete and synced to the
 * disk, or not at all: the bytes go to a file beside it ("PATH.partXXXXXX", readable by its owner only), which takes the name at the end.
 * False: UMBRA_ERROR_OPEN if it cannot be written, UMBRA_ERROR_USAGE if the machine is not at rest (inside a device's function, or an exit
 * waits for its data), UMBRA_ERROR_INTERNAL without memory. A file that had the name before is untouched then. The machine is never
 * changed.
 */
UMBRA_API bool umbra_vm_save(struct umbra_vm *vm, const char *path, struct umbra_error *error);

/* As umbra_config_init(), but with memory and cpus 0, which means: as in the snapshot. */
UMBRA_API void umbra_restore_init_sized(struct umbra_config *config, size_t size);
#define umbra_restore_init(config) umbra_restore_init_sized((config), sizeof(struct umbra_config))

/*
 * A machine that goes on where the saved one was; the caller owns it and releases it with umbra_vm_destroy(). config (NULL: the usual
 * values) says how it is to run: MMU mode, checks, output, input, clock. What the machine is made of comes from the snapshot; memory, cpus
 * and cpu, where they are not 0 or NULL, have to be the same. NULL: UMBRA_ERROR_OPEN if the file cannot be read, UMBRA_ERROR_IMAGE if it is
 * no snapshot, torn, damaged, of another version, or holds what no machine could; UMBRA_ERROR_USAGE for another configuration;
 * UMBRA_ERROR_INTERNAL without memory.
 */
UMBRA_API struct umbra_vm *umbra_vm_restore(const char *path, const struct umbra_config *config, struct umbra_error *error);

/*
 * The same with a client's own storage. write takes all bytes, or returns false, after which it is not called again. read gives `length`
 * bytes, and fewer only at the end; nothing is read behind the end of the snapshot but to see that there is nothing.
 */
UMBRA_API bool umbra_vm_save_to(struct umbra_vm *vm, bool (*write)(void *opaque, const void *bytes, size_t length), void *opaque,
				struct umbra_error *error);
UMBRA_API struct umbra_vm *umbra_vm_restore_from(size_t (*read)(void *opaque, void *bytes, size_t length), void *opaque,
						 const struct umbra_config *config, struct umbra_error *error);

#ifdef __cplusplus
}
#endif

#endif
