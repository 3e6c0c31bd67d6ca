/*
 * Requirement 3-1: the monitor's decision about a fault, against its written specification (src/spec/fault.h). Every combination of
 * the bits of a code (P, W, U, RSVD, I/D, PK, SS, RMP, FINAL, PAGE, ENC, SIZEM, VMPL, 48, 49) is fed to mmu_fault() for every kind of
 * place, as a #PF on shadow tables and as a fault of the second stage; the class and the complaints must be the specified ones.
 *
 * Whether the guest's own tables refuse the access is not taken from the monitor but from src/spec/walk.h. Private faults, which no
 * machine raises yet, are fed behind the cleaning of the code, to fault_handle().
 */
#include "machine.h"
#include "spec/fault.h"
#include "spec/walk.h"

#define NOWHERE 0xe0000000ull
#define ROM 0xd0000000ull

static const uint64_t bits[] = {
	PFERR_P, PFERR_W, PFERR_U, PFERR_RSVD, PFERR_FETCH, PFERR_PK, PFERR_SS, PFERR_RMP, PFERR_GUEST_FINAL,
	PFERR_GUEST_PAGE, PFERR_GUEST_ENC, PFERR_GUEST_SIZEM, PFERR_GUEST_VMPL, PFERR_IMPLICIT_ACCESS, PFERR_PRIVATE_ACCESS,
};
#define CODES (1u << ARRAY_LEN(bits))

static uint64_t code_of(unsigned selection)
{
	uint64_t code = 0;
	for (unsigned i = 0; i < ARRAY_LEN(bits); i++)
		code |= selection >> i & 1 ? bits[i] : 0;
	return code;
}

/* ---- places ---------------------------------------------------------------------------------------------------------------- */

enum place {
	RAM, ROM_PAGE, NO_SLOT, KNOWN_MMIO, STALE_MMIO, LEAVING_RAM, LEAVING_ROM, LEAVING_NO_SLOT, RAM_GONE_STALE, ROM_GONE_STALE,
	NO_SLOT_GONE_STALE, ABSENT, SUPERVISOR_ONLY, READ_ONLY, NOT_EXECUTABLE, RESERVED, PLACE_COUNT
};

static const struct {
	gpa_t gpa;
	uint64_t flags; /* of the guest's leaf, under shadow */
} places[PLACE_COUNT] = {
	[RAM] = {0x5000, PWU}, [ROM_PAGE] = {ROM, PWU}, [NO_SLOT] = {NOWHERE, PWU}, [KNOWN_MMIO] = {NOWHERE + 0x1000, PWU},
	[STALE_MMIO] = {NOWHERE + 0x2000, PWU}, [LEAVING_RAM] = {0x6000, PWU}, [LEAVING_ROM] = {ROM + 0x1000, PWU},
	[LEAVING_NO_SLOT] = {NOWHERE + 0x3000, PWU}, [RAM_GONE_STALE] = {0x7000, PWU}, [ROM_GONE_STALE] = {ROM + 0x2000, PWU},
	[NO_SLOT_GONE_STALE] = {NOWHERE + 0x4000, PWU}, [ABSENT] = {0x8000, 0}, [SUPERVISOR_ONLY] = {0x9000, PW},
	[READ_ONLY] = {0xa000, PU}, [NOT_EXECUTABLE] = {0xb000, PWU | PTE_NX}, [RESERVED] = {0xc000, PWU | BIT(51)},
};

static bool is_one_of(enum place place, enum place first, enum place last)
{
	return place >= first && place <= last;
}

/* What the specification asks about the place, but for the walk. */
static struct spec_fault_state state_of(enum place place, enum mmu_mode mode)
{
	bool rom = places[place].gpa - ROM < 0x10000;
	return (struct spec_fault_state){
		.source = mode == MMU_SHADOW ? SPEC_SOURCE_PF : SPEC_SOURCE_NPF,
		.mmio = place == KNOWN_MMIO ? SPEC_MMIO_CURRENT : place == STALE_MMIO ? SPEC_MMIO_STALE : SPEC_MMIO_NONE,
		.has_slot = places[place].gpa < NOWHERE,
		.slot_is_read_only = rom,
		.slot_is_leaving = place == LEAVING_RAM || place == LEAVING_ROM,
		.stale = is_one_of(place, RAM_GONE_STALE, NO_SLOT_GONE_STALE),
	};
}

