/* Model-specific registers (cpu/msr.c). */
#include "guest.h"

static void write_good(struct guest *g, uint32_t number, uint64_t value)
{
	uint64_t back = 0;
	if (!msr_write(g->v, number, value) || !msr_read(g->v, number, &back))
		fail_msg("msr %#x refuses %#llx", number, (unsigned long long)value);
	assert_int_equal(back, value);
}

static void write_bad(struct guest *g, uint32_t number, uint64_t value)
{
	uint64_t before = 0, after = 0;
	bool exists = msr_read(g->v, number, &before);
	if (msr_write(g->v, number, value))
		fail_msg("msr %#x takes %#llx", number, (unsigned long long)value);
	assert_int_equal(msr_read(g->v, number, &after), exists);
	assert_int_equal(before, after);
}

static void values(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,-la57");
	write_good(&g, MSR_SYSENTER_CS, 0x1234);
	write_good(&g, MSR_SYSENTER_ESP, 0x00007fffffffffffull);
	write_good(&g, MSR_PAT, 0x07070707);
	write_bad(&g, MSR_PAT, 0x02);
	write_good(&g, MSR_SFMASK, 0xffffffff);
	const uint32_t canonical[] = {MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_CSTAR, MSR_SYSENTER_EIP};
	for (unsigned n = 0; n < ARRAY_LEN(canonical); n++) {
		write_good(&g, canonical[n], 0xffff800000000000ull);
		write_bad(&g, canonical[n], 1ull << 47);
	}
	write_good(&g, MSR_TSC_AUX, 0x1234);
	write_bad(&g, MSR_TSC_AUX, 1ull << 32);
	write_good(&g, MSR_PKRS, 0x55);
	write_bad(&g, MSR_PKRS, 1ull << 32);
	write_good(&g, 0x200, 0x100000006ull & ~BIT(32));
	write_bad(&g, 0x200, 2);
	write_bad(&g, 0x201, BIT(40));
	write_good(&g, MSR_MTRR_DEFTYPE, 0xc06);
	write_bad(&g, MSR_MTRR_DEFTYPE, 0x1000);
	write_good(&g, MSR_MTRR_FIX4K_F8000, 0x0606060606060606ull);
	write_bad(&g, MSR_DEBUGCTL, 1);
	guest_stop(&g);
}

static void misc_enable(void **state)
{
	struct guest g;
	uint64_t value;
	guest_start(&g, GUEST_LONG);
	assert_true(msr_read(g.v, MSR_MISC_ENABLE, &value));
	for (unsigned bit = 0; bit < 64; bit++) {
		bool writable = BIT(bit) & (BIT(0) | BIT(3) | BIT(16) | BIT(18) | BIT(22) | BIT(23) | BIT(34));
		bool kept = bit == 7 || bit == 11 || bit == 12;
		assert_int_equal(msr_write(g.v, MSR_MISC_ENABLE, value ^ BIT(bit)), writable || kept);
	}
	assert_true(msr_write(g.v, MSR_MISC_ENABLE, 0));
	assert_true(msr_read(g.v, MSR_MISC_ENABLE, &value));
	assert_int_equal(value, BIT(11) | BIT(12));
	guest_stop(&g);
}

static void efer(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,-nx");
	write_bad(&g, MSR_EFER, g.v->efer ^ EFER_LME); /* while paging */
	write_bad(&g, MSR_EFER, g.v->efer | EFER_NX);
	write_bad(&g, MSR_EFER, g.v->efer | EFER_SVME);
	write_good(&g, MSR_EFER, g.v->efer & ~EFER_SCE);
	assert_true(msr_write(g.v, MSR_EFER, g.v->efer & ~EFER_LMA)); /* LMA is not the writer's */
	assert_true(g.v->efer & EFER_LMA);
	guest_stop(&g);
}

static void unknown_numbers(void **state)
{
	struct guest g;
	uint64_t value;
	guest_start(&g, GUEST_LONG);
	for (uint32_t number = 0x400; number < 0x480; number++) {
		assert_false(msr_read(g.v, number, &value));
		assert_false(msr_write(g.v, number, 0));
	}
	const uint32_t absent[] = {MSR_SPEC_CTRL, MSR_PRED_CMD, MSR_FLUSH_CMD, MSR_KVM_SYSTEM_TIME, MSR_VM_CR, MSR_K7_EVNTSEL0, 0x12345678};
	for (unsigned n = 0; n < ARRAY_LEN(absent); n++)
		assert_false(msr_read(g.v, absent[n], &value) || msr_write(g.v, absent[n], 0));
	assert_false(msr_write(g.v, MSR_MTRRCAP, 0x508));
	g.v->gpr[REG_RCX] = 0x12345678;
	EXPECT_FAULT(&g, VEC_GP, 0, 0x0f, 0x32);
	EXPECT_FAULT(&g, VEC_GP, 0, 0x0f, 0x30);
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "amd");
	for (uint32_t number = MSR_K7_EVNTSEL0; number <= MSR_K7_PERFCTR3; number++) {
		assert_true(msr_write(g.v, number, 0x5300c0));
		assert_true(msr_read(g.v, number, &value));
		assert_int_equal(value, 0);
	}
	assert_false(msr_read(g.v, MSR_MISC_ENABLE, &value));
	assert_false(msr_read(g.v, MSR_PKRS, &value));
	guest_stop(&g);
}

