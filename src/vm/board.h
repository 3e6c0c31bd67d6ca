/*
 * The PC around the processors. board.c makes and wires its devices, memory.c lays out RAM and says so to firmware's clients
 * (memory map, ACPI tables, BIOS data area).
 *
 *   0xc0000000 and up to 4 GiB is a hole for devices; RAM beyond 3 GiB continues at 4 GiB.
 *
 * SMRAM that is of its own (config.smram) is a slot of the address space that SMM sees. Firmware would leave each processor with an SMBASE
 * in it and a handler there; this one's handler is RSM.
 *
 * Functions with a struct machine * do nothing, or answer no, for a machine without a board.
 */
#ifndef UMBRA_VM_BOARD_H
#define UMBRA_VM_BOARD_H

#include "dev/acpi.h"
#include "dev/debug_exit.h"
#include "dev/debugcon.h"
#include "dev/ferr.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/pci.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/port92.h"
#include "dev/post.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "dev/vga_text.h"
#include "load/image.h"
#include "mem/irq.h"
#include "vm/vm.h"

#define BOARD_LINES 24u
#define BOARD_SLOT_FIRST 0x80000000u /* ids of the board's memory slots */
#define BOARD_HOLE_GPA 0xc0000000ull
#define BOARD_MAP_MAX 12
#define BOARD_CONVENTIONAL_END 0x9fc00ull /* where the extended BIOS data area begins */
#define BOARD_RSDP_BYTES 36

#define PANIC_PORT 0x505u /* pvpanic */

/* A device whose line the HPET takes over: the line shows what the device says unless it is blocked. */
struct board_gate {
	struct irq_line line;
	bool level, blocked;
};

struct board {
	struct machine *machine;
	struct lapic *lapics; /* one a processor */
	struct lapic_set lapic_set;
	struct ioapic ioapic;
	struct pic pic;
	struct pit pit;
	struct rtc rtc;
	struct pm pm;
	struct uart uart;
	struct vga_text vga;
	struct debugcon debugcon;
	struct debug_exit debug_exit;
	struct testdev testdev;
	struct fw_cfg fw_cfg;
	struct i8042 i8042;
	struct port92 port92;
	struct pci pci;
	struct hpet hpet;
	struct ferr ferr;
	struct post post;
	struct board_gate pit_gate, rtc_gate;
	struct irq_line client_lines[BOARD_LINES]; /* driven by the client of the library */
	unsigned line_users[BOARD_LINES];          /* how many devices hold the line high */
	bool input_ended;
	int input_byte;                            /* waits for room in the receiver; or -1 */
};

/* Builds the board of machine->config around the processors. False with *err; board_destroy() cleans up. */
bool board_create(struct machine *machine, struct err *err);
void board_destroy(struct machine *machine);
/* What RESET does to all devices; then the state in which firmware leaves them. */
void board_reset(struct machine *machine);

/* Whether a byte may still come from outside. */
bool board_input_possible(const struct machine *machine);
/* Takes input from outside as far as the serial port has room. */
void board_poll_input(struct machine *machine, bool wait);
/* Whether a device may raise an NMI at a processor that has interrupts off. */
bool board_nmi_possible(const struct machine *machine);
/* Drives an interrupt line on the client's behalf; false without a board or for a line that does not exist. */
bool board_set_line(struct machine *machine, unsigned line, bool level);
/* Copies the visible text screen (pairs of character and attribute); false if there is none. */
bool board_screen(struct machine *machine, uint8_t *ret_cells, size_t length);

/* What the first processor's FERR# pin does; the others' lead nowhere. */
void board_fpu_error(struct machine *machine, unsigned vcpu, bool raised);

/* Where the ACPI root pointer lies, BOARD_RSDP_BYTES long, for boot protocols that hand it over. */
static inline gpa_t board_rsdp(const struct board *board)
{
	return ACPI_RSDP_GPA;
}

/* ---- memory.c ----------------------------------------------------------------------------------------------------------- */

/* Adds the board's slots, and writes what firmware would leave in them. */
bool board_memory_create(struct machine *machine, struct err *err);
/* The map that the guest is told. Returns the number of entries. */
unsigned board_memory_map(const struct machine *machine, struct load_memory ret_map[BOARD_MAP_MAX]);
/* The SMBASE that firmware would leave to a processor, after RESET. */
uint32_t board_smbase(const struct machine *machine, unsigned cpu);

#endif