/* ---- the machine ----------------------------------------------------------------------------------------------------------- */

struct stage {
	struct machine m;
	enum mmu_mode mode;
	enum place place;
};

static uint64_t address_of(const struct stage *stage)
{
	return stage->mode == MMU_TDP ? places[stage->place].gpa : 0x100000ull + stage->place * 0x1000;
}

static void stage_start(struct stage *stage, enum mmu_mode mode)
{
	struct err err;
	struct machine *m = &stage->m;
	machine_start(m, mode);
	mmu_set_check_interval(m->vm, 0);
	assert_true(mem_slot_add(&m->space, 0, 1, ROM, 0x10000, NULL, SLOT_READONLY, &err));
	stage->mode = mode;
	gpa_t root = enter_long_mode(m);
	for (unsigned place = 0; place < PLACE_COUNT; place++)
		map(m, root, 0x100000 + place * 0x1000, places[place].gpa | places[place].flags);
}

/* Something happens to the root while the monitor is busy reclaiming. */
static void zap_everything(void *opaque, enum mmu_step step)
{
	struct stage *stage = opaque;
	if (step == STEP_AFTER_RECLAIM)
		shadow_zap_all(stage->m.vm);
}

/* Brings the place into the state that its name promises. */
static void prepare(struct stage *stage)
{
	struct machine *m = &stage->m;
	struct err err;
	m->space.updating = false;
	m->vm->step = NULL;
	shadow_zap_all(m->vm);
	if (stage->place == KNOWN_MMIO || stage->place == STALE_MMIO)
		assert_int_equal(mmu_fault(m->vcpu, address_of(stage), PFERR_U | PFERR_W, &m->translation, &m->fault), FAULT_MMIO);
	if (stage->place == STALE_MMIO)
		assert_true(mem_slot_set_flags(&m->space, 0, 1, SLOT_READONLY, &err));
	m->space.updating = is_one_of(stage->place, LEAVING_RAM, LEAVING_NO_SLOT);
	m->vm->step_opaque = stage;
	if (is_one_of(stage->place, RAM_GONE_STALE, NO_SLOT_GONE_STALE))
		m->vm->step = zap_everything;
	memset(m->trace.counters, 0, sizeof(m->trace.counters));
}

/* ---- the guest's tables, by the specification ------------------------------------------------------------------------------- */

static bool read_guest(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	struct machine *m = opaque;
	*ret_value = 0;
	return mem_read(&m->space, 0, gpa, ret_value, size);
}

/*
 * A #PF code says what was asked in three bits of its lower half; that of a store and a fetch at once, which no processor gives, is taken
 * for a store. Under tdp the monitor walks nothing.
 */
static bool walk_refuses(struct stage *stage, uint64_t code)
{
	const struct mmu_regs *regs = mmu_get_regs(stage->m.vcpu);
	struct spec_memory memory = {.read = read_guest, .opaque = &stage->m};
	struct spec_regs spec = {
		.cr0 = regs->cr0, .cr3 = regs->cr3, .cr4 = regs->cr4, .efer = regs->efer, .maxphyaddr = stage->m.cpuid.maxphyaddr,
		.feat_nx = true, .feat_pdpe1gb = true, .feat_pse36 = true, .vendor = stage->m.cpuid.vendor,
	};
	struct spec_access access = {.write = code & PFERR_W, .user = code & PFERR_U, .fetch = (code & PFERR_FETCH) && !(code & PFERR_W)};
	struct spec_result result;
	return stage->mode == MMU_SHADOW && !spec_walk(&spec, &memory, address_of(stage), &access, &result);
}

/* ---- comparing ------------------------------------------------------------------------------------------------------------- */

