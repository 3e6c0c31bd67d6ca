/*
 * Intercepts of instructions: each instruction with its own intercept alone, with all others but its own, and above CPL 0, where some
 * raise their exception first and others exit all the same; what the exit tells; the permission maps bit by bit; the filter of PAUSE.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "one_machine.h"

#define IOPM NESTED_MEMORY
#define MSRPM (NESTED_MEMORY + 0x4000u)

/* ---- running one instruction of the guest --------------------------------------------------------------------------------------- */

static void prepare(void)
{
	nested_rewind(f);
	nested_vmcb(f)->control.iopm_base_pa = IOPM;
	nested_vmcb(f)->control.msrpm_base_pa = MSRPM;
	memset(f->ram + IOPM, 0, 0x3000);
	memset(f->ram + MSRPM, 0, 0x2000);
}

static void intercept(unsigned number, bool on)
{
	uint32_t *word = &nested_vmcb(f)->control.intercepts[number / 32];
	*word = (*word & ~(1u << number % 32)) | (uint32_t)on << number % 32;
}

static void user_code(void)
{
	struct vmcb_save *save = &nested_vmcb(f)->save;
	fixture_map(f, NESTED_CODE, NESTED_CODE | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
	save->cpl = 3;
	save->segments[VMCB_CS].selector = 0x23;
	save->segments[VMCB_CS].attrib |= 3 << 5;
	save->segments[VMCB_SS].selector = 0x2b;
	save->segments[VMCB_SS].attrib |= 3 << 5;
}

/* The exit code of the guest's first instruction, or of the exception that it raises; ~1 if it does neither. */
static uint64_t exit_of(const void *bytes, size_t length)
{
	fixture_code_at(f, NESTED_CODE, bytes, length);
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	fixture_run(f, 1);
	if (f->v->guest_mode)
		return ~1ull;
	assert_int_equal(f->v->rip, FIXTURE_CODE + 3);
	assert_false(f->v->gif);
	return nested_vmcb(f)->control.exit_code;
}
#define EXIT_OF(...) exit_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* ---- every instruction ---------------------------------------------------------------------------------------------------------- */

struct row {
	const char *name;
	uint8_t bytes[6], length;
	unsigned intercept;
	uint64_t code;
	int user; /* vector that comes first above CPL 0; -1: none does; -2: permitted there by this processor's registers */
};

static const struct row rows[] = {
	{"SIDT", {0x0f, 0x01, 0x0b}, 3, INTERCEPT_IDTR_READ, 0x66, -1},
	{"SGDT", {0x0f, 0x01, 0x03}, 3, INTERCEPT_GDTR_READ, 0x67, -1},
	{"SLDT", {0x0f, 0x00, 0xc3}, 3, INTERCEPT_LDTR_READ, 0x68, -1},
	{"STR", {0x0f, 0x00, 0xcb}, 3, INTERCEPT_TR_READ, 0x69, -1},
	{"LIDT", {0x0f, 0x01, 0x1b}, 3, INTERCEPT_IDTR_WRITE, 0x6a, VEC_GP},
	{"LGDT", {0x0f, 0x01, 0x13}, 3, INTERCEPT_GDTR_WRITE, 0x6b, VEC_GP},
	{"LLDT", {0x0f, 0x00, 0xd3}, 3, INTERCEPT_LDTR_WRITE, 0x6c, VEC_GP},
	{"LTR", {0x0f, 0x00, 0xdb}, 3, INTERCEPT_TR_WRITE, 0x6d, VEC_GP},
	{"RDTSC", {0x0f, 0x31}, 2, INTERCEPT_RDTSC, 0x6e, -1},
	{"RDPMC", {0x0f, 0x33}, 2, INTERCEPT_RDPMC, 0x6f, VEC_GP},
	{"PUSHF", {0x9c}, 1, INTERCEPT_PUSHF, 0x70, -1},
	{"POPF", {0x9d}, 1, INTERCEPT_POPF, 0x71, -1},
	{"CPUID", {0x0f, 0xa2}, 2, INTERCEPT_CPUID, 0x72, -1},
	{"RSM", {0x0f, 0xaa}, 2, INTERCEPT_RSM, 0x73, -1},
	{"IRET", {0x48, 0xcf}, 2, INTERCEPT_IRET, 0x74, -1},
	{"INT", {0xcd, 0x80}, 2, INTERCEPT_SWINT, 0x75, -1},
	{"INVD", {0x0f, 0x08}, 2, INTERCEPT_INVD, 0x76, VEC_GP},
	{"PAUSE", {0xf3, 0x90}, 2, INTERCEPT_PAUSE, 0x77, -1},
	{"HLT", {0xf4}, 1, INTERCEPT_HLT, 0x78, VEC_GP},
	{"INVLPG", {0x0f, 0x01, 0x3b}, 3, INTERCEPT_INVLPG, 0x79, VEC_GP},
	{"INVLPGA", {0x0f, 0x01, 0xdf}, 3, INTERCEPT_INVLPGA, 0x7a, VEC_GP},
	{"VMRUN", {0x0f, 0x01, 0xd8}, 3, INTERCEPT_VMRUN, 0x80, VEC_GP},
	{"VMMCALL", {0x0f, 0x01, 0xd9}, 3, INTERCEPT_VMMCALL, 0x81, -1},
	{"VMLOAD", {0x0f, 0x01, 0xda}, 3, INTERCEPT_VMLOAD, 0x82, VEC_GP},
	{"VMSAVE", {0x0f, 0x01, 0xdb}, 3, INTERCEPT_VMSAVE, 0x83, VEC_GP},
	{"STGI", {0x0f, 0x01, 0xdc}, 3, INTERCEPT_STGI, 0x84, VEC_GP},
	{"CLGI", {0x0f, 0x01, 0xdd}, 3, INTERCEPT_CLGI, 0x85, VEC_GP},
	{"RDTSCP", {0x0f, 0x01, 0xf9}, 3, INTERCEPT_RDTSCP, 0x87, -1},
	{"ICEBP", {0xf1}, 1, INTERCEPT_ICEBP, 0x88, -1},
	{"WBINVD", {0x0f, 0x09}, 2, INTERCEPT_WBINVD, 0x89, VEC_GP},
	{"MONITOR", {0x0f, 0x01, 0xc8}, 3, INTERCEPT_MONITOR, 0x8a, VEC_UD},
	{"MWAIT", {0x0f, 0x01, 0xc9}, 3, INTERCEPT_MWAIT, 0x8b, VEC_UD},
	{"XSETBV", {0x0f, 0x01, 0xd1}, 3, INTERCEPT_XSETBV, 0x8d, -1},
	{"INVPCID", {0x66, 0x0f, 0x38, 0x82, 0x03}, 5, INTERCEPT_INVPCID, 0xa2, VEC_GP},
};

/* What the instructions need: an operand in memory, OSXSAVE, zero in RCX. */
static void prepare_row(void)
{
	prepare();
	f->v->gpr[REG_RBX] = NESTED_MEMORY + 0x8000;
	nested_vmcb(f)->save.cr4 |= CR4_OSXSAVE;
}

static void alone(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		prepare_row();
		intercept(rows[n].intercept, true);
		uint64_t rsp = f->v->gpr[REG_RSP], code = exit_of(rows[n].bytes, rows[n].length);
		if (code != rows[n].code)
			fail_msg("%s: exit %llx", rows[n].name, (unsigned long long)code);
		const struct vmcb *vmcb = nested_vmcb(f);
		assert_int_equal(vmcb->save.rip, NESTED_CODE);
		assert_int_equal(vmcb->save.rsp, NESTED_STACK);
		assert_int_equal(vmcb->save.rax, 0x1122334455667788);
		assert_int_equal(vmcb->control.next_rip, NESTED_CODE + rows[n].length);
		assert_int_equal(vmcb->control.exit_int_info, 0);
		assert_int_equal(f->v->gpr[REG_RSP], rsp);
	}
}

