/*
 * Nested guests outside of 64-bit mode, and what the manual says of single cases: interrupts through a vector table of real mode that are
 * cut off, information about ports and addresses in 16- and 32-bit code, exceptions of instructions that 64-bit mode lacks, what of an
 * injected event is checked, virtual NMIs that are cut off, virtual VMLOAD where it does not exist. (APM 2, "Secure Virtual Machine")
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/msr.h"
#include "one_machine.h"

#define IDT 0x2000u
#define IVT NESTED_MEMORY
#define IOPM (NESTED_MEMORY + 0x4000u)
#define PRESENT (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

static struct vmcb_control *control(void)
{
	return &nested_vmcb(f)->control;
}

static struct vmcb_save *save(void)
{
	return &nested_vmcb(f)->save;
}

static void intercept(unsigned number)
{
	control()->intercepts[number / 32] |= 1u << number % 32;
}

/* ---- modes of the guest --------------------------------------------------------------------------------------------------------- */

/* Code and stack begin at offset 0 and 100h of segments whose bases are not those of real mode: hidden parts come from the VMCB. */
static void segments_of(unsigned width)
{
	uint16_t big = width == 32 ? 0xc00 : 0;
	uint32_t limit = width == 32 ? ~0u : 0xffff;
	save()->segments[VMCB_CS] = (struct vmcb_segment){.selector = 0x08, .attrib = 0x9b | big, .limit = limit, .base = NESTED_CODE};
	save()->segments[VMCB_SS] = (struct vmcb_segment){.selector = 0x10, .attrib = 0x93 | big, .limit = limit, .base = NESTED_STACK};
	save()->segments[VMCB_DS] = save()->segments[VMCB_ES] = save()->segments[VMCB_SS];
	save()->segments[VMCB_DS].base = 0x1000;
	save()->segments[VMCB_ES].base = 0x2000;
	save()->rip = 0;
	save()->rsp = 0x100;
}

/* width 16: real mode; 32: protected mode without paging. */
static void prepare(unsigned width)
{
	nested_rewind(f);
	save()->efer &= ~(uint64_t)(EFER_LME | EFER_LMA);
	save()->cr0 &= ~(uint64_t)(width == 16 ? CR0_PG | CR0_PE : CR0_PG);
	save()->cr4 &= ~(uint64_t)CR4_PAE;
	segments_of(width);
	control()->iopm_base_pa = IOPM;
	memset(f->ram + IOPM, 0xff, 0x3000);
}

static uint64_t exit_of(const void *bytes, size_t length)
{
	fixture_code_at(f, NESTED_CODE, bytes, length);
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	fixture_run(f, 1);
	assert_false(f->v->guest_mode);
	return control()->exit_code;
}
#define EXIT_OF(...) exit_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* ---- deliveries in real mode ---------------------------------------------------------------------------------------------------- */

/* A vector table that ends before the vector, and one in a page that is not there: INT n, and an interrupt from outside. */
static void real_mode_cut_off(void **state)
{
	fixture_map(f, IVT, 0);
	for (unsigned paged = 0; paged < 2; paged++)
		for (unsigned external = 0; external < 2; external++) {
			prepare(16);
			if (paged) { /* real mode with paging, which only VMRUN can make */
				save()->cr0 |= CR0_PG;
				save()->cr4 |= CR4_PAE;
				save()->cr3 = NESTED_PDPTES;
				fixture_store(f, NESTED_PDPTES, 8, (FIXTURE_TABLES + 0x1000) | PTE_P);
			}
			save()->segments[VMCB_IDTR] = (struct vmcb_segment){.limit = paged ? 0x3ff : 4 * 0x51 + 2, .base = IVT};
			control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP) | BIT(VEC_PF);
			control()->event_inj = external ? EVENT_VALID | 0x51 : 0;
			fixture_code_at(f, NESTED_CODE, "\xcd\x51", 2);
			nested_vmrun(f);
			fixture_run(f, !external);
			assert_false(f->v->guest_mode);
			assert_int_equal(control()->exit_code, VMEXIT_EXCP0 + (paged ? VEC_PF : VEC_GP));
			assert_int_equal(control()->exit_int_info, external ? 0x80000051 : 0x80000451);
			assert_int_equal(save()->rip, 0);
			assert_int_equal(save()->rsp, 0x100);
			if (paged) { /* the error code is that of protected mode */
				assert_int_equal(control()->exit_info_1, 0);
				assert_int_equal(control()->exit_info_2, IVT + 4 * 0x51);
			}
		}
	fixture_map(f, IVT, IVT | PTE_P | PTE_W | PTE_A | PTE_D);
}

