/* Control registers, descriptor table registers, INVPCID, protection key register (cpu/exec_ctrl.c). */
#include "guest.h"

#define MOV_CR(n) 0x0f, 0x22, 0xc0 | (n) << 3 /* from EAX */

static void cr0_combinations(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = CR0_PG;
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(0));
	g.v->gpr[REG_RAX] = CR0_PE | CR0_NW;
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(0));
	g.v->gpr[REG_RAX] = CR0_PE | CR0_CD | CR0_NW | BIT(7);
	RUN(&g, 1, MOV_CR(0));
	assert_int_equal(g.v->cr0, CR0_PE | CR0_CD | CR0_NW | CR0_ET);
	guest_set_mode(&g);
	set_privilege(&g, 3);
	RUN(&g, 3, MOV_CR(0));
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RAX] = g.v->cr0 | BIT(32);
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(0));
	g.v->gpr[REG_RAX] = CR0_PE; /* paging cannot end in 64-bit code */
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(0));
	guest_stop(&g);
}

static void entering_and_leaving_long_mode(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->efer = EFER_LME;
	g.v->cr3 = TABLES;
	vcpu_registers_changed(g.v);
	g.v->gpr[REG_RAX] = CR0_PE | CR0_PG;
	RUN(&g, 3, MOV_CR(0)); /* without PAE */
	assert_vector(&g, VEC_GP);
	g.v->cr4 = CR4_PAE;
	vcpu_registers_changed(g.v);
	g.v->gpr[REG_RAX] = CR0_PE | CR0_PG;
	RUN(&g, 1, MOV_CR(0));
	assert_int_equal(g.v->mode, MODE_COMPAT);
	assert_true(g.v->efer & EFER_LMA);
	guest_set_mode(&g);
	g.v->cr0 |= CR0_PG;
	g.v->efer = EFER_LME | EFER_LMA;
	vcpu_registers_changed(g.v);
	g.v->gpr[REG_RAX] = CR0_PE;
	RUN(&g, 1, MOV_CR(0));
	assert_false(g.v->efer & EFER_LMA);
	assert_int_equal(g.v->mode, MODE_PROTECTED);
	guest_stop(&g);
}

/* A task register with a 16-bit TSS keeps Intel's processors out of long mode, and not AMD's. */
static void long_mode_with_a_16_bit_tss(void **state)
{
	for (unsigned intel = 0; intel < 2; intel++) {
		struct guest g;
		guest_start(&g, GUEST_PROTECTED);
		g.v->model.vendor = intel ? VENDOR_INTEL : VENDOR_AMD;
		g.v->efer = EFER_LME;
		g.v->cr3 = TABLES;
		g.v->cr4 = CR4_PAE;
		g.v->seg[SEG_TR].attr = SEG_ATTR_P | SYS_TSS16_BUSY;
		vcpu_registers_changed(g.v);
		g.v->gpr[REG_RAX] = CR0_PE | CR0_PG;
		RUN(&g, intel ? 3 : 1, MOV_CR(0));
		if (intel)
			assert_vector(&g, VEC_GP);
		assert_int_equal(!!(g.v->efer & EFER_LMA), !intel);
		if (!intel)
			guest_set_mode(&g);
		guest_stop(&g);
	}
}

static void pae_pointers_are_checked(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	poke_number(&g, TABLES + 0x2000, (TABLES + 0x3000) | 1, 8);
	poke_number(&g, TABLES + 0x3000, 0x87, 8);
	g.v->cr4 = CR4_PAE;
	g.v->cr3 = TABLES + 0x2000;
	vcpu_registers_changed(g.v);
	poke_number(&g, TABLES + 0x2008, 1 | 2, 8); /* bit 1 is reserved in a PDPTE */
	g.v->gpr[REG_RAX] = CR0_PE | CR0_PG;
	RUN(&g, 3, MOV_CR(0));
	assert_vector(&g, VEC_GP);
	assert_false(g.v->cr0 & CR0_PG);
	poke_number(&g, TABLES + 0x2008, 0, 8);
	g.v->halted = false;
	RUN(&g, 1, MOV_CR(0));
	assert_true(g.v->cr0 & CR0_PG);
	guest_stop(&g);
}