/* The operands of INVPCID: the linear address of its descriptor, and the type. */
static void invpcid_operands(void **state)
{
	static const uint8_t code[] = {0x66, 0x0f, 0x38, 0x82, 0x03};
	for (unsigned type = 0; type < 4; type++) {
		prepare_row();
		intercept(INTERCEPT_INVPCID, true);
		nested_vmcb(f)->save.rax = type;
		assert_int_equal(exit_of(code, sizeof(code)), 0xa2);
		assert_int_equal(nested_vmcb(f)->control.exit_info_1, NESTED_MEMORY + 0x8000);
		assert_int_equal(nested_vmcb(f)->control.exit_info_2, type);
	}
}

/* Every instruction intercept but its own, and no exception: it is executed, or raises what is its own. */
static void all_others(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		prepare_row();
		for (unsigned bit = INTERCEPT_IDTR_READ; bit <= INTERCEPT_RDPRU; bit++)
			if (bit != INTERCEPT_TASK_SWITCH && bit != INTERCEPT_SHUTDOWN)
				intercept(bit, true);
		intercept(INTERCEPT_INVPCID, true);
		intercept(rows[n].intercept, rows[n].intercept == INTERCEPT_VMRUN); /* without this one there is no VMRUN */
		uint64_t code = exit_of(rows[n].bytes, rows[n].length);
		if (code != ~1ull && rows[n].intercept != INTERCEPT_VMRUN)
			fail_msg("%s: exit %llx", rows[n].name, (unsigned long long)code);
	}
}