/* What kernels read and write without asking. */
static void vendor_registers(void **state)
{
	struct guest g;
	uint64_t value;
	guest_start_model(&g, GUEST_LONG, "amd");
	const uint32_t quiet[] = {MSR_NB_CFG, MSR_INT_PENDING, MSR_MMIO_CONF_BASE, MSR_TSEG_ADDR, MSR_TSEG_MASK, MSR_BU_CFG2, MSR_SYSCFG};
	for (unsigned n = 0; n < ARRAY_LEN(quiet); n++) {
		assert_true(msr_read(g.v, quiet[n], &value));
		assert_int_equal(value, 0);
	}
	assert_true(msr_write(g.v, MSR_NB_CFG, BIT(46)));
	assert_true(msr_read(g.v, MSR_HWCR, &value));
	assert_int_equal(value, HWCR_TSC_FREQUENCY);
	write_good(&g, MSR_DE_CFG, DE_CFG_LFENCE_SERIALIZES);
	write_bad(&g, MSR_DE_CFG, 1);
	write_good(&g, MSR_XSS, 0);
	for (unsigned bit = 0; bit < 64; bit++)
		write_bad(&g, MSR_XSS, BIT(bit));
	assert_false(msr_read(g.v, MSR_ARCH_CAPABILITIES, &value));
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "intel,-xsaves");
	assert_false(msr_read(g.v, MSR_XSS, &value));
	assert_true(msr_read(g.v, MSR_ARCH_CAPABILITIES, &value));
	assert_true((value & 1) && !msr_write(g.v, MSR_ARCH_CAPABILITIES, value));
	assert_false(msr_read(g.v, MSR_DE_CFG, &value) || msr_read(g.v, MSR_NB_CFG, &value));
	guest_stop(&g);
}

static void time_stamp_counter(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	write_good(&g, MSR_TSC, 100000000000ull);
	assert_int_equal(g.v->tsc_adjust, 100000000000ull);
	RUN(&g, 1, 0x0f, 0x31);
	assert_int_equal(g.v->gpr[REG_RAX] | g.v->gpr[REG_RDX] << 32, 100000000000ull);
	write_good(&g, MSR_TSC_ADJUST, 0);
	assert_int_equal(vcpu_tsc(g.v), 0);
	guest_stop(&g);
}

static void apic_base(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,-x2apic");
	write_good(&g, MSR_APIC_BASE, 0xfed40800);
	write_bad(&g, MSR_APIC_BASE, 0xfee00c00);
	write_bad(&g, MSR_APIC_BASE, 0xfee00801);
	write_bad(&g, MSR_APIC_BASE, 0xfee00800 | BIT(40));
	write_bad(&g, 0x808, 0);
	guest_stop(&g);
}

static void list_is_complete_and_readable(void **state)
{
	struct guest g;
	uint32_t numbers[128];
	uint64_t value;
	guest_start(&g, GUEST_LONG);
	size_t count = msr_list(g.v, numbers, ARRAY_LEN(numbers));
	assert_in_range(count, 30, ARRAY_LEN(numbers));
	for (size_t n = 0; n < count; n++) {
		assert_true(n == 0 || numbers[n] > numbers[n - 1]);
		assert_true(msr_read(g.v, numbers[n], &value));
		assert_true(msr_write(g.v, numbers[n], value));
	}
	guest_stop(&g);
}

static void segment_bases_reach_the_segments(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RCX] = MSR_GS_BASE;
	g.v->gpr[REG_RAX] = DATA;
	g.v->gpr[REG_RDX] = 0;
	RUN(&g, 1, 0x0f, 0x30);
	poke_number(&g, DATA + 8, 0x77, 8);
	RUN(&g, 1, 0x65, 0x48, 0x8b, 0x1c, 0x25, 8, 0, 0, 0); /* mov rbx, gs:[8] */
	assert_int_equal(g.v->gpr[REG_RBX], 0x77);
	RUN(&g, 1, 0x0f, 0x01, 0xf8); /* swapgs */
	assert_int_equal(g.v->kernel_gs_base, DATA);
	assert_int_equal(g.v->seg[SEG_GS].base, 0);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values), cmocka_unit_test(misc_enable), cmocka_unit_test(efer), cmocka_unit_test(unknown_numbers),
		cmocka_unit_test(time_stamp_counter), cmocka_unit_test(apic_base), cmocka_unit_test(list_is_complete_and_readable),
		cmocka_unit_test(segment_bases_reach_the_segments), cmocka_unit_test(vendor_registers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