static void cr4_follows_the_features(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,-smep,-pku,-la57");
	g.v->gpr[REG_RAX] = CR4_PAE | CR4_SMEP;
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(4));
	g.v->gpr[REG_RAX] = CR4_PAE | CR4_PKE;
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(4));
	g.v->gpr[REG_RAX] = 0xffffffff;
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(4));
	g.v->gpr[REG_RAX] = CR4_PAE | CR4_SMAP | CR4_UMIP;
	RUN(&g, 1, MOV_CR(4));
	assert_int_equal(g.v->cr4, CR4_PAE | CR4_SMAP | CR4_UMIP);
	guest_stop(&g);
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RAX] = 0; /* PAE is needed as long as long mode is active */
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(4));
	g.v->gpr[REG_RAX] = CR4_PAE | CR4_LA57; /* not while long mode is active */
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(4));
	guest_stop(&g);
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = CR4_LA57;
	RUN(&g, 1, MOV_CR(4));
	assert_int_equal(g.v->cr4, CR4_LA57);
	g.v->gpr[REG_RAX] = CR4_PCIDE;
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(4));
	guest_stop(&g);
}

static void pcids(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RAX] = TABLES | 1;
	RUN(&g, 1, MOV_CR(3));
	assert_int_equal(g.v->cr3, TABLES | 1);
	g.v->gpr[REG_RAX] = CR4_PAE | CR4_PCIDE; /* CR3[11:0] is not zero */
	RUN(&g, 3, MOV_CR(4));
	assert_vector(&g, VEC_GP);
	guest_set_mode(&g);
	RUN(&g, 1, MOV_CR(4));
	assert_true(g.v->cr4 & CR4_PCIDE);
	g.v->gpr[REG_RAX] = TABLES | 5 | CR3_NO_FLUSH;
	run_bytes(&g, 1, (const uint8_t[]){MOV_CR(3)}, 3);
	assert_int_equal(g.v->cr3, TABLES | 5);
	g.v->gpr[REG_RAX] = TABLES | BIT(40);
	RUN(&g, 3, MOV_CR(3));
	assert_vector(&g, VEC_GP);
	guest_set_mode(&g);
	g.v->gpr[REG_RAX] = TABLES | CR3_NO_FLUSH; /* reserved without PCIDE */
	EXPECT_FAULT(&g, VEC_GP, 0, MOV_CR(3));
	guest_stop(&g);
}

static void invpcid(void **state)
{
	struct guest g;
	const uint8_t bytes[] = {0x66, 0x0f, 0x38, 0x82, 0x04, 0x25, 0x00, 0x00, 0x03, 0x00}; /* invpcid rax, [DATA] */
	guest_start(&g, GUEST_LONG);
	for (unsigned type = 0; type < 4; type++) {
		g.v->gpr[REG_RAX] = type;
		run_bytes(&g, 1, bytes, sizeof(bytes));
		assert_int_equal(g.v->rip, CODE + sizeof(bytes));
	}
	g.v->gpr[REG_RAX] = 4;
	expect_fault(&g, VEC_GP, 0, bytes, sizeof(bytes));
	poke_number(&g, DATA, 1, 8);
	for (unsigned type = 0; type < 2; type++) {
		g.v->gpr[REG_RAX] = type;
		expect_fault(&g, VEC_GP, 0, bytes, sizeof(bytes)); /* a PCID without CR4.PCIDE */
	}
	poke_number(&g, DATA, 0, 8);
	poke_number(&g, DATA + 8, BIT(60), 8);
	g.v->gpr[REG_RAX] = 0;
	expect_fault(&g, VEC_GP, 0, bytes, sizeof(bytes));
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "intel,-invpcid");
	expect_fault(&g, VEC_UD, 0, bytes, sizeof(bytes));
	guest_stop(&g);
}