static void above_cpl_0(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		prepare_row();
		user_code();
		intercept(rows[n].intercept, true);
		nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
		uint64_t code = exit_of(rows[n].bytes, rows[n].length);
		uint64_t wanted = rows[n].user < 0 ? rows[n].code : VMEXIT_EXCP0 + (unsigned)rows[n].user;
		if (code != wanted)
			fail_msg("%s: exit %llx", rows[n].name, (unsigned long long)code);
	}
}

/* Exceptions that depend on registers come first where the manual says so, and not elsewhere. */
static void exceptions_first(void **state)
{
	static const struct { unsigned row_code; uint64_t cr4; unsigned vector; } cases[] = {
		{0x66, CR4_UMIP, VEC_GP}, {0x67, CR4_UMIP, VEC_GP}, {0x68, CR4_UMIP, VEC_GP}, {0x69, CR4_UMIP, VEC_GP},
		{0x6e, CR4_TSD, VEC_GP}, {0x87, CR4_TSD, VEC_GP},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++)
		for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
			if (rows[k].code != cases[n].row_code)
				continue;
			prepare_row();
			user_code();
			intercept(rows[k].intercept, true);
			nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
			nested_vmcb(f)->save.cr4 |= cases[n].cr4;
			assert_int_equal(exit_of(rows[k].bytes, rows[k].length), VMEXIT_EXCP0 + cases[n].vector);
		}
	prepare();
	intercept(INTERCEPT_XSETBV, true);
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xd1), VMEXIT_EXCP0 + VEC_UD); /* CR4.OSXSAVE is clear */
	static const unsigned with_rcx[][2] = {{INTERCEPT_MONITOR, 0xc8}, {INTERCEPT_MWAIT, 0xc9}};
	for (unsigned n = 0; n < 2; n++) {
		prepare();
		intercept(with_rcx[n][0], true);
		nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
		f->v->gpr[REG_RCX] = 2;
		assert_int_equal(EXIT_OF(0x0f, 0x01, (uint8_t)with_rcx[n][1]), VMEXIT_EXCP0 + VEC_GP);
	}
	prepare();
	intercept(INTERCEPT_RDPMC, true);
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	f->v->gpr[REG_RCX] = 4;
	assert_int_equal(EXIT_OF(0x0f, 0x33), VMEXIT_EXCP0 + VEC_GP);
}

static void not_announced(void **state)
{
	change_model("amd,-rdtscp,-invpcid,-xsave,-monitor");
	static const unsigned codes[] = {0x87, 0xa2, 0x8d, 0x8a, 0x8b};
	for (size_t n = 0; n < ARRAY_LEN(codes); n++)
		for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
			if (rows[k].code != codes[n])
				continue;
			prepare();
			intercept(rows[k].intercept, true);
			nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
			assert_int_equal(exit_of(rows[k].bytes, rows[k].length), VMEXIT_EXCP0 + VEC_UD);
		}
	prepare();
	intercept(INTERCEPT_SKINIT, true);
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xde), VMEXIT_EXCP0 + VEC_UD);
	change_model("amd");
}

static void vmmcall_of_the_guest(void **state)
{
	prepare();
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xd9), VMEXIT_EXCP0 + VEC_UD);
}

/* ---- decode assists ------------------------------------------------------------------------------------------------------------- */

