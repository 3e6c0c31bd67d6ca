/* mmu_fault(): requirements 3-1, 3-2, 3-3, 3-6, 4-1, 4-4, and the order of its steps. The written specification is src/spec/fault.h. */
#include "machine.h"

#define NOWHERE 0xe0000000ull
#define ROM 0xd0000000ull

/* ---- 3-1 ---- */

static const uint64_t all_bits[] = {
	PFERR_P, PFERR_W, PFERR_U, PFERR_RSVD, PFERR_FETCH, PFERR_PK, PFERR_SS, PFERR_RMP, PFERR_GUEST_FINAL,
	PFERR_GUEST_PAGE, PFERR_GUEST_ENC, PFERR_GUEST_SIZEM, PFERR_GUEST_VMPL, PFERR_IMPLICIT_ACCESS, PFERR_PRIVATE_ACCESS,
};

/* The specification in short, made from the table of requirement 3-1; tests/model compares with src/spec, which this layer may not link. */
enum place { PLACE_RAM, PLACE_ROM, PLACE_NOWHERE, PLACE_KNOWN_MMIO, PLACE_STALE_MMIO, PLACE_UNMAPPED, PLACE_COUNT };

static enum mmu_fault_class expected(uint64_t code, enum place place)
{
	if (code & PFERR_RSVD) {
		if (place == PLACE_KNOWN_MMIO)
			return FAULT_MMIO;
		if (place != PLACE_STALE_MMIO)
			return FAULT_RETRY;
	}
	switch (place) {
	case PLACE_UNMAPPED:
		return FAULT_INJECT;
	case PLACE_ROM:
		return code & PFERR_W ? FAULT_MMIO : FAULT_MAP;
	case PLACE_RAM:
		return FAULT_MAP;
	default:
		return FAULT_MMIO;
	}
}

struct stage {
	struct machine m;
	uint64_t addresses[PLACE_COUNT];
};

static void stage_start(struct stage *stage, enum mmu_mode mode)
{
	static const gpa_t gpas[] = {0x5000, ROM, NOWHERE, NOWHERE + 0x1000, NOWHERE + 0x2000, 0};
	struct err err;
	struct machine *m = &stage->m;
	machine_start(m, mode);
	mmu_set_check_interval(m->vm, 0);
	assert_true(mem_slot_add(&m->space, 0, 1, ROM, 0x1000, NULL, SLOT_READONLY, &err));
	gpa_t root = enter_long_mode(m);
	for (unsigned place = 0; place < PLACE_COUNT; place++) {
		stage->addresses[place] = mode == MMU_TDP ? gpas[place] : 0x1000 + place * 0x1000;
		if (place != PLACE_UNMAPPED)
			map(m, root, 0x1000 + place * 0x1000, gpas[place] | PWU);
	}
}

/* Puts the address into the state that its name promises, before each call. */
static void stage_prepare(struct stage *stage, enum place place)
{
	struct machine *m = &stage->m;
	struct err err;
	uint64_t address = stage->addresses[place];
	shadow_zap_all(m->vm);
	if (place == PLACE_KNOWN_MMIO || place == PLACE_STALE_MMIO)
		assert_int_equal(mmu_fault(m->vcpu, address, PFERR_U | PFERR_W, &m->translation, &m->fault), FAULT_MMIO);
	if (place == PLACE_STALE_MMIO)
		assert_true(mem_slot_set_flags(&m->space, 0, 1, SLOT_READONLY, &err));
}

static void run_3_1(enum mmu_mode mode)
{
	struct stage stage;
	struct machine *m = &stage.m;
	stage_start(&stage, mode);
	for (enum place place = 0; place < PLACE_COUNT; place++) {
		if (mode == MMU_TDP && place == PLACE_UNMAPPED)
			continue; /* the monitor walks no guest table */
		for (unsigned selection = 0; selection < 1u << ARRAY_LEN(all_bits); selection++) {
			uint64_t code = 0;
			for (unsigned i = 0; i < ARRAY_LEN(all_bits); i++)
				code |= selection >> i & 1 ? all_bits[i] : 0;
			if (place == PLACE_STALE_MMIO && (selection & 0x3f00))
				continue; /* each costs a slot change; the bits that no rule names were tried elsewhere */
			stage_prepare(&stage, place);
			memset(m->trace.counters, 0, sizeof(m->trace.counters));
			enum mmu_fault_class class = mmu_fault(m->vcpu, stage.addresses[place], code, &m->translation, &m->fault);
			if (class != expected(code, place))
				fail_msg("code %#llx place %u: %u", (unsigned long long)code, place, class);
			uint64_t high = mode == MMU_SHADOW ? code >> 32 : 0, synthetic = mode == MMU_TDP ? code & PFERR_SYNTHETIC : 0;
			assert_int_equal(m->trace.counters[COUNT_LEGACY_PFERR_HIGH], high != 0);
			assert_int_equal(m->trace.counters[COUNT_SYNTHETIC_STRIPPED], synthetic != 0);
		}
		machine_check(m);
	}
	machine_stop(m);
}

