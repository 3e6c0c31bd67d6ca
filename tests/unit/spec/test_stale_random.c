/*
 * The staleness oracle against a small processor with a TLB: whatever a processor shows that flushes as it must, the oracle
 * allows; a processor that forgets one kind of flush is caught. Random programs from fixed seeds.
 */
#include "fake_memory.h"

#include "spec/stale.h"

#define TLB_SIZE 16
#define PAGES 4 /* linear pages 0x200000 + n * 4096 under two roots */

enum defect { DEFECT_NONE, DEFECT_INVLPG, DEFECT_GLOBAL_INVLPG, DEFECT_CR3, DEFECT_INVPCID, DEFECT_PGE, DEFECT_COUNT };

struct tlb_entry {
	bool valid, global, dirty;
	unsigned pcid;
	uint64_t page, frame;
	struct spec_rights rights;
};

struct machine {
	struct fake_memory ram;
	struct spec_regs regs;
	struct spec_stale *stale;
	struct tlb_entry tlb[TLB_SIZE];
	enum defect defect;
	uint64_t seed;
	bool caught;
};

static unsigned draw(struct machine *machine, unsigned limit)
{
	machine->seed += 0x9e3779b97f4a7c15ull;
	return (unsigned)(hash_mix(machine->seed) % limit);
}

/* Root 0x1000 and root 0x2000, each with its own lower tables but a page directory entry that may name either page table. */
static void start(struct machine *machine, enum defect defect, uint64_t seed)
{
	memset(machine, 0, sizeof(*machine));
	machine->defect = defect;
	machine->seed = seed;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t base = i * 0x1000;
		fake_write(&machine->ram, 0x1000 + base, 8, (0x3000 + base) | RIGHTS);
		fake_write(&machine->ram, 0x3000 + base, 8, (0x5000 + base) | RIGHTS);
		fake_write(&machine->ram, 0x5008 + base, 8, (0x7000 + base) | RIGHTS);
	}
	machine->regs = fake_regs(SPEC_PAGING_4LEVEL);
	machine->regs.cr4 |= CR4_PCIDE | CR4_PGE;
	struct spec_memory memory = fake_interface(&machine->ram);
	machine->stale = spec_stale_create(&memory, &machine->regs);
	assert_non_null(machine->stale);
}

static void drop(struct machine *machine, bool every_pcid, unsigned pcid, bool globals, bool every_page, uint64_t page)
{
	for (unsigned i = 0; i < TLB_SIZE; i++) {
		struct tlb_entry *entry = &machine->tlb[i];
		if (!every_page && entry->page != page)
			continue;
		if (entry->global ? globals : every_pcid || entry->pcid == pcid)
			entry->valid = false;
	}
}

static void op_store(struct machine *machine)
{
	bool upper = draw(machine, 6) == 0;
	uint64_t table = draw(machine, 2) * 0x1000;
	uint64_t gpa = upper ? 0x5008 + table : 0x7000 + table + 8 * draw(machine, PAGES);
	uint64_t value = upper ? 0x7000 + draw(machine, 2) * 0x1000 : 0xa000 + draw(machine, 4) * 0x1000;
	uint64_t before = fake_get(&machine->ram, gpa, 8);
	value |= draw(machine, 8) | (draw(machine, 4) ? PTE_P : 0) | (draw(machine, 4) ? 0 : PTE_G);
	value |= draw(machine, 16) ? 0 : BIT(45);
	fake_write(&machine->ram, gpa, 8, value);
	assert_true(spec_stale_store(machine->stale, gpa, 8, before));
}

static void op_invlpg(struct machine *machine)
{
	uint64_t page = 0x200 + draw(machine, PAGES);
	if (machine->defect != DEFECT_INVLPG)
		drop(machine, false, spec_pcid_of(&machine->regs), machine->defect != DEFECT_GLOBAL_INVLPG, false, page);
	assert_true(spec_stale_invlpg(machine->stale, page << 12));
}

static void op_move_cr3(struct machine *machine)
{
	bool no_flush = draw(machine, 2);
	machine->regs.cr3 = 0x1000 + draw(machine, 2) * 0x1000 + draw(machine, 3);
	if (!no_flush && machine->defect != DEFECT_CR3)
		drop(machine, false, spec_pcid_of(&machine->regs), false, true, 0);
	assert_true(spec_stale_move_cr3(machine->stale, &machine->regs, no_flush));
}

