/*
 * The board's memory: RAM around the hole below 4 GiB, text memory, and the little that firmware would have left behind. There is
 * no firmware code but an IRET, to which all real-mode vectors point, and a halt at the reset vector.
 *
 *   0         RAM        conventional memory up to 0x9fc00, then the extended BIOS data area
 *   0xa0000   -          graphics memory: nobody
 *   0xb8000   text       32 KiB
 *   0xc0000   -          option ROMs: nobody
 *   0xe0000   firmware   ACPI and MP tables; stays writable, as shadowed firmware does
 *   1 MiB     RAM        up to 3 GiB at most
 *   4 GiB - 4 KiB        ROM with the reset vector
 *   4 GiB     RAM        the rest
 *
 * and, for processors in system-management mode alone, SMRAM: 128 KiB over graphics and text memory, or 1 MiB where the hole begins.
 */
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/smm.h"
#include "dev/acpi.h"
#include "dev/mptable.h"
#include "vm/board.h"

#define LOW_RAM_END 0xa0000ull
#define FIRMWARE_GPA 0xe0000ull
#define HIGH_RAM_GPA 0x100000ull
#define RESET_ROM_GPA 0xfffff000ull
#define ABOVE_GPA (1ull << 32)
#define IRET_GPA 0xfff53ull /* F000:FF53, where BIOSes have theirs */
#define IRET_VECTOR 0xf000ff53u
#define SMRAM_SLOT 0x80000100u /* id; its own, so that it does not move when the board gets another slot */
#define BIOS_DATA_GPA 0x400ull

static uint64_t low_end(const struct machine *machine)
{
	return MIN(machine->config.memory, BOARD_HOLE_GPA);
}

static uint64_t above_size(const struct machine *machine)
{
	return machine->config.memory - low_end(machine);
}

static bool add_slots(struct machine *machine, struct err *err)
{
	const struct {
		gpa_t gpa;
		uint64_t size;
		uint32_t flags;
	} slots[] = {
		{0, LOW_RAM_END, 0},
		{VGA_MEMORY_GPA, VGA_MEMORY_SIZE, 0},
		{FIRMWARE_GPA, HIGH_RAM_GPA - FIRMWARE_GPA, 0},
		{HIGH_RAM_GPA, low_end(machine) - HIGH_RAM_GPA, 0},
		{RESET_ROM_GPA, PAGE_SIZE, SLOT_READONLY},
		{ABOVE_GPA, above_size(machine), 0},
	};
	for (unsigned n = 0; n < ARRAY_LEN(slots); n++)
		if (slots[n].size && !mem_slot_add(&machine->space, 0, BOARD_SLOT_FIRST + n, slots[n].gpa, slots[n].size, NULL,
						   slots[n].flags, err))
			return false;
	return true;
}

/* ---- system-management RAM ---------------------------------------------------------------------------------------------- */

/*
 * Processors have their SMBASE so far apart that each has a save area and a handler of its own: the handlers begin at multiples of the
 * step, and the save areas lie in the upper halves of steps further up.
 */
#define SMBASE_STEP 0x400u
_Static_assert((SMM_AREA_OFFSET - SMM_ENTRY_OFFSET) % SMBASE_STEP == SMBASE_STEP - SMM_AREA_SIZE, "areas lie between handlers");

static gpa_t smram_gpa(const struct machine *machine)
{
	return machine->config.smram == MACHINE_SMRAM_COMPATIBLE ? LOW_RAM_END : BOARD_HOLE_GPA;
}

static uint64_t smram_size(const struct machine *machine)
{
	return machine->config.smram == MACHINE_SMRAM_COMPATIBLE ? MACHINE_SMRAM_COMPATIBLE_SIZE : 1 << 20;
}

uint32_t board_smbase(const struct machine *machine, unsigned cpu)
{
	_Static_assert(0x10000 + (MACHINE_MAX_CPUS - 1) * SMBASE_STEP <= 1 << 20, "all processors have room");
	_Static_assert(0x10000 + (MACHINE_SMRAM_COMPATIBLE_CPUS - 1) * SMBASE_STEP <= MACHINE_SMRAM_COMPATIBLE_SIZE, "and these here");
	if (machine->config.smram == MACHINE_SMRAM_NONE)
		return SMM_BASE_RESET;
	return (uint32_t)smram_gpa(machine) + cpu * SMBASE_STEP;
}

static bool add_smram(struct machine *machine, struct err *err)
{
	static const uint8_t rsm[] = {0x0f, 0xaa};
	if (machine->config.smram == MACHINE_SMRAM_NONE)
		return true;
	if (!mem_slot_add(&machine->space, 1, SMRAM_SLOT, smram_gpa(machine), smram_size(machine), NULL, 0, err))
		return false;
	for (unsigned n = 0; n < machine->count; n++)
		if (!mem_write(&machine->space, 1, board_smbase(machine, n) + SMM_ENTRY_OFFSET, rsm, sizeof(rsm)))
			return err_set(err, ERR_INTERNAL, "machine: the SMM handler cannot be written");
	return true;
}

/* ---- what firmware leaves behind ---------------------------------------------------------------------------------------- */

static bool firmware_write(void *opaque, gpa_t gpa, const void *bytes, size_t length)
{
	return mem_write_rom(opaque, 0, gpa, bytes, length);
}

