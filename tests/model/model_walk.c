/*
 * The walker and the permission rule against their oracle (src/spec): every paging mode x WP, NX, SMEP, SMAP, PKE, PKS x
 * entry bits at the two lowest levels x every kind of access x key states, several million walks. Compared are the
 * outcome, the address, the error code, the entry that decided, and what stands in memory afterwards. A second pass draws entries
 * at random, with every bit of every level in play, and different processors.
 */
#include <stdio.h>

#include "../unit/mmu/bench.h"
#include "spec/walk.h"

#define PML5 0x10000u
#define PML4 0x11000u
#define PDPT 0x12000u
#define PD 0x13000u
#define PT 0x14000u
#define PAGE_AT 0x20000u
#define LARGE_AT 0x800000u

static uint64_t cells;

enum mode { MODE_32, MODE_32_PSE, MODE_PAE, MODE_4, MODE_5, MODE_COUNT };

/* The part of a cell that does not change from entry to entry. */
struct setting {
	struct machine *m;
	struct pagewalk walk;
	struct spec_regs spec;
	uint8_t *ram;
	gva_t gva;
	bool small; /* 4-byte entries */
};

static bool read_ram(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	struct setting *s = opaque;
	*ret_value = 0;
	if (gpa >= BENCH_RAM)
		return false;
	memcpy(ret_value, s->ram + gpa, size);
	return true;
}

static void registers(struct setting *s, enum mode mode, unsigned bits, const struct mmu_cpuid *cpuid)
{
	struct mmu_regs regs = { .cr0 = CR0_PE | CR0_PG };
	regs.cr0 |= bits & 1 ? CR0_WP : 0;
	regs.efer |= bits & 2 ? EFER_NX : 0;
	regs.cr4 |= (bits & 4 ? CR4_SMEP : 0) | (bits & 8 ? CR4_SMAP : 0) | (bits & 16 ? CR4_PKE : 0) | (bits & 32 ? CR4_PKS : 0);
	regs.cr4 |= CR4_PGE | (mode == MODE_32_PSE ? CR4_PSE : 0) | (mode >= MODE_PAE ? CR4_PAE : 0) | (mode == MODE_5 ? CR4_LA57 : 0);
	regs.efer |= mode >= MODE_4 ? EFER_LME | EFER_LMA : 0;
	regs.cr3 = mode == MODE_5 ? PML5 : mode == MODE_4 ? PML4 : mode == MODE_PAE ? PDPT : PD;
	struct role_regs snapshot = { .cr0 = regs.cr0, .cr4 = regs.cr4, .efer = regs.efer };
	s->small = mode < MODE_PAE;
	s->walk.cpu_role = role_for_cpu(&snapshot);
	regime_from_role(s->walk.cpu_role, cpuid, &s->walk.regime);
	s->walk.root = regs.cr3;
	s->walk.latched = true;
	s->m->vcpu->regs = regs;
	s->m->vcpu->regs.pdpte[1] = PD | PTE_P;
	s->spec = (struct spec_regs){
		.cr0 = regs.cr0, .cr3 = regs.cr3, .cr4 = regs.cr4, .efer = regs.efer, .maxphyaddr = cpuid->maxphyaddr,
		.feat_nx = true, .feat_pdpe1gb = cpuid->gbpages, .feat_pse36 = cpuid->pse36, .vendor = cpuid->vendor,
		.pdpte = { 0, PD | PTE_P },
	};
}

static void keys(struct setting *s, uint32_t pkru, uint32_t pkrs)
{
	s->m->vcpu->regs.pkru = s->spec.pkru = pkru;
	s->m->vcpu->regs.pkrs = s->spec.pkrs = pkrs;
}

static void put(struct setting *s, gpa_t table, unsigned index, uint64_t entry)
{
	if (s->small)
		memcpy(s->ram + table + 4 * index, &(uint32_t){ (uint32_t)entry }, 4);
	else
		memcpy(s->ram + table + 8 * index, &entry, 8);
}

/* What the access asks: read, write, fetch x user, supervisor, supervisor with AC, implicit. */
static bool access_of(unsigned kind, uint64_t *ret_ours, struct spec_access *ret_theirs, bool *ret_ac)
{
	static const uint64_t what[] = { 0, PFERR_W, PFERR_FETCH };
	unsigned who = kind / 3;
	*ret_theirs = (struct spec_access){ .write = kind % 3 == 1, .fetch = kind % 3 == 2, .user = who == 0, .implicit = who >= 3 };
	*ret_ac = who == 2 || who == 4;
	*ret_ours = what[kind % 3] | (who == 0 ? PFERR_U : 0) | (who >= 3 ? PFERR_IMPLICIT_ACCESS : 0) | (*ret_ac ? ACCESS_AC : 0);
	return !(who >= 3 && kind % 3 == 2);
}
#define ACCESS_KINDS 15