static void test_3_1_shadow(void **state)
{
	run_3_1(MMU_SHADOW);
}

static void test_3_1_tdp(void **state)
{
	run_3_1(MMU_TDP);
}

/* ---- 3-2 ---- */

static void test_3_2_implicit_access(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		machine_start(&m, mode);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PWU);
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_SMAP);
		for (unsigned round = 0; round < 2; round++) {
			assert_faults(&m, 0x1000, PFERR_IMPLICIT_ACCESS, PFERR_P);
			assert_faults(&m, 0x1000, PFERR_IMPLICIT_ACCESS | ACCESS_AC, PFERR_P);
			assert_faults(&m, 0x1000, PFERR_IMPLICIT_ACCESS | PFERR_U, PFERR_P);
			assert_faults(&m, 0x1000, PFERR_IMPLICIT_ACCESS | ACCESS_AC | PFERR_W, PFERR_P | PFERR_W);
			assert_true(touch(&m, 0x1000, ACCESS_AC));
			assert_true(touch(&m, 0x1000, ACCESS_AC | PFERR_W));
			assert_true(touch(&m, 0x1000, PFERR_U));
			assert_true(touch(&m, 0x1000, PFERR_U | PFERR_W));
			assert_faults(&m, 0x1000, 0, PFERR_P);
		}
		machine_stop(&m);
	}
}

/* ---- 3-3 ---- */

static void test_3_3_dirty_upper_half(void **state)
{
	struct machine clean, dirty;
	machine_start(&clean, MMU_SHADOW);
	machine_start(&dirty, MMU_SHADOW);
	gpa_t root = enter_long_mode(&clean);
	enter_long_mode(&dirty);
	map(&clean, root, 0x1000, 0x5000 | PU);
	map(&dirty, root, 0x1000, 0x5000 | PU);
	for (unsigned i = 0; i < 32; i++) {
		uint64_t low = (i & 1 ? PFERR_W : 0) | (i & 2 ? PFERR_U : 0) | (i & 4 ? PFERR_FETCH : 0) | (i & 8 ? PFERR_P : 0) | (i & 16 ? PFERR_PK : 0);
		enum mmu_fault_class a = mmu_fault(clean.vcpu, 0x1000, low, &clean.translation, &clean.fault);
		enum mmu_fault_class b = mmu_fault(dirty.vcpu, 0x1000, low | 0xdeadbeefull << 32, &dirty.translation, &dirty.fault);
		assert_int_equal(a, b);
		assert_int_equal(clean.fault.code, dirty.fault.code);
		assert_int_equal(spte_access(spte_of(&clean, 0x1000)), spte_access(spte_of(&dirty, 0x1000)));
		assert_int_equal(dirty.trace.counters[COUNT_LEGACY_PFERR_HIGH], i + 1);
	}
	assert_int_equal(clean.trace.counters[COUNT_LEGACY_PFERR_HIGH], 0);
	machine_stop(&clean);
	machine_stop(&dirty);
}

/* ---- 3-6 ---- */

static void install_poisoned(void *argument)
{
	struct machine *m = argument;
	struct fault fault = {.address = 0x1000, .gfn = 5, .slot = m->space.slots[0][0], .host = FAULT_HOST_ERROR, .pfn = FAULT_PFN_ERROR,
			      .generation = m->space.generation};
	fault.walk.dirty = true;
	root_load(m->vcpu);
	tdp_fetch(m->vcpu, &fault);
}

static void install_half_poisoned(void *argument)
{
	struct machine *m = argument;
	struct fault fault = {.address = 0x1000, .gfn = 5, .slot = m->space.slots[0][0], .host = m->space.slots[0][0]->host + 0x5000,
			      .pfn = FAULT_PFN_ERROR, .generation = m->space.generation};
	root_load(m->vcpu);
	tdp_fetch(m->vcpu, &fault);
}

static void test_3_6_error_values_never_become_entries(void **state)
{
	struct machine m;
	machine_start(&m, MMU_TDP);
	assert_is_bug(install_poisoned, &m);
	assert_is_bug(install_half_poisoned, &m);
	machine_stop(&m);
}

/* Every early way out leaves the tables alone: acts at each step, then looks. */
struct actor {
	struct machine *m;
	enum mmu_step when;
	unsigned done;
	bool zap, slots;
};

