/* Images without a header: a boot sector at its customary place, and any bytes at an address that the user names. */
#include "load/loader.h"

#include "base/bits.h"

#define SECTOR_SIZE 512
#define SIGNATURE_OFFSET 510
#define SECTOR_ADDRESS 0x7c00
#define FIRST_HARD_DISK 0x80

bool boot_sector_recognise(const uint8_t *bytes, size_t length)
{
	return length >= SECTOR_SIZE && bytes[SIGNATURE_OFFSET] == 0x55 && bytes[SIGNATURE_OFFSET + 1] == 0xaa;
}

static bool plan_bytes(struct plan *plan, gpa_t gpa, struct err *err)
{
	const struct load_request *request = plan->request;
	if (!plan_put(plan, "flat image", gpa, request->bytes, request->length, request->length, err))
		return false;
	plan_image_done(plan);
	return true;
}

/* There is no disk from which the first sector could read the others, so all of the file is put into memory. */
bool boot_sector_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	if (plan->request->module_count)
		return plan_refuse(plan, err, "a boot sector takes no modules");
	if (plan->request->length > PLAN_LOW_END - SECTOR_ADDRESS)
		return plan_refuse(plan, err,
				   "a disk image of %zu bytes does not fit into conventional memory; give the kernel on it",
				   plan->request->length);
	if (!plan_bytes(plan, SECTOR_ADDRESS, err))
		return false;
	state->entry = ENTRY_REAL16;
	state->rip = SECTOR_ADDRESS;
	state->gpr[REG_RSP] = SECTOR_ADDRESS;
	state->gpr[REG_RDX] = FIRST_HARD_DISK;
	return true;
}

/* Below 1 MiB in real mode, with the address's low 16 bits as IP; above it in 32-bit protected mode. */
bool flat_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	gpa_t address = plan->request->flat_address;
	if (plan->request->module_count)
		return plan_refuse(plan, err, "a flat image takes no modules");
	if (address >= PLAN_4G)
		return plan_refuse(plan, err, "the load address 0x%llx lies above 4 GiB", (unsigned long long)address);
	if (!plan_bytes(plan, address, err))
		return false;
	state->entry = address < PLAN_1M ? ENTRY_REAL16 : ENTRY_PROTECTED32;
	state->rip = address < PLAN_1M ? address & 0xffff : address;
	state->cs_selector = address < PLAN_1M ? (uint16_t)(address >> 4 & 0xf000) : 0;
	return true;
}