static void op_invpcid(struct machine *machine)
{
	unsigned type = draw(machine, 4), pcid = draw(machine, 3);
	uint64_t page = 0x200 + draw(machine, PAGES);
	if (machine->defect != DEFECT_INVPCID)
		drop(machine, type >= 2, pcid, type == 2, type >= 1, page);
	assert_true(spec_stale_invpcid(machine->stale, type, pcid, page << 12));
}

static void op_control(struct machine *machine)
{
	static const uint64_t bits[] = { CR4_PGE, CR4_SMEP, CR4_SMAP };
	uint64_t bit = bits[draw(machine, ARRAY_LEN(bits))];
	machine->regs.cr4 ^= bit;
	machine->regs.cr0 ^= draw(machine, 2) ? CR0_WP : 0;
	if (bit == CR4_PGE && machine->defect != DEFECT_PGE)
		drop(machine, true, 0, true, true, 0);
	if (bit == CR4_SMEP && (machine->regs.cr4 & CR4_SMEP))
		drop(machine, false, spec_pcid_of(&machine->regs), false, true, 0);
	assert_true(spec_stale_write_registers(machine->stale, &machine->regs));
}

static struct tlb_entry *lookup(struct machine *machine, uint64_t page)
{
	for (unsigned i = 0; i < TLB_SIZE; i++) {
		struct tlb_entry *entry = &machine->tlb[i];
		if (entry->valid && entry->page == page && (entry->global || entry->pcid == spec_pcid_of(&machine->regs)))
			return entry;
	}
	return NULL;
}

static struct spec_observation walk_and_fill(struct machine *machine, uint64_t linear, const struct spec_access *access)
{
	struct spec_memory memory = fake_interface(&machine->ram);
	struct spec_result result;
	if (!spec_walk(&machine->regs, &memory, linear, access, &result)) {
		assert_int_equal(result.outcome, SPEC_FAULT);
		return (struct spec_observation){ .fault = true, .code = result.code };
	}
	machine->tlb[draw(machine, TLB_SIZE)] = (struct tlb_entry){
		.valid = true,
		.global = result.global,
		.dirty = access->write,
		.pcid = spec_pcid_of(&machine->regs),
		.page = linear >> 12,
		.frame = result.gpa & ~0xfffull,
		.rights = result.rights,
	};
	return (struct spec_observation){ .gpa = result.gpa };
}

static void op_access(struct machine *machine)
{
	unsigned kind = draw(machine, 6);
	struct spec_access access = { .user = kind & 1, .write = kind / 2 == 1, .fetch = kind / 2 == 2 };
	uint64_t linear = 0x200123 + 0x1000 * draw(machine, PAGES);
	struct tlb_entry *entry = lookup(machine, linear >> 12);
	struct spec_observation seen = { .fault = false };
	if (!entry || (access.write && !entry->dirty))
		seen = walk_and_fill(machine, linear, &access);
	else if (spec_permission(&machine->regs, &entry->rights, &access, &seen.code, NULL))
		seen.gpa = entry->frame | 0x123;
	else
		seen.fault = true;
	if (!spec_access_allowed(machine->stale, linear, &access, &seen))
		machine->caught = true;
	if (seen.fault) {
		drop(machine, false, spec_pcid_of(&machine->regs), true, false, linear >> 12);
		assert_true(spec_stale_page_fault(machine->stale, linear));
	}
}

static bool is_caught(enum defect defect, uint64_t seed)
{
	static void (*const operations[])(struct machine *machine) = {
		op_store, op_store, op_invlpg, op_move_cr3, op_invpcid, op_control,
		op_access, op_access, op_access, op_access, op_access, op_access,
	};
	static struct machine machine;
	start(&machine, defect, seed);
	for (unsigned step = 0; step < 200 && !machine.caught; step++)
		operations[draw(&machine, ARRAY_LEN(operations))](&machine);
	spec_stale_destroy(machine.stale);
	return machine.caught;
}

static void test_sound(void **state)
{
	for (uint64_t seed = 0; seed < 3000; seed++) {
		if (is_caught(DEFECT_NONE, seed))
			fail_msg("seed %llu", (unsigned long long)seed);
	}
}

static void test_sharp(void **state)
{
	for (enum defect defect = DEFECT_INVLPG; defect < DEFECT_COUNT; defect++) {
		unsigned caught = 0;
		for (uint64_t seed = 0; seed < 1000; seed++)
			caught += is_caught(defect, seed);
		print_message("defect %u: %u of 1000 programs show it\n", defect, caught);
		assert_true(caught > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_sound), cmocka_unit_test(test_sharp) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