static void act(void *opaque, enum mmu_step step)
{
	struct actor *actor = opaque;
	struct err err;
	if (step != actor->when || actor->done++)
		return;
	if (actor->zap)
		shadow_zap_all(actor->m->vm);
	if (actor->slots)
		assert_true(mem_slot_set_flags(&actor->m->space, 0, 1, SLOT_READONLY, &err));
}

static void test_3_6_and_staleness_at_every_step(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++)
		for (enum mmu_step step = STEP_AFTER_WALK; step <= STEP_AFTER_RECLAIM; step++)
			for (unsigned what = 1; what < 4; what++) {
				struct stage stage;
				struct machine *m = &stage.m;
				stage_start(&stage, mode);
				struct actor actor = {.m = m, .when = step, .zap = what & 1, .slots = what & 2};
				root_load(m->vcpu);
				m->vm->step = act;
				m->vm->step_opaque = &actor;
				enum mmu_fault_class class = mmu_fault(m->vcpu, stage.addresses[PLACE_RAM], PFERR_W, &m->translation, &m->fault);
				/* a slot change before the snapshot is simply in it */
				bool unseen = step == STEP_AFTER_WALK && !actor.zap;
				assert_int_equal(class, unseen ? FAULT_MAP : FAULT_RETRY);
				assert_int_equal(actor.done, 1 + (step > STEP_AFTER_SNAPSHOT && 0));
				if (!unseen)
					assert_false(spte_is_present(spte_of(m, stage.addresses[PLACE_RAM])));
				machine_check(m);
				assert_true(touch(m, 0x1000, PFERR_W));
				assert_non_null(m->translation.host);
				m->vm->step = NULL;
				machine_stop(m);
			}
}

/* ---- 4-1 and 4-4 ---- */

static void test_4_1_wp_and_the_next_store(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		machine_start(&m, mode);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PU);
		map(&m, root, 0x2000, 0x6000 | PWU | 3ull << PTE_PKEY_SHIFT);
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_PKE);
		for (unsigned round = 0; round < 3; round++) {
			mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
			assert_true(store(&m, 0x1000, 1, 1));
			assert_int_equal(*m.translation.host, 1);
			mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE | CR0_WP);
			assert_faults(&m, 0x1000, PFERR_W, PFERR_P | PFERR_W);
			/* PKRU.WD binds the supervisor under WP only */
			mmu_write_pkru(m.vcpu, 2u << 6);
			assert_faults(&m, 0x2000, PFERR_W, PFERR_P | PFERR_W | PFERR_PK);
			mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
			assert_true(store(&m, 0x2000, 2, 1));
			assert_faults(&m, 0x2000, PFERR_W | PFERR_U, PFERR_P | PFERR_W | PFERR_U | PFERR_PK);
			mmu_write_pkru(m.vcpu, 0);
			assert_true(store(&m, 0x2000, 3, 1));
		}
		machine_stop(&m);
	}
}

static void test_4_4_wp0_conversion(void **state)
{
	for (unsigned smep = 0; smep < 2; smep++) {
		struct machine m;
		machine_start(&m, MMU_SHADOW);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PU);
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | (smep ? CR4_SMEP : 0));
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
		assert_true(store(&m, 0x1000, 0x42, 1));
		uint64_t spte = spte_of(&m, 0x1000);
		assert_true(spte_is_converted(spte));
		assert_int_equal(spte_access(spte) & ~ROLE_ACCESS_UX, smep ? ROLE_ACCESS_W : ROLE_ACCESS_W | ROLE_ACCESS_X);
		/* a user's access takes it back */
		assert_true(touch(&m, 0x1000, PFERR_U));
		spte = spte_of(&m, 0x1000);
		assert_false(spte_is_converted(spte));
		assert_int_equal(spte_access(spte), ROLE_ACCESS_U | ROLE_ACCESS_X | ROLE_ACCESS_UX);
		assert_faults(&m, 0x1000, PFERR_U | PFERR_W, PFERR_P | PFERR_U | PFERR_W);
		assert_true(store(&m, 0x1000, 0x43, 1));
		assert_true(touch(&m, 0x1000, PFERR_U | PFERR_FETCH));
		if (smep)
			assert_faults(&m, 0x1000, PFERR_FETCH, PFERR_P | PFERR_FETCH);
		else
			assert_true(touch(&m, 0x1000, PFERR_FETCH));
		machine_stop(&m);
	}
}