/* ---- information ---------------------------------------------------------------------------------------------------------------- */

#define IN 1u
#define STRING 4u
#define REPEAT 8u
#define SIZE(n) ((n) << 4)
#define ADDRESS16 (1u << 7)
#define ADDRESS32 (1u << 8)
#define SEGMENT(n) ((n) << 10)

static void ports(void **state)
{
	static const struct { uint8_t bytes[4], length; uint32_t info[2]; } cases[] = { /* in 16- and 32-bit code */
		{{0xec}, 1, {IN | SIZE(1u) | ADDRESS16, IN | SIZE(1u) | ADDRESS32}},
		{{0xed}, 1, {IN | SIZE(2u) | ADDRESS16, IN | SIZE(4u) | ADDRESS32}},
		{{0x66, 0xef}, 2, {SIZE(4u) | ADDRESS16, SIZE(2u) | ADDRESS32}},
		{{0x67, 0xee}, 2, {SIZE(1u) | ADDRESS32, SIZE(1u) | ADDRESS16}},
		{{0x26, 0x6c}, 2, {IN | STRING | SIZE(1u) | ADDRESS16, IN | STRING | SIZE(1u) | ADDRESS32}},
		{{0x2e, 0x6e}, 2, {STRING | SIZE(1u) | ADDRESS16 | SEGMENT(1u), STRING | SIZE(1u) | ADDRESS32 | SEGMENT(1u)}},
		{{0xf3, 0x36, 0x6f}, 3, {STRING | REPEAT | SIZE(2u) | ADDRESS16 | SEGMENT(2u), STRING | REPEAT | SIZE(4u) | ADDRESS32 | SEGMENT(2u)}},
		{{0x67, 0xf3, 0x6d}, 3, {IN | STRING | REPEAT | SIZE(2u) | ADDRESS32, IN | STRING | REPEAT | SIZE(4u) | ADDRESS16}},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++)
		for (unsigned wide = 0; wide < 2; wide++) {
			prepare(wide ? 32 : 16);
			intercept(INTERCEPT_IOIO);
			f->v->gpr[REG_RDX] = 0xfe1234;
			f->v->gpr[REG_RCX] = 0; /* nothing to repeat is intercepted, too */
			assert_int_equal(exit_of(cases[n].bytes, cases[n].length), VMEXIT_IOIO);
			assert_int_equal(control()->exit_info_1, 0x12340000 | cases[n].info[wide]);
			assert_int_equal(control()->exit_info_2, cases[n].length);
			assert_int_equal(control()->next_rip, cases[n].length);
		}
}

/* INVLPG: with the segment's base, cut to the size of addresses and then to 32 bits. */
static void linear_addresses(void **state)
{
	prepare(32);
	intercept(INTERCEPT_INVLPG);
	f->v->gpr[REG_RBX] = 0xfffff800;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0x3b), VMEXIT_INVLPG); /* invlpg ds:[ebx] */
	assert_int_equal(control()->exit_info_1, 0x800);
	prepare(32);
	intercept(INTERCEPT_INVLPG);
	f->v->gpr[REG_RBX] = 0xfffff800;
	assert_int_equal(EXIT_OF(0x26, 0x0f, 0x01, 0x3b), VMEXIT_INVLPG); /* invlpg es:[ebx] */
	assert_int_equal(control()->exit_info_1, 0x1800);
	prepare(16);
	intercept(INTERCEPT_INVLPG);
	f->v->gpr[REG_RBX] = 0x12345678;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0x3f), VMEXIT_INVLPG); /* invlpg ds:[bx] */
	assert_int_equal(control()->exit_info_1, 0x6678);
}

/* How many bytes come with a page fault: as many as the code segment's limit leaves, at most 15. */
static void bytes_within_the_limit(void **state)
{
	static const uint8_t code[16] = {0xa1, 0, 0, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; /* mov eax, ds:[100000h] */
	for (unsigned room = 5; room <= 20; room++) {
		prepare(32);
		save()->cr0 |= CR0_PG;
		save()->cr4 |= CR4_PAE;
		save()->cr3 = NESTED_PDPTES;
		fixture_store(f, NESTED_PDPTES, 8, (FIXTURE_TABLES + 0x1000) | PTE_P);
		fixture_map(f, 0x101000, 0);
		save()->segments[VMCB_CS].limit = room - 1;
		control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_PF);
		assert_int_equal(exit_of(code, sizeof(code)), VMEXIT_EXCP0 + VEC_PF);
		assert_int_equal(control()->exit_info_2, 0x101000);
		assert_int_equal(control()->insn_length, MIN(room, 15u));
		assert_memory_equal(control()->insn_bytes, code, MIN(room, 15u));
	}
	fixture_map(f, 0x101000, 0x101000 | PTE_P | PTE_W | PTE_A | PTE_D);
}