/* Vectors, and the words of the BIOS data area that boot code reads: serial port, EBDA, equipment, memory, screen. */
static bool write_bios_data(struct mem_space *space)
{
	uint32_t vectors[256];
	uint8_t data[0x100] = {0};
	const struct {
		uint8_t offset;
		uint16_t value;
	} words[] = {
		{0x00, 0x3f8}, {0x0e, BOARD_CONVENTIONAL_END >> 4}, {0x10, 0x0226}, {0x13, BOARD_CONVENTIONAL_END >> 10},
		{0x49, 3 | VGA_COLUMNS << 8}, {0x4c, 0x1000}, {0x60, 0x0607}, {0x63, 0x3d4},
	};
	for (unsigned n = 0; n < ARRAY_LEN(vectors); n++)
		vectors[n] = IRET_VECTOR;
	for (unsigned n = 0; n < ARRAY_LEN(words); n++)
		memcpy(data + words[n].offset, &words[n].value, sizeof(words[n].value));
	data[0x84] = VGA_ROWS - 1;
	data[0x85] = 16; /* lines of a character */
	return mem_write(space, 0, 0, vectors, sizeof(vectors)) && mem_write(space, 0, BIOS_DATA_GPA, data, sizeof(data));
}

static bool write_code(struct mem_space *space)
{
	static const uint8_t iret[] = {0xcf}, halt[] = {0xfa, 0xf4, 0xeb, 0xfd}; /* cli; again: hlt; jmp again */
	return mem_write(space, 0, IRET_GPA, iret, sizeof(iret)) &&
	       mem_write_rom(space, 0, RESET_ROM_GPA + 0xff0, halt, sizeof(halt));
}

static bool write_acpi(struct machine *machine)
{
	struct acpi_config acpi;
	uint32_t size;

	acpi_config_init(&acpi);
	acpi.cpus = machine->config.cpus;
	acpi.pci_memory = (uint32_t)BOARD_HOLE_GPA;
	acpi.write = firmware_write;
	acpi.opaque = &machine->space;
	return acpi_build(&acpi, &size);
}

static bool write_mptable(struct machine *machine)
{
	struct mptable_config mp;
	uint32_t leaf[4], size;

	mptable_config_init(&mp);
	cpuid_query(machine->cpus[0].v, 1, 0, leaf);
	mp.signature = leaf[0];
	mp.features = leaf[3];
	mp.cpus = machine->config.cpus;
	mp.write = firmware_write;
	mp.opaque = &machine->space;
	return mptable_build(&mp, &size);
}

static bool write_tables(struct machine *machine)
{
	_Static_assert(ACPI_RSDP_GPA + 0x40 + ACPI_TABLES_SIZE_MAX <= MPTABLE_GPA, "the tables do not overlap");
	_Static_assert(MPTABLE_GPA + MPTABLE_SIZE_MAX <= IRET_GPA, "the tables leave the vectors' code alone");
	return write_acpi(machine) && write_mptable(machine);
}

/* Blanks in grey on black, as a BIOS clears the screen. */
static bool write_screen(struct mem_space *space)
{
	uint16_t row[VGA_COLUMNS];

	for (unsigned n = 0; n < VGA_COLUMNS; n++)
		row[n] = 0x0720;
	for (unsigned n = 0; n < VGA_ROWS; n++)
		if (!mem_write(space, 0, VGA_MEMORY_GPA + n * sizeof(row), row, sizeof(row)))
			return false;
	return true;
}

bool board_memory_create(struct machine *machine, struct err *err)
{
	if (!add_slots(machine, err) || !add_smram(machine, err))
		return false;
	rtc_set_memory(&machine->board->rtc, low_end(machine), above_size(machine));
	if (!write_bios_data(&machine->space) || !write_code(&machine->space) || !write_screen(&machine->space) || !write_tables(machine))
		return err_set(err, ERR_INTERNAL, "machine: the firmware tables cannot be made");
	return true;
}

unsigned board_memory_map(const struct machine *machine, struct load_memory ret_map[BOARD_MAP_MAX])
{
	const struct load_memory map[] = {
		{0, BOARD_CONVENTIONAL_END, LOAD_MEMORY_RAM},
		{BOARD_CONVENTIONAL_END, LOW_RAM_END - BOARD_CONVENTIONAL_END, LOAD_MEMORY_RESERVED},
		{FIRMWARE_GPA, HIGH_RAM_GPA - FIRMWARE_GPA, LOAD_MEMORY_RESERVED},
		{HIGH_RAM_GPA, low_end(machine) - HIGH_RAM_GPA, LOAD_MEMORY_RAM},
		{IOAPIC_GPA, IOAPIC_SIZE, LOAD_MEMORY_RESERVED},
		{LAPIC_DEFAULT_GPA, LAPIC_SIZE, LOAD_MEMORY_RESERVED},
		{RESET_ROM_GPA, PAGE_SIZE, LOAD_MEMORY_RESERVED},
		{ABOVE_GPA, above_size(machine), LOAD_MEMORY_RAM},
	};
	unsigned count = 0;

	_Static_assert(ARRAY_LEN(map) <= BOARD_MAP_MAX, "the map has room");
	for (unsigned n = 0; n < ARRAY_LEN(map); n++)
		if (map[n].length)
			ret_map[count++] = map[n];
	return count;
}