static void compare_memory(struct setting *s, const struct spec_result *expected)
{
	for (unsigned i = 0; i < expected->visit_count; i++) {
		const struct spec_visit *visit = &expected->visits[i];
		uint64_t now;
		if (visit->in_register)
			continue;
		assert_true(read_ram(s, visit->gpa, s->small ? 4 : 8, &now));
		if ((now & ~visit->may_set) != (visit->after & ~visit->may_set))
			fail_msg("level %u: %#llx -> %#llx, expected %#llx", visit->level, (unsigned long long)visit->before,
				 (unsigned long long)now, (unsigned long long)visit->after);
	}
}

/* One walk, twice. Memory must be as laid out; it is changed as the walk orders. */
static void one_cell(struct setting *s, unsigned kind)
{
	struct spec_memory memory = { .read = read_ram, .opaque = s };
	struct spec_result expected;
	struct spec_access theirs;
	struct walk_result walk;
	struct mmu_guest_fault fault = { 0 };
	uint64_t ours;

	if (!access_of(kind, &ours, &theirs, &s->spec.rflags_ac))
		return;
	cells++;
	bool allowed = spec_walk(&s->spec, &memory, s->gva, &theirs, &expected);
	bool ok = guest_walk_slots(s->m->vcpu, &s->walk, s->gva, ours, &walk, &fault);
	if (expected.outcome == SPEC_NO_MEMORY)
		return; /* the architecture does not say what nobody's memory reads as */
	assert_int_equal(ok, allowed);
	if (ok) {
		assert_true(walk.gpa == expected.gpa);
		assert_int_equal(walk.global, expected.global);
		assert_int_equal(!!(walk.role_access & ROLE_ACCESS_W), expected.rights.writable);
		assert_int_equal(!!(walk.role_access & ROLE_ACCESS_U), expected.rights.user);
	} else {
		if ((fault.code & ~expected.code_may) != (expected.code & ~expected.code_may))
			fail_msg("code %#llx, expected %#llx", (unsigned long long)fault.code, (unsigned long long)expected.code);
		if (expected.fault_level)
			assert_int_equal(fault.level, expected.fault_level);
	}
	compare_memory(s, &expected);
}

static const gva_t mode_gva = 0x40000000 | 3u << 21 | 7u << 12 | 0x5a8; /* PDPT index 1 */

static void lay_upper(struct setting *s, enum mode mode)
{
	uint64_t all = PTE_P | PTE_W | PTE_U;
	s->gva = mode_gva;
	if (s->small)
		return;
	put(s, PML5, 0, PML4 | all);
	put(s, PML4, 0, PDPT | all);
	put(s, PDPT, 1, PD | all);
}

static unsigned pd_index(const struct setting *s)
{
	return s->small ? (unsigned)(s->gva >> 22 & 1023) : (unsigned)(s->gva >> 21 & 511);
}

static unsigned pt_index(const struct setting *s)
{
	return (unsigned)(s->gva >> 12) & (s->small ? 1023 : 511);
}

/* Seven bits of an entry: P, W, U, A, D, NX, and one that is reserved (in 4-byte entries: 21, of a large page). */
static uint64_t entry_bits(const struct setting *s, unsigned n)
{
	uint64_t entry = (n & 1 ? PTE_P : 0) | (n & 2 ? PTE_W : 0) | (n & 4 ? PTE_U : 0) | (n & 8 ? PTE_A : 0) | (n & 16 ? PTE_D : 0);
	if (s->small)
		return entry | (n & 32 ? PTE_G : 0);
	return entry | (n & 32 ? PTE_NX : 0) | (n & 64 ? BIT(51) : 0);
}

static const unsigned directory_variants[] = { 0, 64, 1 + 2 + 4, 1 + 2 + 4 + 8, 1 + 4, 1 + 2, 1, 1 + 2 + 4 + 32, 1 + 64 };

static void leaf_entries(struct setting *s, uint64_t key)
{
	for (unsigned d = 0; d < ARRAY_LEN(directory_variants); d++)
		for (unsigned n = 0; n < (s->small ? 64u : 128u); n++)
			for (unsigned kind = 0; kind < ACCESS_KINDS; kind++) {
				put(s, PD, pd_index(s), PT | entry_bits(s, directory_variants[d]));
				put(s, PT, pt_index(s), PAGE_AT | entry_bits(s, n) | key);
				one_cell(s, kind);
			}
}

