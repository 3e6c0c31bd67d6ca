/* Processors of a machine without a board: exits and their answers, registers, interrupts. */
#include "guest.h"

static void io_exits_are_answered(void **state)
{
	static const uint8_t code[] = {0xe4, 0x10, 0x04, 0x01, 0xe6, 0x11, 0xba, 0xff, 0xff, 0x66, 0xed, 0x66, 0xef, 0xf4};
	/* in al,10h; add al,1; out 11h,al; mov dx,0ffffh; in eax,dx; out dx,eax; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_exit *exit = umbra_vcpu_run(guest.vcpu, 0);

	expect_exit(exit, UMBRA_EXIT_IO, false, 1, 0x10);
	exit->data = 0x41;
	exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_IO, true, 1, 0x11);
	assert_int_equal(exit->data, 0x42);
	exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_IO, false, 4, 0xffff);
	exit->data = 0x123456789ull; /* only four bytes count */
	exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_IO, true, 4, 0xffff);
	assert_int_equal(exit->data, 0x23456789);
	exit = umbra_vcpu_run(guest.vcpu, 0);
	assert_int_equal(exit->reason, UMBRA_EXIT_HALT);
	assert_ptr_equal(exit, umbra_vcpu_exit(guest.vcpu));
	guest_destroy(&guest);
}

/* One instruction, two exits: the read is answered, the instruction starts again, and its write is the second exit. */
static void read_modify_write_on_mmio(void **state)
{
	static const uint8_t code[] = {0x68, 0x00, 0x20, 0x1f, 0x66, 0x83, 0x06, 0x08, 0x00, 0x05, 0x66, 0x87, 0x06, 0x10, 0x00, 0xf4};
	/* push 2000h; pop ds; add dword [8],5; xchg [10h],eax; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_exit *exit = umbra_vcpu_run(guest.vcpu, 0);

	expect_exit(exit, UMBRA_EXIT_MMIO, false, 4, 0x20008);
	exit->data = 0xfffffffe;
	exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_MMIO, true, 4, 0x20008);
	assert_int_equal(exit->data, 3);
	exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_MMIO, false, 4, 0x20010);
	exit->data = 0xabcd;
	exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_MMIO, true, 4, 0x20010);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 0xabcd);
	guest_destroy(&guest);
}

/* Registers set while an access waits: the instruction is forgotten with its answers. */
static void set_registers_drop_an_exit(void **state)
{
	static const uint8_t code[] = {0xe4, 0x10, 0xf4, 0xb0, 0x77, 0xf4}; /* in al,10h; hlt; mov al,77h; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_regs regs;

	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_IO);
	umbra_vcpu_get_regs(guest.vcpu, &regs);
	assert_int_equal(regs.rip, CODE_GPA);
	regs.rip = CODE_GPA + 3;
	umbra_vcpu_set_regs(guest.vcpu, &regs);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 0x77);
	regs.rip = CODE_GPA;
	umbra_vcpu_set_regs(guest.vcpu, &regs);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_IO);
	guest_destroy(&guest);
}

static void budget_is_exact(void **state)
{
	static const uint8_t code[] = {0x40, 0xeb, 0xfd}; /* again: inc ax; jmp again */
	struct guest guest = guest_create(code, sizeof(code), 1);

	assert_int_equal(umbra_vcpu_run(guest.vcpu, 1)->reason, UMBRA_EXIT_BUDGET);
	assert_int_equal(umbra_vcpu_instructions(guest.vcpu), 1);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 1000002)->reason, UMBRA_EXIT_BUDGET);
	assert_int_equal(umbra_vcpu_instructions(guest.vcpu), 1000003);
	assert_int_equal(guest_register(&guest, UMBRA_RAX) & 0xffff, 500002 & 0xffff);
	assert_int_equal(umbra_vm_ticks(guest.vm), 4 * 1000003);
	umbra_vm_stop(guest.vm);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_INTERRUPTED);
	guest_destroy(&guest);
}