static void assists(void **state)
{
	prepare();
	intercept(INTERCEPT_SWINT, true);
	assert_int_equal(EXIT_OF(0xcd, 0x93), 0x75);
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 0x93);
	prepare();
	intercept(INTERCEPT_INVLPG, true);
	f->v->gpr[REG_RBX] = 0xffff800000001000;
	f->v->gpr[REG_RSI] = 0x10;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0x7c, 0xb3, 0x08), 0x79); /* invlpg [rbx + 4 * rsi + 8] */
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 0xffff800000001048);
	prepare();
	intercept(INTERCEPT_INVLPGA, true);
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xdf), 0x7a);
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 0); /* it is in rAX */
	change_model("amd,-decodeassists,-nrip-save");
	prepare();
	intercept(INTERCEPT_SWINT, true);
	assert_int_equal(EXIT_OF(0xcd, 0x93), 0x75);
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 0);
	assert_int_equal(nested_vmcb(f)->control.next_rip, 0);
	change_model("amd");
}

/* ---- control and debug registers ------------------------------------------------------------------------------------------------ */

static void control_registers(void **state)
{
	static const uint8_t numbers[] = {0, 2, 3, 4, 8};
	for (size_t n = 0; n < ARRAY_LEN(numbers); n++)
		for (unsigned write = 0; write < 2; write++)
			for (unsigned reg = 0; reg < 16; reg++) {
				uint8_t number = numbers[n];
				uint8_t rex = (uint8_t)(0x40 | (number >= 8 ? 4 : 0) | (reg >= 8));
				uint8_t bytes[] = {rex, 0x0f, write ? 0x22 : 0x20, (uint8_t)(0xc0 | (number & 7) << 3 | (reg & 7))};
				prepare();
				nested_vmcb(f)->save.rax = nested_vmcb(f)->save.cr0;
				intercept(INTERCEPT(VMCB_CR, number + 16 * write), true);
				uint64_t good = number == 0 ? nested_vmcb(f)->save.cr0 : number == 4 ? nested_vmcb(f)->save.cr4 : 1;
				for (unsigned k = 1; k < 16; k++)
					f->v->gpr[k] = k == REG_RSP ? f->v->gpr[k] : good;
				nested_vmcb(f)->save.rax = nested_vmcb(f)->save.rsp = good;
				assert_int_equal(exit_of(bytes, 4), (write ? 0x10 : 0) + number);
				assert_int_equal(nested_vmcb(f)->control.exit_info_1, BIT(63) | reg);
				prepare();
				nested_vmcb(f)->control.intercepts[VMCB_CR] = ~(1u << (number + 16 * write));
				for (unsigned k = 1; k < 16; k++)
					f->v->gpr[k] = k == REG_RSP ? f->v->gpr[k] : good;
				nested_vmcb(f)->save.rax = nested_vmcb(f)->save.rsp = good;
				if (number != 3 || !write)
					assert_int_equal(exit_of(bytes, 4), ~1ull);
			}
}

/* The value is judged first, and CPL. */
static void control_register_exceptions(void **state)
{
	static const struct { uint8_t number; uint64_t value; } bad[] = {
		{0, CR0_PG | CR0_ET}, {0, BIT(32) | CR0_PE}, {0, CR0_NW | CR0_PE | CR0_PG}, {3, BIT(60)}, {4, 0}, {4, BIT(63)}, {8, 16},
	};
	for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
		prepare();
		nested_vmcb(f)->control.intercepts[VMCB_CR] = ~0u;
		nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
		nested_vmcb(f)->save.rax = bad[n].value;
		uint8_t bytes[] = {(uint8_t)(bad[n].number == 8 ? 0x44 : 0x40), 0x0f, 0x22, (uint8_t)(0xc0 | (bad[n].number & 7) << 3)};
		assert_int_equal(exit_of(bytes, 4), VMEXIT_EXCP0 + VEC_GP);
		prepare();
		nested_vmcb(f)->control.intercepts[VMCB_CR] = ~0u;
		nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
		user_code();
		assert_int_equal(exit_of(bytes, 4), VMEXIT_EXCP0 + VEC_GP);
	}
	prepare();
	nested_vmcb(f)->control.intercepts[VMCB_CR] = ~0u;
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	assert_int_equal(EXIT_OF(0x0f, 0x20, 0xc8), VMEXIT_EXCP0 + VEC_UD); /* CR1 */
}