/* ---- exceptions ----------------------------------------------------------------------------------------------------------------- */

/* The saved RIP is the instruction's, and the next one is told (APM 2, "State Saved on Exit"). */
static void into_and_bound(void **state)
{
	prepare(32);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_OF);
	save()->rflags |= FLAG_OF;
	assert_int_equal(EXIT_OF(0xce), VMEXIT_EXCP0 + VEC_OF);
	assert_int_equal(save()->rip, 0);
	assert_int_equal(control()->next_rip, 1);
	prepare(32);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_BR);
	save()->segments[VMCB_DS].base = IVT;
	fixture_store(f, IVT, 8, 0x0000000500000003); /* 3 to 5 */
	f->v->gpr[REG_RCX] = 6;
	f->v->gpr[REG_RBX] = 0;
	assert_int_equal(EXIT_OF(0x62, 0x0b), VMEXIT_EXCP0 + VEC_BR);
	assert_int_equal(save()->rip, 0);
	assert_int_equal(control()->next_rip, 2);
	prepare(32);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_UD);
	assert_int_equal(EXIT_OF(0x0f, 0x0b), VMEXIT_EXCP0 + VEC_UD);
	assert_int_equal(control()->next_rip, 0); /* of others it is not */
}

/* An RIP that cannot be is no illegal state: the guest gets its #GP. */
static void rip_outside(void **state)
{
	nested_rewind(f);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
	save()->rip = BIT(62);
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	fixture_run(f, 1);
	assert_int_equal(control()->exit_code, VMEXIT_EXCP0 + VEC_GP);
	assert_int_equal(save()->rip, BIT(62));
	prepare(16);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
	save()->rip = 0x10000;
	nested_vmrun(f);
	fixture_run(f, 1);
	assert_int_equal(control()->exit_code, VMEXIT_EXCP0 + VEC_GP);
	assert_int_equal(save()->rip, 0x10000);
}

/* ---- injection ------------------------------------------------------------------------------------------------------------------ */

static void user_code(void)
{
	fixture_map(f, NESTED_CODE, NESTED_CODE | PRESENT);
	save()->cpl = 3;
	save()->segments[VMCB_CS].selector = 0x23;
	save()->segments[VMCB_SS].selector = 0x2b;
}

/* Exceptions 3 and 4 are taken as those of INT3 and INTO, INT n as that of INT n: the gate's DPL counts. It does for no other. */
static void gates(void **state)
{
	static const struct { uint32_t info; bool checked; } cases[] = {
		{0x80000303, true}, {0x80000304, true}, {0x80000480, true}, {0x80000306, false}, {0x80000202, false}, {0x80000080, false},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++)
		for (unsigned open = 0; open < 2; open++) {
			uint8_t vector = (uint8_t)cases[n].info, *type = f->ram + IDT + 16 * vector + 5, before = *type;
			nested_rewind(f);
			user_code();
			control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
			control()->event_inj = cases[n].info;
			control()->next_rip = NESTED_CODE + 1;
			*type = open ? 0xee : 0x8e;
			nested_vmrun(f);
			*type = before;
			assert_int_equal(f->v->guest_mode, open || !cases[n].checked);
			if (f->v->guest_mode) {
				assert_int_equal(f->v->rip, FIXTURE_HANDLERS + 16 * vector);
				continue;
			}
			assert_int_equal(control()->exit_code, VMEXIT_EXCP0 + VEC_GP);
			assert_int_equal(control()->exit_info_1, 8u * vector + 2);
			assert_int_equal(control()->exit_int_info, cases[n].info);
		}
	fixture_map(f, NESTED_CODE, NESTED_CODE | PTE_P | PTE_W | PTE_A | PTE_D);
}

/* #BR is for guests that have BOUND. */
static void bound_range(void **state)
{
	nested_rewind(f);
	control()->event_inj = EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT | VEC_BR;
	nested_vmrun(f);
	assert_int_equal(control()->exit_code, VMEXIT_INVALID);
	nested_rewind(f);
	control()->event_inj = EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT | VEC_BR;
	save()->segments[VMCB_CS].attrib = (uint16_t)((save()->segments[VMCB_CS].attrib & ~0x200u) | 0x400u); /* compatibility mode */
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	assert_int_equal(f->v->rip, FIXTURE_HANDLERS + 16 * VEC_BR);
}