static void interrupts_wait_for_the_guest(void **state)
{
	static const uint8_t code[] = {0x90, 0xfb, 0x90, 0xf4, 0xf4}; /* nop; sti; nop; hlt; hlt */
	static const uint8_t handler[] = {0xb3, 0x99, 0xcf};          /* mov bl,99h; iret */
	struct guest guest = guest_create(code, sizeof(code), 1);

	memcpy(guest.memory + 0x800, handler, sizeof(handler));
	memcpy(guest.memory + 0x21 * 4, (uint8_t[]){0x00, 0x08, 0x00, 0x00}, 4);
	assert_true(umbra_vcpu_interrupt(guest.vcpu, 0x21));
	assert_false(umbra_vcpu_interrupt(guest.vcpu, 0x22)); /* one at a time */
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 1)->reason, UMBRA_EXIT_BUDGET);
	assert_int_equal(guest_register(&guest, UMBRA_RBX), 0);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(guest_register(&guest, UMBRA_RBX), 0x99);
	assert_true(umbra_vcpu_interrupt(guest.vcpu, 0x21)); /* wakes it from HLT, to the next HLT */
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	struct umbra_regs regs;
	umbra_vcpu_get_regs(guest.vcpu, &regs);
	assert_int_equal(regs.rip, CODE_GPA + 5);
	guest_destroy(&guest);
}

static void triple_fault_is_a_shutdown(void **state)
{
	static const uint8_t code[] = {0x0f, 0x01, 0x1e, 0x00, 0x20, 0x0f, 0x0b}; /* lidt [2000h] (zeros); ud2 */
	struct guest guest = guest_create(code, sizeof(code), 1);

	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_SHUTDOWN);
	assert_int_equal(umbra_vm_end(guest.vm).reason, UMBRA_END_TRIPLE_FAULT);
	assert_int_equal(umbra_vm_end(guest.vm).exit_status, 100);
	assert_int_equal(umbra_vm_run(guest.vm, NULL).reason, UMBRA_END_TRIPLE_FAULT); /* and stays one */
	umbra_vcpu_reset(guest.vcpu, false);
	struct umbra_regs regs;
	umbra_vcpu_get_regs(guest.vcpu, &regs);
	assert_int_equal(regs.rip, 0xfff0);
	guest_destroy(&guest);
}

static void impossible_registers_are_refused(void **state)
{
	struct guest guest = guest_create("\xf4", 1, 1);
	struct umbra_sregs good, bad;
	struct umbra_error error;

	umbra_vcpu_get_sregs(guest.vcpu, &good);
#define REFUSED(change, word)                                              \
	do {                                                               \
		bad = good;                                                \
		change;                                                    \
		memset(&error, 0, sizeof(error));                          \
		assert_false(umbra_vcpu_set_sregs(guest.vcpu, &bad, &error)); \
		assert_int_equal(error.code, UMBRA_ERROR_USAGE);           \
		assert_non_null(strstr(error.text, word));                 \
	} while (0)
	REFUSED(bad.cr0 |= 1ull << 31, "cr0.PG");
	REFUSED(bad.cr0 |= 1ull << 6, "cr0");
	REFUSED(bad.cr0 &= ~(1ull << 30), "cr0.CD");
	REFUSED(bad.cr4 |= 1ull << 31, "cr4");
	REFUSED(bad.cr4 |= 1ull << 17, "PCIDE");
	REFUSED(bad.efer = 0x400, "LMA");
	REFUSED(bad.efer = 0x2, "efer");
	REFUSED((bad.efer = 0x500, bad.cr0 |= 1ull << 31 | 1), "PAE");
	REFUSED(bad.cr3 = 1ull << 40, "cr3");
	REFUSED(bad.cr8 = 16, "cr8");
	REFUSED(bad.dr7 = 1ull << 32, "dr7");
	umbra_vcpu_get_sregs(guest.vcpu, &bad);
	assert_true(bad.cr0 == good.cr0 && bad.cr3 == good.cr3 && bad.cr4 == good.cr4 && bad.cr8 == good.cr8);
	assert_true(bad.efer == good.efer && bad.dr7 == good.dr7);
	guest_destroy(&guest);
}

static void msrs_and_cpuid(void **state)
{
	struct guest guest = guest_create("\xf4", 1, 1);
	uint64_t value;
	uint32_t registers[4];

	assert_true(umbra_vcpu_set_msr(guest.vcpu, 0xc0000082, 0x1234));
	assert_true(umbra_vcpu_get_msr(guest.vcpu, 0xc0000082, &value));
	assert_int_equal(value, 0x1234);
	assert_false(umbra_vcpu_set_msr(guest.vcpu, 0xc0000082, 1ull << 62)); /* not canonical */
	assert_false(umbra_vcpu_get_msr(guest.vcpu, 0x800, &value));          /* no APIC without a board */
	umbra_vcpu_cpuid(guest.vcpu, 0, 0, registers);
	assert_memory_equal(&registers[1], "Auth", 4);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT); /* no fault of the calls reaches the guest */
	guest_destroy(&guest);
}