static void selective_cr0(void **state)
{
	static const struct { uint64_t change; bool exits; } cases[] = {
		{0, false}, {CR0_TS, false}, {CR0_MP, false}, {CR0_TS | CR0_MP, false}, {CR0_EM, true}, {CR0_NE, true}, {CR0_WP, true},
		{CR0_AM, true}, {CR0_CD, true}, {CR0_TS | CR0_NE, true},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++)
		for (unsigned both = 0; both < 2; both++) {
			prepare();
			intercept(INTERCEPT_CR0_SELECTIVE, true);
			intercept(INTERCEPT(VMCB_CR, 16), both);
			nested_vmcb(f)->save.rax = nested_vmcb(f)->save.cr0 ^ cases[n].change;
			uint64_t wanted = both ? 0x10 : cases[n].exits ? 0x65 : ~1ull;
			assert_int_equal(EXIT_OF(0x0f, 0x22, 0xc0), wanted);
			if (wanted != ~1ull)
				assert_int_equal(nested_vmcb(f)->control.exit_info_1, BIT(63));
		}
	prepare();
	intercept(INTERCEPT_CR0_SELECTIVE, true);
	nested_vmcb(f)->save.rax = nested_vmcb(f)->save.cr0;
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xf0), 0x65); /* LMSW, whatever the value */
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 0);
	prepare();
	intercept(INTERCEPT_CR0_SELECTIVE, true);
	assert_int_equal(EXIT_OF(0x0f, 0x06), ~1ull); /* CLTS */
	prepare();
	intercept(INTERCEPT(VMCB_CR, 16), true);
	assert_int_equal(EXIT_OF(0x0f, 0x06), 0x10);
	prepare();
	intercept(INTERCEPT(VMCB_CR, 16), true);
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xf0), 0x10);
	prepare();
	intercept(INTERCEPT(VMCB_CR, 0), true);
	assert_int_equal(EXIT_OF(0x0f, 0x01, 0xe0), 0x00); /* SMSW */
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 0);
}

static void debug_registers(void **state)
{
	for (unsigned number = 0; number < 8; number++)
		for (unsigned write = 0; write < 2; write++) {
			uint8_t bytes[] = {0x41, 0x0f, write ? 0x23 : 0x21, (uint8_t)(0xc2 | number << 3)}; /* r10 */
			prepare();
			intercept(INTERCEPT(VMCB_DR, number + 16 * write), true);
			assert_int_equal(exit_of(bytes, 4), 0x20 + 16 * write + number);
			assert_int_equal(nested_vmcb(f)->control.exit_info_1, 10); /* without the bit of MOV CR */
			prepare();
			nested_vmcb(f)->control.intercepts[VMCB_DR] = ~(1u << (number + 16 * write));
			assert_int_equal(exit_of(bytes, 4), ~1ull);
			prepare();
			nested_vmcb(f)->control.intercepts[VMCB_DR] = ~0u;
			nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
			nested_vmcb(f)->save.dr7 |= DR7_GD;
			assert_int_equal(exit_of(bytes, 4), VMEXIT_EXCP0 + VEC_DB);
			assert_int_equal(nested_vmcb(f)->save.dr6 & DR6_BD, DR6_BD);
			assert_int_equal(nested_vmcb(f)->save.dr7 & DR7_GD, 0);
			if (number < 4)
				continue;
			prepare();
			nested_vmcb(f)->control.intercepts[VMCB_DR] = ~0u;
			nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
			nested_vmcb(f)->save.cr4 |= number < 6 ? CR4_DE : 0;
			f->v->gpr[REG_R10] = BIT(32);
			uint64_t wanted = number < 6 ? VMEXIT_EXCP0 + VEC_UD : write ? VMEXIT_EXCP0 + VEC_GP : 0x20 + number;
			assert_int_equal(exit_of(bytes, 4), wanted);
		}
}

/* ---- ports ---------------------------------------------------------------------------------------------------------------------- */

struct port_case {
	uint8_t bytes[5], length;
	uint64_t info; /* without the port */
};