/* However an NMI came, if it is virtual and cut off it blocks none. */
static void virtual_nmi_cut_off(void **state)
{
	for (unsigned injected = 0; injected < 2; injected++)
		for (unsigned virtual = 0; virtual < 2; virtual++) {
			nested_rewind(f);
			intercept(INTERCEPT_NMI);
			control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
			save()->segments[VMCB_IDTR].limit = 0;
			if (!injected && !virtual)
				continue;
			control()->int_ctl = virtual ? VINTR_NMI_ENABLE | (injected ? 0 : VINTR_NMI_PENDING) : VINTR_NMI_BLOCKED;
			control()->event_inj = injected ? EVENT_VALID | EVENT_TYPE_NMI << EVENT_TYPE_SHIFT : 0;
			nested_vmrun(f);
			fixture_run(f, !injected);
			assert_false(f->v->guest_mode);
			assert_int_equal(control()->exit_code, VMEXIT_EXCP0 + VEC_GP);
			assert_int_equal(control()->exit_int_info, 0x80000202);
			assert_int_equal(control()->int_ctl & VINTR_NMI_PENDING, 0);
			assert_int_equal(control()->int_ctl & VINTR_NMI_BLOCKED, virtual ? 0 : VINTR_NMI_BLOCKED);
			assert_false(f->v->nmi_blocked);
		}
}

/* ---- controls ------------------------------------------------------------------------------------------------------------------- */

/* Virtual VMLOAD and VMSAVE exist under nested paging and an L1 in 64-bit mode; elsewhere the bit makes them leave the guest. */
static void virtual_vmload(void **state)
{
	for (unsigned store = 0; store < 2; store++)
		for (unsigned user = 0; user < 2; user++) {
			nested_rewind(f);
			control()->virt_ext = VIRT_EXT_VMLOAD_VMSAVE;
			control()->intercepts[VMCB_EXCEPTION] = ~0u;
			if (user)
				user_code();
			save()->rax = 1; /* the address is looked at later */
			assert_int_equal(EXIT_OF(0x0f, 0x01, (uint8_t)(0xda + store)),
					 user ? VMEXIT_EXCP0 + VEC_GP : (unsigned)VMEXIT_VMLOAD + store);
			assert_int_equal(control()->next_rip, user ? 0 : NESTED_CODE + 3);
			fixture_map(f, NESTED_CODE, NESTED_CODE | PTE_P | PTE_W | PTE_A | PTE_D);
		}
	for (unsigned wide = 0; wide < 2; wide++) {
		nested_rewind(f);
		control()->virt_ext = VIRT_EXT_VMLOAD_VMSAVE;
		control()->nested_ctl = NESTED_CTL_NP;
		control()->nested_cr3 = f->v->cr3;
		save()->rax = NESTED_MEMORY;
		fixture_code_at(f, NESTED_CODE, "\x0f\x01\xdb", 3);
		for (uint64_t page = FIXTURE_TABLES; page < FIXTURE_TABLES + 0x7000; page += PAGE_SIZE)
			fixture_map(f, page, page | PRESENT);
		fixture_map(f, NESTED_CODE, NESTED_CODE | PRESENT);
		fixture_map(f, NESTED_MEMORY, NESTED_MEMORY | PRESENT);
		if (!wide)
			f->v->seg[SEG_CS].attr = (uint16_t)((f->v->seg[SEG_CS].attr & ~SEG_ATTR_L) | SEG_ATTR_D);
		vcpu_registers_changed(f->v);
		nested_vmrun(f);
		assert_true(f->v->guest_mode);
		fixture_run(f, 1);
		assert_int_equal(f->v->guest_mode, wide);
		if (!wide)
			assert_int_equal(control()->exit_code, VMEXIT_VMSAVE);
		else
			assert_int_equal(f->v->rip, NESTED_CODE + 3);
	}
}

/* MOV of CR8 by its other name, LOCK MOV CR0, is one of CR8 for the intercepts. */
static void task_priority_by_lock(void **state)
{
	for (unsigned wide = 0; wide < 2; wide++)
		for (unsigned write = 0; write < 2; write++) {
			if (wide)
				nested_rewind(f);
			else
				prepare(32);
			save()->rax = 5;
			intercept(INTERCEPT(VMCB_CR, 8 + 16 * write));
			assert_int_equal(EXIT_OF(0xf0, 0x0f, write ? 0x22 : 0x20, 0xc0), write ? 0x18 : 0x08);
			assert_int_equal(control()->exit_info_1, BIT(63));
		}
}

