/* Faults of the nested tables as exits, and the instruction bytes that data faults bring along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/system.h"
#include "one_machine.h"

#define ABSENT 0x150000u /* a page that is not mapped */
#define PRESENT (PTE_P | PTE_W | PTE_A | PTE_D)

/* 48 C7 04 25 disp32 imm32: twelve bytes that store at ABSENT; the next three belong to what follows. */
static const uint8_t store[] = {0x48, 0xc7, 0x04, 0x25, 0x00, 0x00, 0x15, 0x00, 0x11, 0x22, 0x33, 0x44, 0x90, 0x91, 0x92, 0x93};

/* The guest stores at ABSENT, from an instruction at rip, and #PF is intercepted. */
static const struct vmcb *page_fault_at(uint64_t rip)
{
	nested_rewind(f);
	fixture_map(f, ABSENT, 0);
	fixture_code_at(f, rip, store, sizeof(store));
	nested_vmcb(f)->save.rip = rip;
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = BIT(VEC_PF);
	nested_vmrun(f);
	fixture_run(f, 1);
	assert_false(f->v->guest_mode);
	const struct vmcb *vmcb = nested_vmcb(f);
	assert_int_equal(vmcb->control.exit_code, 0x4e);
	assert_int_equal(vmcb->save.rip, rip);
	return vmcb;
}

static void data_page_fault(void **state)
{
	const struct vmcb *vmcb = page_fault_at(NESTED_CODE + 0x20);
	assert_int_equal(vmcb->control.exit_info_1, PFERR_W);
	assert_int_equal(vmcb->control.exit_info_2, ABSENT);
	assert_int_equal(vmcb->save.cr2, 0xc2c2c2c2); /* tested before CR2 is written */
	assert_int_equal(vmcb->control.insn_length, 15);
	assert_memory_equal(vmcb->control.insn_bytes, store, 15);
}

static void bytes_across_pages(void **state)
{
	for (unsigned in_first = 12; in_first <= 15; in_first++) {
		fixture_map(f, NESTED_CODE + 0x1000, (NESTED_CODE + 0x1000) | PRESENT);
		const struct vmcb *vmcb = page_fault_at(NESTED_CODE + 0x1000 - in_first);
		assert_int_equal(vmcb->control.insn_length, 15);
		assert_memory_equal(vmcb->control.insn_bytes, store, 15);
		fixture_map(f, NESTED_CODE + 0x1000, 0);
		fixture_code_at(f, NESTED_CODE + 0x1000, store, 1);
		vmcb = page_fault_at(NESTED_CODE + 0x1000 - in_first);
		assert_int_equal(vmcb->control.insn_length, in_first);
		assert_memory_equal(vmcb->control.insn_bytes, store, in_first);
	}
	fixture_map(f, NESTED_CODE + 0x1000, (NESTED_CODE + 0x1000) | PRESENT);
}

static void fetch_page_fault(void **state)
{
	nested_rewind(f);
	fixture_map(f, ABSENT, 0);
	nested_vmcb(f)->save.rip = ABSENT;
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = BIT(VEC_PF);
	nested_vmrun(f);
	fixture_run(f, 1);
	const struct vmcb *vmcb = nested_vmcb(f);
	assert_int_equal(vmcb->control.exit_code, 0x4e);
	assert_int_equal(vmcb->control.exit_info_1, PFERR_FETCH);
	assert_int_equal(vmcb->control.insn_length, 0);
}

static void without_assists(void **state)
{
	change_model("amd,-decodeassists");
	const struct vmcb *vmcb = page_fault_at(NESTED_CODE);
	assert_int_equal(vmcb->control.insn_length, 0);
	change_model("amd");
}

/* What the MMU says of the nested tables, and nothing that is only ours. */
static void exit_information(void **state)
{
	static const uint64_t codes[] = {PFERR_GUEST_FINAL | PFERR_U, PFERR_GUEST_FINAL | PFERR_U | PFERR_W | PFERR_P,
					 PFERR_GUEST_PAGE | PFERR_U | PFERR_W, PFERR_GUEST_FINAL | PFERR_U | PFERR_FETCH | PFERR_P,
					 PFERR_GUEST_PAGE | PFERR_U | PFERR_P | PFERR_RSVD | PFERR_W};
	for (size_t n = 0; n < ARRAY_LEN(codes); n++)
		for (unsigned delivering = 0; delivering < 2; delivering++) {
			struct event event = {.kind = EVENT_EXTERNAL, .vector = 0x77};
			struct mmu_guest_fault fault = {.code = codes[n] | PFERR_SYNTHETIC, .gva = 0x123, .gpa = 0xabcd123,
							.stage = codes[n] & PFERR_GUEST_PAGE ? STAGE_2_TABLE : STAGE_2_FINAL};
			nested_rewind(f);
			fixture_code_at(f, NESTED_CODE, store, sizeof(store));
			nested_vmrun(f);
			assert_false(raise_page_fault(f->v, &fault));
			assert_int_equal(f->v->status, ST_VMEXIT);
			vcpu_leave_guest(f->v, delivering ? &event : NULL);
			const struct vmcb *vmcb = nested_vmcb(f);
			assert_int_equal(vmcb->control.exit_code, 0x400);
			assert_int_equal(vmcb->control.exit_info_1, codes[n]);
			assert_int_equal(vmcb->control.exit_info_2, 0xabcd123);
			assert_int_equal(vmcb->control.exit_int_info, delivering ? EVENT_VALID | 0x77 : 0);
			bool bytes = !delivering && !(codes[n] & PFERR_FETCH);
			assert_int_equal(vmcb->control.insn_length, bytes ? 15 : 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_page_fault), cmocka_unit_test(bytes_across_pages), cmocka_unit_test(fetch_page_fault),
		cmocka_unit_test(without_assists), cmocka_unit_test(exit_information),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