#define SIZE8 BIT(4)
#define SIZE16 BIT(5)
#define SIZE32 BIT(6)
#define ADDRESS32 BIT(8)
#define ADDRESS64 BIT(9)
#define SEGMENT(n) ((uint64_t)(n) << 10)
#define STRING BIT(2)
#define REPEAT BIT(3)

static void port_information(void **state)
{
	static const struct port_case cases[] = {
		{{0xec}, 1, 1 | SIZE8 | ADDRESS64},
		{{0x66, 0xed}, 2, 1 | SIZE16 | ADDRESS64},
		{{0xed}, 1, 1 | SIZE32 | ADDRESS64},
		{{0x48, 0xed}, 2, 1 | SIZE32 | ADDRESS64},
		{{0xee}, 1, SIZE8 | ADDRESS64},
		{{0x66, 0xef}, 2, SIZE16 | ADDRESS64},
		{{0xef}, 1, SIZE32 | ADDRESS64},
		{{0x67, 0xef}, 2, SIZE32 | ADDRESS32},
		{{0xf3, 0xee}, 2, SIZE8 | ADDRESS64},
		{{0x6c}, 1, 1 | SIZE8 | ADDRESS64 | STRING},
		{{0xf3, 0x6d}, 2, 1 | SIZE32 | ADDRESS64 | STRING | REPEAT},
		{{0x64, 0xf2, 0x6c}, 3, 1 | SIZE8 | ADDRESS64 | STRING | REPEAT},
		{{0x6e}, 1, SIZE8 | ADDRESS64 | STRING | SEGMENT(3)},
		{{0x64, 0x6e}, 2, SIZE8 | ADDRESS64 | STRING | SEGMENT(4)},
		{{0x65, 0x66, 0x6f}, 3, SIZE16 | ADDRESS64 | STRING | SEGMENT(5)},
		{{0x67, 0xf3, 0x6f}, 3, SIZE32 | ADDRESS32 | STRING | REPEAT | SEGMENT(3)},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		prepare();
		intercept(INTERCEPT_IOIO, true);
		memset(f->ram + IOPM, 0xff, 0x3000);
		f->v->gpr[REG_RDX] = 0xabcd1234;
		f->v->gpr[REG_RDI] = f->v->gpr[REG_RSI] = 0xd00000000; /* not mapped: a page fault would come later */
		assert_int_equal(exit_of(cases[n].bytes, cases[n].length), 0x7b);
		assert_int_equal(nested_vmcb(f)->control.exit_info_1, cases[n].info | 0x12340000);
		assert_int_equal(nested_vmcb(f)->control.exit_info_2, NESTED_CODE + cases[n].length);
		assert_int_equal(f->log_count, 0);
	}
	static const uint8_t immediate[] = {0xe4, 0xe5, 0xe6, 0xe7};
	for (unsigned n = 0; n < 4; n++) {
		prepare();
		intercept(INTERCEPT_IOIO, true);
		memset(f->ram + IOPM, 0xff, 0x3000);
		assert_int_equal(EXIT_OF(immediate[n], 0x71), 0x7b);
		assert_int_equal(nested_vmcb(f)->control.exit_info_1,
				 (n < 2) | (n & 1 ? SIZE32 : SIZE8) | ADDRESS64 | 0x710000);
	}
}

static bool port_exits(uint32_t port, unsigned size)
{
	static const uint8_t codes[5][2] = {[1] = {0x90, 0xec}, [2] = {0x66, 0xed}, [4] = {0x3e, 0xed}};
	f->v->gpr[REG_RDX] = port;
	uint64_t code = size == 1 ? EXIT_OF(0xec) : exit_of(codes[size], 2);
	assert_true(code == 0x7b || code == ~1ull);
	return code == 0x7b;
}

