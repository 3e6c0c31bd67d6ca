/*
 * A client's own devices: ranges of ports or of guest-physical addresses with functions behind them, and interrupt lines.
 *
 * The functions are called inside umbra_vm_run() or umbra_vcpu_run(), by their thread, while an instruction is under way: they
 * may read and write guest memory, raise interrupt lines and stop the machine, but not change slots, registers or devices.
 */
#ifndef UMBRA_DEVICE_H
#define UMBRA_DEVICE_H

#include <umbra/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct umbra_device {
	/* offset is relative to the range; bytes is 1, 2, 4 or 8 and does not reach past its end. Neither may be NULL. */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned bytes);
	void (*write)(void *opaque, uint64_t offset, unsigned bytes, uint64_t value);
	void *opaque;
};

/*
 * Claims ports or addresses. The struct is copied; what opaque points to must outlive the machine or the removal. name appears in
 * traces and is copied. UMBRA_ERROR_USAGE for a range that is empty, wraps or is taken, or when there are too many.
 */
UMBRA_API bool umbra_device_add_ports(struct umbra_vm *vm, uint16_t first, unsigned count, const struct umbra_device *device,
				      const char *name, struct umbra_error *error);
UMBRA_API bool umbra_device_add_mmio(struct umbra_vm *vm, uint64_t gpa, uint64_t length, const struct umbra_device *device,
				     const char *name, struct umbra_error *error);
/* Gives a range back; false if no client's range begins there. */
UMBRA_API bool umbra_device_remove_ports(struct umbra_vm *vm, uint16_t first);
UMBRA_API bool umbra_device_remove_mmio(struct umbra_vm *vm, uint64_t gpa);

/*
 * Drives one of the board's interrupt lines, 0 to 23: below 16 the PIC and the I/O APIC see it (line 0 is pin 2 there), above the
 * I/O APIC alone. False without a board or for another number.
 */
UMBRA_API bool umbra_device_set_irq(struct umbra_vm *vm, unsigned line, bool level);

#ifdef __cplusplus
}
#endif

#endif