static void nmi_wakes(void **state)
{
	static const uint8_t code[] = {0xf4, 0xb3, 0x01, 0xf4}; /* hlt; mov bl,1; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);

	guest.memory[0x800] = 0xcf;
	memcpy(guest.memory + 2 * 4, (uint8_t[]){0x00, 0x08, 0x00, 0x00}, 4);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(guest_register(&guest, UMBRA_RBX), 0);
	umbra_vcpu_nmi(guest.vcpu);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(guest_register(&guest, UMBRA_RBX), 1);
	guest_destroy(&guest);
}

static void description(void **state)
{
	struct guest guest = guest_create("\xf4", 1, 1);
	struct text text = {.length = 0};

	umbra_vcpu_describe(guest.vcpu, collect, &text);
	assert_non_null(strstr(text.bytes, "rip=0000000000001000"));
	guest_destroy(&guest);
}

static void fpu_state(void **state)
{
	/* mov eax,cr4; or eax,40200h; mov cr4,eax; fninit; fld1; movd xmm1,eax; hlt */
	static const uint8_t code[] = {0x0f, 0x20, 0xe0, 0x66, 0x0d, 0x00, 0x02, 0x04, 0x00, 0x0f, 0x22, 0xe0, 0xdb, 0xe3, 0xd9, 0xe8, 0x66, 0x0f, 0x6e, 0xc8, 0xf4};
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_fpu fpu, back;
	struct umbra_error error;
	umbra_vcpu_get_fpu(guest.vcpu, &fpu);
	assert_int_equal(fpu.xcr0, 1);
	assert_int_equal(fpu.image[0] | fpu.image[1] << 8, 0x40);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	umbra_vcpu_get_fpu(guest.vcpu, &fpu);
	assert_int_equal(fpu.image[32 + 9] << 8 | fpu.image[32 + 8], 0x3fff); /* 1.0 in ST(0) */
	assert_int_equal(fpu.image[160 + 16 + 1], 0x02);                      /* CR4 in XMM1 */
	for (unsigned n = 0; n < 416; n++)
		fpu.image[n] = n < 24 || n > 31 ? (uint8_t)(n * 7) : fpu.image[n];
	memset(fpu.image + 576, 0x77, 256);
	memcpy(fpu.image, (uint8_t[]){0x7f, 0x03, 0x00, 0x18, 0xff, 0, 0x11, 0x02}, 8);
	memset(fpu.image + 8, 0, 16);
	for (unsigned n = 0; n < 8; n++)
		memset(fpu.image + 32 + 16 * n + 10, 0, 6);
	fpu.image[512] = 7;
	fpu.xcr0 = 7;
	fpu.fcs = 0x33;
	assert_true(umbra_vcpu_set_fpu(guest.vcpu, &fpu, &error));
	umbra_vcpu_get_fpu(guest.vcpu, &back);
	assert_memory_equal(&fpu, &back, sizeof(fpu));
	const struct umbra_fpu good = fpu;
	for (unsigned n = 0; n < 6; n++) {
		fpu = good;
		fpu.image[100] ^= 1; /* so that a refusal that changed something is seen */
		switch (n) {
		case 0: fpu.xcr0 = 5; break;
		case 1: fpu.xcr0 = 6; break;
		case 2: fpu.image[26] = 1; break;
		case 3: fpu.image[512] = 8; break;
		case 4: fpu.image[520 + 7] = 0x80; break;
		default: fpu.image[575] = 1; break;
		}
		assert_false(umbra_vcpu_set_fpu(guest.vcpu, &fpu, &error));
		assert_int_equal(error.code, UMBRA_ERROR_USAGE);
		umbra_vcpu_get_fpu(guest.vcpu, &back);
		assert_memory_equal(&good, &back, sizeof(good));
	}
	fpu = good;
	fpu.image[512] = 0; /* everything in its initial configuration */
	fpu.fcs = 0;
	assert_true(umbra_vcpu_set_fpu(guest.vcpu, &fpu, &error));
	umbra_vcpu_get_fpu(guest.vcpu, &back);
	assert_int_equal(back.image[160] | back.image[576] | back.image[32] | back.image[4] | back.image[512], 0);
	guest_destroy(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(io_exits_are_answered), cmocka_unit_test(read_modify_write_on_mmio),
		cmocka_unit_test(set_registers_drop_an_exit), cmocka_unit_test(budget_is_exact),
		cmocka_unit_test(interrupts_wait_for_the_guest), cmocka_unit_test(triple_fault_is_a_shutdown),
		cmocka_unit_test(impossible_registers_are_refused), cmocka_unit_test(msrs_and_cpuid), cmocka_unit_test(nmi_wakes),
		cmocka_unit_test(description),
		cmocka_unit_test(fpu_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