/* CPUID says how many ASIDs there are; beyond it they work all the same, each for itself. */
static void asids_beyond(void **state)
{
	static const uint32_t asids[] = {63, 64, 65, 0x10000, 0x7fffffff, 0xffffffff};
	for (size_t n = 0; n < ARRAY_LEN(asids); n++) {
		nested_rewind(f);
		control()->asid = asids[n];
		fixture_store(f, NESTED_MEMORY, 8, 0x1111);
		fixture_store(f, NESTED_MEMORY + 0x1000, 8, 0x2222);
		nested_remap(f, NESTED_MEMORY + (n & 1 ? 0x1000 : 0));
		assert_int_equal(nested_read(f), n & 1 ? 0x2222 : 0x1111);
	}
	nested_remap(f, NESTED_MEMORY);
}

/* Permission maps whose last page is in nobody's memory: what cannot be read is forbidden, bit by bit; the rest is as it says. */
static void maps_behind_memory(void **state)
{
	static const struct { uint16_t port; uint8_t code[2], length; bool exits; } ports_at_end[] = {
		{0x7ff8, {0xec}, 1, false}, {0xfff8, {0xec}, 1, false}, {0xffff, {0xec}, 1, false}, {0xfffe, {0x66, 0xed}, 2, false},
		{0xfffc, {0xed}, 1, false}, {0xfffd, {0xed}, 1, true}, {0xffff, {0x66, 0xed}, 2, true}, {0xffff, {0xed}, 1, true},
	};
	const struct { uint32_t msr; bool exits; } msrs[] = {{0x10, false}, {0xc0000080, false}, {0xc0010114, true}, {0x2000, true}};
	memset(f->ram + FIXTURE_RAM_SIZE - PAGE_SIZE, 0, PAGE_SIZE);
	for (size_t n = 0; n < ARRAY_LEN(ports_at_end); n++) {
		nested_rewind(f);
		control()->iopm_base_pa = FIXTURE_ROM - PAGE_SIZE; /* one page of RAM, one of ROM, and the last of nobody */
		intercept(INTERCEPT_IOIO);
		f->v->gpr[REG_RDX] = ports_at_end[n].port;
		fixture_code_at(f, NESTED_CODE, ports_at_end[n].code, ports_at_end[n].length);
		nested_vmrun(f);
		fixture_run(f, 1);
		assert_int_equal(!f->v->guest_mode, ports_at_end[n].exits);
	}
	for (size_t n = 0; n < ARRAY_LEN(msrs); n++) {
		nested_rewind(f);
		control()->msrpm_base_pa = FIXTURE_ROM;
		intercept(INTERCEPT_MSR);
		f->v->gpr[REG_RCX] = msrs[n].msr;
		fixture_code_at(f, NESTED_CODE, "\x0f\x32", 2); /* rdmsr */
		nested_vmrun(f);
		fixture_run(f, 1);
		assert_int_equal(!f->v->guest_mode, msrs[n].exits);
	}
}

/* A write of any MTRR drops the translations of every ASID; without it the guest's stays. */
static void memory_types_flush(void **state)
{
	static const uint32_t msrs[] = {0, 0x200, 0x250, 0x259, 0x26f, 0x2ff};
	for (size_t n = 0; n < ARRAY_LEN(msrs); n++) {
		nested_rewind(f);
		fixture_store(f, NESTED_MEMORY, 8, 0x1111);
		fixture_store(f, NESTED_MEMORY + 0x1000, 8, 0x2222);
		nested_remap(f, NESTED_MEMORY);
		control()->tlb_control = TLB_CONTROL_ALL;
		assert_int_equal(nested_read(f), 0x1111);
		control()->tlb_control = 0;
		nested_remap(f, NESTED_MEMORY + 0x1000);
		if (msrs[n])
			assert_true(msr_write(f->v, msrs[n], 0));
		assert_int_equal(nested_read(f), msrs[n] ? 0x2222 : 0x1111);
	}
	nested_remap(f, NESTED_MEMORY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode_cut_off), cmocka_unit_test(ports), cmocka_unit_test(linear_addresses),
		cmocka_unit_test(bytes_within_the_limit), cmocka_unit_test(into_and_bound), cmocka_unit_test(rip_outside),
		cmocka_unit_test(gates), cmocka_unit_test(bound_range), cmocka_unit_test(virtual_nmi_cut_off),
		cmocka_unit_test(virtual_vmload), cmocka_unit_test(task_priority_by_lock), cmocka_unit_test(asids_beyond),
		cmocka_unit_test(maps_behind_memory), cmocka_unit_test(memory_types_flush),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