static void port_map(void **state)
{
	static const uint32_t ports[] = {0, 1, 5, 7, 8, 0xff, 0x7ffe, 0x7fff, 0x8000, 0xfff8, 0xfffc, 0xfffd, 0xfffe, 0xffff};
	for (size_t n = 0; n < ARRAY_LEN(ports); n++)
		for (unsigned size = 1; size <= 4; size *= 2)
			for (uint32_t bit = ports[n] ? ports[n] - 1 : 0; bit <= ports[n] + size; bit++)
				for (unsigned invert = 0; invert < 2; invert++) {
					bool covered = bit >= ports[n] && bit < ports[n] + size;
					prepare();
					intercept(INTERCEPT_IOIO, true);
					memset(f->ram + IOPM, invert ? 0xff : 0, 0x3000);
					f->ram[IOPM + bit / 8] ^= (uint8_t)(1u << bit % 8);
					bool wanted = invert ? !(covered && size == 1) : covered;
					assert_int_equal(port_exits(ports[n], size), wanted);
				}
	prepare();
	nested_vmcb(f)->control.iopm_base_pa = IOPM | 0xabc; /* the low bits count for nothing */
	memset(f->ram + IOPM, 0xff, 0x3000);
	assert_false(port_exits(0x80, 1)); /* without the intercept the map is not looked at */
	prepare();
	intercept(INTERCEPT_IOIO, true);
	nested_vmcb(f)->control.iopm_base_pa = IOPM | 0xabc;
	assert_false(port_exits(0x80, 1));
}

/* IOPL and the bitmap of the TSS come before the intercept; which the guest has none of. */
static void port_privilege(void **state)
{
	for (unsigned iopl = 0; iopl < 2; iopl++) {
		prepare();
		user_code();
		intercept(INTERCEPT_IOIO, true);
		memset(f->ram + IOPM, 0xff, 0x3000);
		nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
		nested_vmcb(f)->save.rflags |= iopl ? FLAG_IOPL : 0;
		assert_int_equal(EXIT_OF(0xec), iopl ? 0x7b : VMEXIT_EXCP0 + VEC_GP);
	}
}

/* ---- model-specific registers --------------------------------------------------------------------------------------------------- */

/* The bit of a register in the map, or -1. Written out, as the manual has it. */
static int msr_bit(uint32_t msr, unsigned write)
{
	uint32_t byte;
	if (msr < 0x2000)
		byte = msr / 4;
	else if (msr >= 0xc0000000 && msr < 0xc0002000)
		byte = 0x800 + (msr - 0xc0000000) / 4;
	else if (msr >= 0xc0010000 && msr < 0xc0012000)
		byte = 0x1000 + (msr - 0xc0010000) / 4;
	else
		return -1;
	return (int)(byte * 8 + msr % 4 * 2 + write);
}

static void msr_map(void **state)
{
	static const uint32_t msrs[] = {0, 1, 2, 3, 4, 0x10, 0x1ffe, 0x1fff, 0x2000, 0x4b564d00, 0xbfffffff, 0xc0000000, 0xc0000080,
					0xc0001fff, 0xc0002000, 0xc000ffff, 0xc0010000, 0xc0010114, 0xc0011fff, 0xc0012000, 0xffffffff};
	for (size_t n = 0; n < ARRAY_LEN(msrs); n++)
		for (unsigned write = 0; write < 2; write++)
			for (unsigned inverted = 0; inverted < 3; inverted++) {
				int bit = msr_bit(msrs[n], write);
				prepare();
				intercept(INTERCEPT_MSR, true);
				memset(f->ram + MSRPM, inverted ? 0xff : 0, 0x2000);
				if (bit >= 0 && inverted < 2)
					f->ram[MSRPM + bit / 8] ^= (uint8_t)(1u << bit % 8);
				f->v->gpr[REG_RCX] = msrs[n] | 0xabc00000000;
				uint64_t code = EXIT_OF(0x0f, write ? 0x30 : 0x32);
				assert_int_equal(code, bit < 0 || inverted != 1 ? 0x7c : ~1ull);
				if (code == 0x7c)
					assert_int_equal(nested_vmcb(f)->control.exit_info_1, write);
			}
	prepare();
	user_code();
	intercept(INTERCEPT_MSR, true);
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	f->v->gpr[REG_RCX] = 0xffffffff;
	assert_int_equal(EXIT_OF(0x0f, 0x32), VMEXIT_EXCP0 + VEC_GP);
	prepare();
	f->v->gpr[REG_RCX] = 0xffffffff;
	nested_vmcb(f)->control.intercepts[VMCB_EXCEPTION] = ~0u;
	assert_int_equal(EXIT_OF(0x0f, 0x32), VMEXIT_EXCP0 + VEC_GP); /* no intercept at all: the register does not exist */
}

/* ---- PAUSE, MWAIT --------------------------------------------------------------------------------------------------------------- */