static bool same_class(enum mmu_fault_class ours, enum spec_fault_class theirs)
{
	switch (theirs) {
	case SPEC_CLASS_MAP:
		return ours == FAULT_MAP;
	case SPEC_CLASS_EMULATE:
		return ours == FAULT_MMIO || ours == FAULT_EMULATE;
	case SPEC_CLASS_RETRY:
		return ours == FAULT_RETRY;
	case SPEC_CLASS_MEMORY_FAULT_EXIT:
		return ours == FAULT_MEMORY_EXIT;
	case SPEC_CLASS_INJECT:
		return ours == FAULT_INJECT;
	}
	return false;
}

static void compare(struct stage *stage, uint64_t code, enum mmu_fault_class ours, const struct spec_fault_verdict *verdict)
{
	if (!same_class(ours, verdict->class))
		fail_msg("mode %u, place %u, code %#llx: class %u, expected that of \"%s\"", stage->mode, stage->place,
			 (unsigned long long)code, ours, verdict->rule);
}

static void one_code(struct stage *stage, uint64_t code)
{
	struct machine *m = &stage->m;
	struct spec_fault_state state = state_of(stage->place, stage->mode);
	state.walk_refuses = walk_refuses(stage, code);
	struct spec_fault_verdict verdict = spec_fault_classify(code, &state);
	prepare(stage);
	enum mmu_fault_class ours = mmu_fault(m->vcpu, address_of(stage), code, &m->translation, &m->fault);
	compare(stage, code, ours, &verdict);
	assert_int_equal(m->trace.counters[COUNT_LEGACY_PFERR_HIGH] + m->trace.counters[COUNT_SYNTHETIC_STRIPPED], verdict.warnings);
	if (ours == FAULT_INJECT)
		assert_false(m->fault.code & PFERR_SYNTHETIC);
	if (ours == FAULT_MMIO || ours == FAULT_EMULATE)
		assert_int_equal(m->translation.gpa, places[stage->place].gpa);
}

static uint64_t compared;

static void every_code(enum mmu_mode mode)
{
	static struct stage stage;
	stage_start(&stage, mode);
	for (stage.place = 0; stage.place < PLACE_COUNT; stage.place++) {
		for (unsigned selection = 0; selection < CODES; selection++) {
			one_code(&stage, code_of(selection));
			compared++;
		}
		stage.m.space.updating = false;
		machine_check(&stage.m);
	}
	stage.m.vm->step = NULL;
	machine_stop(&stage.m);
}

static void test_3_1_page_faults(void **state)
{
	every_code(MMU_SHADOW);
}

static void test_3_1_second_stage(void **state)
{
	every_code(MMU_TDP);
}

/* A guest with encrypted memory, whose faults are private where the code has ENC: the monitor is told by bit 49. */
static void test_3_1_private_faults(void **state)
{
	static struct stage stage;
	stage_start(&stage, MMU_TDP);
	for (stage.place = 0; stage.place < PLACE_COUNT; stage.place++) {
		struct machine *m = &stage.m;
		for (unsigned selection = 0; selection < CODES; selection++) {
			uint64_t code = code_of(selection);
			if (code & PFERR_SYNTHETIC)
				continue;
			struct spec_fault_state fault_state = state_of(stage.place, MMU_TDP);
			fault_state.vm = SPEC_VM_SNP;
			fault_state.private_at_check = code & PFERR_GUEST_ENC; /* no attribute differs */
			struct spec_fault_verdict verdict = spec_fault_classify(code, &fault_state);
			prepare(&stage);
			compare(&stage, code, fault_handle(m->vcpu, address_of(&stage), verdict.code, &m->translation, &m->fault), &verdict);
			compared++;
		}
	}
	stage.m.space.updating = false;
	stage.m.vm->step = NULL;
	machine_stop(&stage.m);
}

static void test_every_combination_was_tried(void **state)
{
	print_message("%llu faults compared\n", (unsigned long long)compared);
	assert_int_equal(compared, 2ull * PLACE_COUNT * CODES + PLACE_COUNT * (CODES / 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_3_1_page_faults),
		cmocka_unit_test(test_3_1_second_stage),
		cmocka_unit_test(test_3_1_private_faults),
		cmocka_unit_test(test_every_combination_was_tried),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