static void descriptor_tables(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,-la57");
	poke_number(&g, DATA, 0x7f, 2);
	poke_number(&g, DATA + 2, BIT(50), 8);
	EXPECT_FAULT(&g, VEC_GP, 0, 0x0f, 0x01, 0x14, 0x25, 0x00, 0x00, 0x03, 0x00); /* lgdt */
	poke_number(&g, DATA + 2, 0x123456789a, 8);
	RUN(&g, 1, 0x0f, 0x01, 0x14, 0x25, 0x00, 0x00, 0x03, 0x00);
	assert_int_equal(g.v->gdtr.base, 0x123456789a);
	assert_int_equal(g.v->gdtr.limit, 0x7f);
	RUN(&g, 1, 0x0f, 0x01, 0x04, 0x25, 0x40, 0x00, 0x03, 0x00); /* sgdt */
	assert_int_equal(peek(&g, DATA + 0x40, 2), 0x7f);
	assert_int_equal(peek(&g, DATA + 0x42, 8), 0x123456789a);
	guest_set_mode(&g);
	g.v->cr4 |= CR4_UMIP;
	vcpu_registers_changed(g.v);
	set_privilege(&g, 3);
	RUN(&g, 3, 0x0f, 0x01, 0x0c, 0x25, 0x40, 0x00, 0x03, 0x00); /* sidt */
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
	guest_start(&g, GUEST_REAL);
	poke_number(&g, 0x600, 0x11, 2);
	poke_number(&g, 0x602, 0x89abcdef, 4);
	RUN(&g, 1, 0x0f, 0x01, 0x16, 0x00, 0x06); /* lgdtw: 24 bits of base */
	assert_int_equal(g.v->gdtr.base, 0xabcdef);
	RUN(&g, 1, 0x66, 0x0f, 0x01, 0x16, 0x00, 0x06);
	assert_int_equal(g.v->gdtr.base, 0x89abcdef);
	guest_stop(&g);
}

static void machine_status_word(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = CR0_TS;
	RUN(&g, 1, 0x0f, 0x01, 0xf0); /* lmsw: PE stays */
	assert_int_equal(g.v->cr0, CR0_PE | CR0_TS | CR0_ET);
	RUN(&g, 1, 0x0f, 0x06); /* clts */
	assert_int_equal(g.v->cr0, CR0_PE | CR0_ET);
	RUN(&g, 1, 0x0f, 0x01, 0xe3); /* smsw ebx */
	assert_int_equal(g.v->gpr[REG_RBX], CR0_PE | CR0_ET);
	guest_stop(&g);
}

static void task_priority(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RAX] = 5;
	RUN(&g, 1, 0x44, 0x0f, 0x22, 0xc0); /* mov cr8, rax */
	assert_int_equal(g.cr8, 5);
	RUN(&g, 1, 0x44, 0x0f, 0x20, 0xc3);
	assert_int_equal(g.v->gpr[REG_RBX], 5);
	g.v->gpr[REG_RAX] = 16;
	EXPECT_FAULT(&g, VEC_GP, 0, 0x44, 0x0f, 0x22, 0xc0);
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0x22, 0xc8); /* cr1 */
	guest_stop(&g);
}

static void protection_key_register(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0x01, 0xee);
	g.v->gpr[REG_RAX] = CR4_PAE | CR4_PKE;
	RUN(&g, 1, MOV_CR(4));
	g.v->gpr[REG_RAX] = 0x55555554;
	g.v->gpr[REG_RCX] = g.v->gpr[REG_RDX] = 0;
	RUN(&g, 1, 0x0f, 0x01, 0xef);
	assert_int_equal(g.v->pkru, 0x55555554);
	assert_int_equal(mmu_get_regs(g.v->mmu)->pkru, 0x55555554);
	g.v->gpr[REG_RCX] = 1;
	RUN(&g, 3, 0x0f, 0x01, 0xee);
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
}

static void alignment_check_flag(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	RUN(&g, 1, 0x0f, 0x01, 0xcb);
	assert_true(g.v->rflags & FLAG_AC);
	assert_int_equal(g.v->hot.tlb_class, TLB_SUPER_AC);
	RUN(&g, 1, 0x0f, 0x01, 0xca);
	assert_false(g.v->rflags & FLAG_AC);
	set_privilege(&g, 3);
	RUN(&g, 3, 0x0f, 0x01, 0xcb);
	assert_vector(&g, VEC_UD);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cr0_combinations), cmocka_unit_test(entering_and_leaving_long_mode),
		cmocka_unit_test(long_mode_with_a_16_bit_tss),
		cmocka_unit_test(pae_pointers_are_checked), cmocka_unit_test(cr4_follows_the_features), cmocka_unit_test(pcids),
		cmocka_unit_test(invpcid), cmocka_unit_test(descriptor_tables), cmocka_unit_test(machine_status_word),
		cmocka_unit_test(task_priority), cmocka_unit_test(protection_key_register), cmocka_unit_test(alignment_check_flag),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