/* How many PAUSEs with `gap` instructions between them are executed before one exits; at most 20. */
static unsigned pauses_before_exit(unsigned gap)
{
	uint8_t code[600];
	size_t length = 0;
	unsigned count = 0;
	for (unsigned n = 0; n < 20; n++) {
		memcpy(code + length, (const uint8_t[]){0xf3, 0x90}, 2);
		memset(code + length + 2, 0x90, gap);
		length += 2 + gap;
	}
	intercept(INTERCEPT_PAUSE, true);
	fixture_code_at(f, NESTED_CODE, code, length);
	nested_vmrun(f);
	for (unsigned n = 0; n < 20 * (1 + gap) && f->v->guest_mode; n++)
		fixture_run(f, 1);
	if (f->v->guest_mode)
		return 20;
	assert_int_equal(nested_vmcb(f)->control.exit_code, 0x77);
	count = (unsigned)((nested_vmcb(f)->save.rip - NESTED_CODE) / (2 + gap));
	return count;
}

static void pause_filter(void **state)
{
	static const struct { unsigned count, threshold, gap, pauses; } cases[] = {
		{0, 0, 0, 0}, {1, 0, 0, 1}, {7, 0, 3, 7}, {19, 0, 0, 19}, {20, 0, 0, 20},
		{5, 1000, 2, 5}, {5, 4, 2, 20}, {5, 8, 2, 20}, {5, 12, 2, 5}, {0, 100, 2, 0},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		prepare();
		nested_vmcb(f)->control.pause_filter_count = (uint16_t)cases[n].count;
		nested_vmcb(f)->control.pause_filter_threshold = (uint16_t)cases[n].threshold;
		assert_int_equal(pauses_before_exit(cases[n].gap), cases[n].pauses);
	}
	change_model("amd,-pause-filter,-pfthreshold");
	prepare();
	nested_vmcb(f)->control.pause_filter_count = 5;
	assert_int_equal(pauses_before_exit(0), 0);
	change_model("amd");
}

static void mwait_armed(void **state)
{
	for (unsigned armed = 0; armed < 2; armed++)
		for (unsigned both = 0; both < 2; both++) {
			prepare();
			intercept(INTERCEPT_MWAIT_ARMED, true);
			intercept(INTERCEPT_MWAIT, both);
			nested_vmcb(f)->save.rax = NESTED_MEMORY;
			static const uint8_t code[] = {0x0f, 0x01, 0xc8, 0x0f, 0x01, 0xc9};
			fixture_code_at(f, NESTED_CODE, armed ? code : code + 3, armed ? 6 : 3);
			nested_vmrun(f);
			fixture_run(f, 1);
			if (armed)
				fixture_run(f, 1);
			bool exits = both || armed;
			assert_int_equal(f->v->guest_mode, !exits);
			if (exits)
				assert_int_equal(nested_vmcb(f)->control.exit_code, armed ? 0x8c : 0x8b);
		}
}

/* A guest may switch SVM off for itself: then its instructions do not exist, whoever intercepts them. (APM 3, "INVLPGA") */
static void invlpga_without_svm(void **state)
{
	for (unsigned on = 0; on < 2; on++) {
		prepare();
		intercept(INTERCEPT_INVLPGA, true);
		nested_vmrun(f);
		f->v->efer &= ~(on ? 0 : (uint64_t)EFER_SVME);
		vcpu_registers_changed(f->v);
		assert_int_equal(NESTED_FAULTS(f, VEC_UD, 0x0f, 0x01, 0xdf), !on);
		assert_int_equal(f->v->guest_mode, !on);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone), cmocka_unit_test(invpcid_operands), cmocka_unit_test(all_others),
		cmocka_unit_test(above_cpl_0), cmocka_unit_test(exceptions_first),
		cmocka_unit_test(not_announced), cmocka_unit_test(vmmcall_of_the_guest), cmocka_unit_test(assists),
		cmocka_unit_test(control_registers), cmocka_unit_test(control_register_exceptions), cmocka_unit_test(selective_cr0),
		cmocka_unit_test(debug_registers), cmocka_unit_test(port_information), cmocka_unit_test(port_map),
		cmocka_unit_test(port_privilege), cmocka_unit_test(msr_map), cmocka_unit_test(pause_filter), cmocka_unit_test(mwait_armed),
		cmocka_unit_test(invlpga_without_svm),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