static void large_entries(struct setting *s, uint64_t key)
{
	for (unsigned n = 0; n < 128; n++)
		for (unsigned kind = 0; kind < ACCESS_KINDS; kind++) {
			uint64_t reserved = s->small && (n & 64) ? BIT(21) : 0;
			put(s, PD, pd_index(s), LARGE_AT | entry_bits(s, n) | PTE_PS | reserved | key);
			one_cell(s, kind);
		}
}

static void one_mode(enum mode mode)
{
	struct machine *m = machine_make(MMU_SHADOW, 12, 0, false);
	struct setting s = { .m = m, .ram = m->space.slots[0][0]->host };
	static const uint32_t key_states[] = { 0, 1u << 10, 2u << 10 };
	mmu_set_check_interval(m->vm, 0);
	struct mmu_regs reset = *mmu_get_regs(m->vcpu);
	for (unsigned bits = 0; bits < 64; bits++) {
		registers(&s, mode, bits, &machine_cpuid);
		lay_upper(&s, mode);
		for (unsigned k = 0; k < (mode >= MODE_4 && (bits & 48) ? ARRAY_LEN(key_states) : 1u); k++) {
			uint64_t key = mode >= MODE_4 ? 5ull << 59 : 0;
			keys(&s, key_states[k], key_states[k]);
			leaf_entries(&s, key);
			large_entries(&s, key);
		}
	}
	m->vcpu->regs = reset;
	machine_free(m);
}

static void test_32_bit(void **state)
{
	one_mode(MODE_32);
	one_mode(MODE_32_PSE);
}

static void test_pae(void **state)
{
	one_mode(MODE_PAE);
}

static void test_4_level(void **state)
{
	one_mode(MODE_4);
}

static void test_5_level(void **state)
{
	one_mode(MODE_5);
}

/* ---- at random ------------------------------------------------------------------------------------------------------------------ */

static uint64_t draw(uint64_t *seed)
{
	*seed += 0x9e3779b97f4a7c15ull;
	return hash_mix(*seed);
}

/* Mostly sensible: each bit of interest is turned over with a chance of one in eight, any bit at all with one in sixteen. */
static uint64_t random_entry(uint64_t *seed, uint64_t address)
{
	uint64_t entry = address | PTE_P | PTE_W | PTE_U;
	entry ^= draw(seed) & draw(seed) & draw(seed) & (PTE_W | PTE_U | PTE_A | PTE_D | PTE_PS | PTE_G | PTE_NX | BITS(62, 59));
	if (!(draw(seed) & 15))
		entry ^= BIT(draw(seed) & 63);
	return entry;
}

static void test_random_entries_and_processors(void **state)
{
	struct machine *m = machine_make(MMU_SHADOW, 12, 0, false);
	struct setting s = { .m = m, .ram = m->space.slots[0][0]->host };
	struct mmu_regs reset = *mmu_get_regs(m->vcpu);
	uint64_t seed = 1;
	mmu_set_check_interval(m->vm, 0);
	for (unsigned round = 0; round < 1000000; round++) {
		uint64_t r = draw(&seed);
		struct mmu_cpuid cpuid = machine_cpuid;
		cpuid.maxphyaddr = 32 + (unsigned)(r >> 8) % 21;
		cpuid.gbpages = r & BIT(20);
		cpuid.pse36 = r & BIT(21);
		cpuid.vendor = r & BIT(22) ? VENDOR_AMD : VENDOR_INTEL;
		enum mode mode = (unsigned)(r >> 24) % MODE_COUNT;
		registers(&s, mode, (unsigned)(r >> 32) & 63, &cpuid);
		s.gva = mode_gva;
		keys(&s, (uint32_t)draw(&seed), (uint32_t)draw(&seed));
		if (!s.small) {
			put(&s, PML5, 0, random_entry(&seed, PML4));
			put(&s, PML4, 0, random_entry(&seed, PDPT));
			put(&s, PDPT, 1, random_entry(&seed, PD));
		}
		put(&s, PD, pd_index(&s), random_entry(&seed, r & BIT(40) ? PT : LARGE_AT));
		put(&s, PT, pt_index(&s), random_entry(&seed, PAGE_AT));
		one_cell(&s, (unsigned)(r >> 48) % ACCESS_KINDS);
	}
	m->vcpu->regs = reset;
	machine_free(m);
}

static void test_there_were_enough_cells(void **state)
{
	print_message("%llu walks compared\n", (unsigned long long)cells);
	assert_true(cells > 4000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_32_bit),
		cmocka_unit_test(test_pae),
		cmocka_unit_test(test_4_level),
		cmocka_unit_test(test_5_level),
		cmocka_unit_test(test_random_entries_and_processors),
		cmocka_unit_test(test_there_were_enough_cells),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