/* Where a converted page would escape SMAP or a key, the store happens once and no entry is made. */
static void test_4_4_no_conversion_under_smap_and_keys(void **state)
{
	static const uint64_t bits[] = {CR4_SMAP, CR4_PKE, CR4_PKS};
	for (unsigned i = 0; i < ARRAY_LEN(bits); i++) {
		struct machine m;
		machine_start(&m, MMU_SHADOW);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PU | 5ull << PTE_PKEY_SHIFT);
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
		assert_true(store(&m, 0x1000, 0x42, 1)); /* converted now */
		assert_true(spte_is_converted(spte_of(&m, 0x1000)));
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | bits[i]);
		assert_false(spte_is_present(spte_of(&m, 0x1000))); /* hidden, except from a role that has other pages */
		assert_true(store_by(&m, m.vcpu, 0x1000, 0x43, 1, ACCESS_AC));
		assert_int_equal(*m.translation.host, 0x43);
		assert_false(spte_is_converted(spte_of(&m, 0x1000)));
		if (bits[i] == CR4_SMAP)
			assert_faults(&m, 0x1000, 0, PFERR_P);
		if (bits[i] == CR4_PKE) {
			mmu_write_pkru(m.vcpu, 1u << 10);
			assert_faults(&m, 0x1000, 0, PFERR_P | PFERR_PK);
		}
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE);
		assert_true(store(&m, 0x1000, 0x44, 1));
		machine_stop(&m);
	}
}

/* ---- read-only slots, dirty pages ---- */

static void test_rom(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct stage stage;
		struct machine *m = &stage.m;
		stage_start(&stage, mode);
		gva_t gva = 0x1000 + PLACE_ROM * 0x1000;
		assert_true(touch(m, gva, PFERR_W));
		assert_null(m->translation.host);
		assert_int_equal(m->translation.gpa, ROM);
		assert_true(touch(m, gva, 0));
		assert_non_null(m->translation.host);
		assert_false(spte_host_writable(spte_of(m, stage.addresses[PLACE_ROM])));
		assert_null(tlb_write_hit(&m->hot, m->hot.bank, gva, 1));
		machine_stop(m);
	}
}

static void test_clean_pages_are_not_writable(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t entry = table_at(&m, root, 4, 0x1000, 1) + 8;
	assert_reads(&m, 0x1000, 0x5000);
	assert_int_equal(peek(&m, entry, 8), 0x5000 | PW | PTE_A);
	assert_int_equal(spte_access(spte_of(&m, 0x1000)) & ROLE_ACCESS_W, 0);
	assert_true(store(&m, 0x1000, 1, 1));
	assert_int_equal(peek(&m, entry, 8), 0x5000 | PW | PTE_A | PTE_D);
	assert_int_equal(spte_access(spte_of(&m, 0x1000)) & ROLE_ACCESS_W, ROLE_ACCESS_W);
	machine_stop(&m);
}

/* Guest tables in a read-only slot: no A, no D, and everything works. */
static void test_tables_in_rom(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		struct err err;
		machine_start(&m, mode);
		assert_true(mem_slot_add(&m.space, 0, 1, ROM, 0x10000, NULL, SLOT_READONLY, &err));
		poke(&m, ROM, (ROM + 0x1000) | PWU, 8);
		poke(&m, ROM + 0x1000, (ROM + 0x2000) | PWU, 8);
		poke(&m, ROM + 0x2000, (ROM + 0x3000) | PWU, 8);
		poke(&m, ROM + 0x2008, 0x200000 | PWU | PTE_PS, 8);
		poke(&m, ROM + 0x3008, 0x5000 | PWU, 8);
		struct mmu_regs regs = regs_long_mode(ROM);
		mmu_set_regs(m.vcpu, &regs);
		for (unsigned round = 0; round < 2; round++) {
			assert_reads(&m, 0x1000, 0x5000);
			assert_true(store(&m, 0x1000, 1, 1));
			assert_reads(&m, 0x201000, 0x201000);
			assert_true(store(&m, 0x201000, 1, 1));
		}
		assert_int_equal(peek(&m, ROM + 0x3008, 8), 0x5000 | PWU);
		machine_stop(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_3_1_shadow), cmocka_unit_test(test_3_1_tdp), cmocka_unit_test(test_3_2_implicit_access),
		cmocka_unit_test(test_3_3_dirty_upper_half), cmocka_unit_test(test_3_6_error_values_never_become_entries),
		cmocka_unit_test(test_3_6_and_staleness_at_every_step), cmocka_unit_test(test_4_1_wp_and_the_next_store),
		cmocka_unit_test(test_4_4_wp0_conversion), cmocka_unit_test(test_4_4_no_conversion_under_smap_and_keys), cmocka_unit_test(test_rom),
		cmocka_unit_test(test_clean_pages_are_not_writable), cmocka_unit_test(test_tables_in_rom),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
