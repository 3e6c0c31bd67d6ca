/*
 * Instructions for the guests of fuzz_machine.c: common ones with sensible operands, everything that changes modes, tables or segments with
 * nearly sensible operands, and plain noise. Handlers try to step over what failed, so that a guest lives for a while.
 */
#include "arch/msr.h"
#include "guest_plan.h"

#define HANDLER_BYTES 64
#define HANDLER_COUNT 32

struct code {
	struct guest_plan *plan;
	struct choices *c;
	uint8_t *bytes;
	size_t length, room;
	unsigned width; /* of code: 2, 4, 8 */
};

static void put(struct code *o, unsigned byte)
{
	if (o->length < o->room)
		o->bytes[o->length++] = (uint8_t)byte;
}

static void put_number(struct code *o, uint64_t value, unsigned size)
{
	for (unsigned n = 0; n < size; n++)
		put(o, (uint8_t)(value >> 8 * n));
}

#define PUT(o, ...)                                                                 \
	do {                                                                        \
		const uint8_t put_bytes[] = {__VA_ARGS__};                          \
		for (size_t put_n = 0; put_n < sizeof(put_bytes); put_n++)          \
			put((o), put_bytes[put_n]);                                 \
	} while (0)

/* A register that can be a base without SIB or displacement. */
static unsigned pick_base(struct code *o)
{
	static const uint8_t bases[] = {0, 1, 2, 3, 6, 7};
	return CHOOSE_OF(o->c, bases);
}

static void put_move(struct code *o, unsigned reg, uint64_t value)
{
	if (o->width == 8)
		put(o, 0x48);
	if (o->width == 2)
		put(o, 0x66);
	put(o, 0xb8 + reg);
	put_number(o, value, o->width == 8 ? 8 : 4);
}

static void put_address_prefix(struct code *o)
{
	if (o->width == 2)
		put(o, 0x67);
}

static void put_wide_prefix(struct code *o)
{
	if (o->width == 8)
		put(o, 0x48);
	if (o->width == 2)
		put(o, 0x66);
}

static uint64_t pick_entry(struct code *o)
{
	static const uint64_t flags[] = {0x67, 0x63, 0x61, 0x07, 0x03, 0x01, 0xe7, 0x1e7, 0x167, 0};
	uint64_t entry = (uint64_t)choose(o->c, 0x48) << PAGE_SHIFT | CHOOSE_OF(o->c, flags);
	if (choose_rarely(o->c, 8))
		entry |= 1ull << choose(o->c, 64);
	if (choose_rarely(o->c, 8))
		entry |= PLAN_TABLES;
	return entry;
}

static uint64_t pick_entry_address(struct code *o)
{
	static const uint16_t places[] = {0, 0x40, 0x68, 0x80, 0x10, 0x20, 0xff8, 0x34, 0x1c};
	return PLAN_TABLES + choose(o->c, 10) * PAGE_SIZE + CHOOSE_OF(o->c, places);
}

/* ---- kinds of instructions ----------------------------------------------------------------------------------------------- */

static void noise(struct code *o)
{
	for (unsigned n = 1 + choose(o->c, 8); n; n--)
		put(o, choose(o->c, 256));
}

static void prefixes(struct code *o)
{
	static const uint8_t some[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65};
	while (choose_rarely(o->c, 5))
		put(o, CHOOSE_OF(o->c, some));
	if (o->width == 8 && choose_yes(o->c))
		put(o, 0x40 + choose(o->c, 16));
}

static void mod_rm(struct code *o)
{
	unsigned mod = choose(o->c, 4), rm = pick_base(o), reg = choose(o->c, 8);
	put(o, mod << 6 | reg << 3 | rm);
	if (mod == 1)
		put(o, choose(o->c, 256));
	else if (mod == 2)
		put_number(o, choose_yes(o->c) ? choose_number(o->c, 4) : choose_number(o->c, 2), o->width == 2 ? 2 : 4);
}

static void one_byte(struct code *o)
{
	static const uint8_t opcodes[] = {
		0x00, 0x01, 0x02, 0x03, 0x08, 0x11, 0x19, 0x21, 0x29, 0x2b, 0x31, 0x33, 0x39, 0x3b, 0x62, 0x63, 0x84, 0x85, 0x86, 0x87, 0x88,
		0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0xc4, 0xc5, 0xd0, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe, 0xff, 0x80, 0x81, 0x83, 0xc0,
		0xc1, 0xc6, 0xc7, 0x69, 0x6b,
	};
	prefixes(o);
	unsigned opcode = CHOOSE_OF(o->c, opcodes);
	put(o, opcode);
	mod_rm(o);
	if (opcode >= 0x80 && opcode < 0xc8 && opcode != 0x84)
		put_number(o, choose_number(o->c, 4), (opcode & 1) && opcode != 0xc1 && opcode != 0x83 ? o->width == 2 ? 2 : 4 : 1);
}

static void two_bytes(struct code *o)
{
	static const uint8_t opcodes[] = {
		0x00, 0x01, 0x02, 0x03, 0x0d, 0x18, 0x1f, 0x40, 0x4f, 0x90, 0x9f, 0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb1,
		0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3, 0xc7, 0xc8, 0x38, 0x3a,
	};
	prefixes(o);
	put(o, 0x0f);
	unsigned opcode = CHOOSE_OF(o->c, opcodes);
	put(o, opcode);
	if (opcode == 0x38)
		put(o, 0xf0 + choose(o->c, 8));
	mod_rm(o);
	if (opcode == 0xba || opcode == 0xa4 || opcode == 0xac)
		put(o, choose(o->c, 256));
}

static void no_operands(struct code *o)
{
	static const uint8_t opcodes[] = {
		0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x90, 0x98, 0x99, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xc3, 0xcb, 0xc9, 0xcc, 0xce, 0xcf, 0xd6, 0xd7,
		0xf1, 0xf4, 0xf5, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x50, 0x53, 0x58, 0x5b, 0x5c,
		0xec, 0xed, 0xee, 0xef,
	};
	prefixes(o);
	put(o, CHOOSE_OF(o->c, opcodes));
}

static void strings(struct code *o)
{
	static const uint8_t opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f};
	if (choose_yes(o->c))
		put_move(o, 6, plan_address(o->plan, o->c));
	if (choose_yes(o->c))
		put_move(o, 7, plan_address(o->plan, o->c));
	put_move(o, 1, choose_rarely(o->c, 8) ? choose_number(o->c, 8) : choose(o->c, 64));
	if (choose_rarely(o->c, 4))
		put(o, 0xfd);
	prefixes(o);
	if (choose(o->c, 4))
		put(o, choose_yes(o->c) ? 0xf3 : 0xf2);
	if (o->width == 8 && choose_yes(o->c))
		put(o, 0x48);
	put(o, CHOOSE_OF(o->c, opcodes));
}

static void new_pointer(struct code *o)
{
	put_move(o, choose_rarely(o->c, 8) ? choose(o->c, 8) : pick_base(o), plan_address(o->plan, o->c));
}

static void table_store(struct code *o)
{
	unsigned base = pick_base(o), value = (base + 1) & 3;
	uint64_t address = pick_entry_address(o);
	put_move(o, base, address + (choose_rarely(o->c, 8) ? choose(o->c, 8) : 0));
	put_move(o, value, pick_entry(o));
	put_address_prefix(o);
	if (choose(o->c, 4))
		put_wide_prefix(o);
	PUT(o, choose_rarely(o->c, 6) ? 0x88 : choose_rarely(o->c, 6) ? 0x09 : 0x89, value << 3 | base);
	if (choose_yes(o->c)) {
		put_move(o, base, plan_address(o->plan, o->c));
		put_address_prefix(o);
		PUT(o, 0x0f, 0x01, 7 << 3 | base); /* INVLPG */
	}
	if (choose_yes(o->c))
		PUT(o, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8); /* CR3 again */
}

static void control_register(struct code *o)
{
	static const uint8_t numbers[] = {0, 0, 3, 4, 4, 2, 8};
	unsigned number = CHOOSE_OF(o->c, numbers), reg = choose(o->c, 4);
	if (number == 3 && choose_yes(o->c)) {
		static const uint64_t roots[] = {PLAN_TABLES, PLAN_ROOT2, PLAN_TABLES + 0x1000, PLAN_TABLES + 0x20, PLAN_TABLES + 1};
		put_move(o, reg, CHOOSE_OF(o->c, roots) | (choose_rarely(o->c, 4) ? 1ull << 63 : 0));
	} else {
		if (number == 8)
			put(o, 0x44);
		PUT(o, 0x0f, 0x20, 0xc0 | (number & 7) << 3 | reg);
		unsigned bit = choose(o->c, number == 0 ? 32 : 26);
		if (number != 3)
			PUT(o, 0x0f, 0xba, 0xf8 | reg, bit); /* BTC */
	}
	if (number == 8)
		put(o, 0x44);
	PUT(o, 0x0f, 0x22, 0xc0 | (number & 7) << 3 | reg);
}

static void debug_register(struct code *o)
{
	static const uint8_t numbers[] = {0, 1, 2, 3, 6, 7, 7, 7, 4, 5};
	unsigned number = CHOOSE_OF(o->c, numbers);
	put_move(o, 0, number < 4 ? plan_address(o->plan, o->c) : choose_number(o->c, 4));
	PUT(o, 0x0f, choose(o->c, 4) ? 0x23 : 0x21, 0xc0 | number << 3);
}

static void model_specific(struct code *o)
{
	static const uint32_t numbers[] = {
		MSR_EFER, MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
		MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_TSC, MSR_TSC_ADJUST, MSR_APIC_BASE, MSR_PAT, MSR_PKRS, MSR_MISC_ENABLE,
		MSR_DEBUGCTL, MSR_SPEC_CTRL, MSR_PRED_CMD, MSR_MTRR_PHYSBASE0, MSR_MTRR_FIX64K, MSR_MTRR_DEFTYPE, MSR_K7_EVNTSEL0, MSR_HWCR,
		MSR_X2APIC_FIRST + 8, MSR_MCG_STATUS, MSR_TSC_DEADLINE, 0x12345678,
	};
	put_move(o, 1, CHOOSE_OF(o->c, numbers));
	if (choose_yes(o->c)) {
		PUT(o, 0x0f, 0x32);
		if (choose_yes(o->c))
			PUT(o, 0x0f, 0xba, 0xf8, choose(o->c, 32));
	} else {
		uint64_t value = choose_yes(o->c) ? plan_address(o->plan, o->c) : 0x00230008ull << 32;
		put_move(o, 0, (uint32_t)value);
		put_move(o, 2, value >> 32);
	}
	PUT(o, 0x0f, 0x30);
}

static void segment_register(struct code *o)
{
	static const uint8_t pushes[] = {0x06, 0x16, 0x1e}, pops[] = {0x07, 0x17, 0x1f};
	put_move(o, 0, plan_selector(o->c));
	unsigned kind = choose(o->c, 4), seg = choose(o->c, 6);
	if (kind == 0 && o->width != 8)
		PUT(o, CHOOSE_OF(o->c, pushes), CHOOSE_OF(o->c, pops));
	else if (kind == 1)
		PUT(o, 0x50, 0x0f, choose_yes(o->c) ? 0xa1 : 0xa9);
	else
		PUT(o, 0x8e, 0xc0 | seg << 3);
	if (kind == 3)
		PUT(o, 0x0f, choose_yes(o->c) ? 0x00 : 0x02 + choose(o->c, 2), 0xc0 | choose(o->c, 6) << 3); /* SLDT.. VERW, LAR, LSL */
}

static void table_register(struct code *o)
{
	unsigned base = pick_base(o);
	put_move(o, base, choose_yes(o->c) ? PLAN_DATA + choose(o->c, 4) * 16 : plan_address(o->plan, o->c));
	put_address_prefix(o);
	if (choose_rarely(o->c, 4))
		put(o, 0x66);
	PUT(o, 0x0f, choose(o->c, 4) ? 0x01 : 0x00, choose(o->c, 8) << 3 | base);
}

/* Pushes what a return needs, and returns. */
static void far_return(struct code *o)
{
	bool interrupt = choose_yes(o->c);
	uint64_t target = PLAN_CODE - plan_code_base(o->plan) + choose(o->c, 2048);
	static const uint64_t flags[] = {2, 0x202, 0x3002, 0x102, 0x4002, 0x20002, 0x23202, 0x40002, 0x10002, 0x246};
	if (interrupt) {
		if (o->width == 8 || choose_yes(o->c)) {
			put_move(o, 0, plan_selector(o->c));
			put_move(o, 3, PLAN_STACK - choose(o->c, 64) * 8);
			PUT(o, 0x50, 0x53);
		}
		put_move(o, 0, CHOOSE_OF(o->c, flags));
		put(o, 0x50);
	}
	put_move(o, 0, plan_selector(o->c));
	put(o, 0x50);
	put_move(o, 0, choose_rarely(o->c, 8) ? plan_address(o->plan, o->c) : target);
	put(o, 0x50);
	if (o->width == 8 || choose_rarely(o->c, 8))
		put(o, 0x48);
	put(o, interrupt ? 0xcf : 0xcb);
}

static void far_direct(struct code *o)
{
	uint64_t target = PLAN_CODE - plan_code_base(o->plan) + choose(o->c, 2048);
	if (o->width == 8 || choose_rarely(o->c, 4)) {
		unsigned base = pick_base(o);
		put_move(o, base, PLAN_DATA + 64 + choose(o->c, 16) * 8);
		put_address_prefix(o);
		PUT(o, 0xff, (choose_yes(o->c) ? 3 : 5) << 3 | base);
		return;
	}
	put(o, choose_yes(o->c) ? 0x9a : 0xea);
	put_number(o, target, o->width);
	put_number(o, plan_selector(o->c), 2);
}

static void system_call(struct code *o)
{
	static const uint8_t seconds[] = {0x05, 0x07, 0x34, 0x35, 0x0b, 0x06, 0x08, 0x09, 0xa2, 0x31, 0x33, 0x77};
	if (choose_yes(o->c)) {
		put_move(o, 1, PLAN_CODE + choose(o->c, 2048));
		put_move(o, 2, PLAN_CODE + choose(o->c, 2048));
	}
	if (o->width == 8 && choose_yes(o->c))
		put(o, 0x48);
	PUT(o, 0x0f, CHOOSE_OF(o->c, seconds));
}

static void group_01(struct code *o)
{
	static const uint8_t seconds[] = {0xc1, 0xc8, 0xc9, 0xca, 0xcb, 0xd0, 0xd1, 0xee, 0xef, 0xf8, 0xf9, 0xfa, 0xfc, 0xd9, 0xd4, 0xdf, 0xe0, 0xf0};
	PUT(o, 0x0f, 0x01, CHOOSE_OF(o->c, seconds));
}

static void invalidate_pcid(struct code *o)
{
	unsigned base = pick_base(o);
	put_move(o, base, PLAN_DATA + choose(o->c, 8) * 16);
	put_move(o, 0, choose(o->c, 5));
	put_address_prefix(o);
	PUT(o, 0x66, 0x0f, 0x38, 0x82, base);
}

static void flags(struct code *o)
{
	static const uint32_t values[] = {2, 0x202, 0x102, 0x40002, 0x4002, 0x3002, 0x13202, 0x403, 0x180202, 0x240002};
	put_move(o, 0, CHOOSE_OF(o->c, values));
	PUT(o, 0x50, 0x9d);
}

static void ports(struct code *o)
{
	if (choose_yes(o->c)) {
		PUT(o, 0xe4 + choose(o->c, 4), choose(o->c, 256));
	} else {
		put_move(o, 2, choose_number(o->c, 2));
		PUT(o, 0xec + choose(o->c, 4));
	}
}

static void interrupt(struct code *o)
{
	PUT(o, 0xcd, choose_yes(o->c) ? choose(o->c, 256) : choose(o->c, 32));
}

static void branch(struct code *o)
{
	int back = -(int)choose(o->c, 128), forth = (int)choose(o->c, 32);
	int distance = choose_rarely(o->c, 3) ? back : forth;
	switch (choose(o->c, 5)) {
	case 0: PUT(o, 0x70 + choose(o->c, 16), (uint8_t)distance); break;
	case 1: PUT(o, 0xe0 + choose(o->c, 4), (uint8_t)distance); break;
	case 2: PUT(o, 0xeb, (uint8_t)distance); break;
	case 3: put(o, 0xe8); put_number(o, (uint64_t)(int64_t)distance, o->width == 2 ? 2 : 4); break;
	default:
		PUT(o, 0x0f, 0x80 + choose(o->c, 16));
		put_number(o, (uint64_t)(int64_t)distance, o->width == 2 ? 2 : 4);
		break;
	}
}

/* Stores into code that is about to run, or has run. */
static void self_modify(struct code *o)
{
	unsigned base = pick_base(o);
	size_t here = o->length + (size_t)choose(o->c, 96);
	put_move(o, base, PLAN_CODE - plan_code_base(o->plan) + (choose_yes(o->c) ? here : here / 2));
	put_address_prefix(o);
	if (choose_yes(o->c))
		PUT(o, 0xc6, base, choose(o->c, 256));
	else
		PUT(o, 0x88 + choose(o->c, 2), choose(o->c, 8) << 3 | base);
}

static void enter(struct code *o)
{
	PUT(o, 0xc8, choose(o->c, 256), 0, choose_yes(o->c) ? choose(o->c, 4) : choose(o->c, 256));
	if (choose_yes(o->c))
		put(o, 0xc9);
}

static void new_stack(struct code *o)
{
	put_move(o, 4, choose_yes(o->c) ? PLAN_STACK - choose(o->c, 256) * 2 : plan_address(o->plan, o->c));
}

/* A comparison and the branch that depends on it, which the processor may run as one. */
static void compare_and_branch(struct code *o)
{
	static const uint8_t opcodes[] = {0x38, 0x39, 0x3a, 0x3b, 0x84, 0x85, 0x80, 0x81, 0x83, 0xf6, 0xf7, 0xfe, 0xff, 0x29, 0x01, 0x21};
	unsigned opcode = CHOOSE_OF(o->c, opcodes), mod = choose(o->c, 2) * 3, rm = pick_base(o), reg = choose(o->c, 8);
	if (o->width == 8 && choose_yes(o->c))
		put(o, 0x48);
	put_address_prefix(o);
	put(o, opcode);
	put(o, mod << 6 | (opcode >= 0x80 && opcode < 0x84 ? 7 : opcode >= 0xf6 ? choose(o->c, 2) : reg) << 3 | rm);
	if (opcode == 0x81 || opcode == 0xf7)
		put_number(o, choose_number(o->c, 4), o->width == 2 ? 2 : 4);
	else if (opcode == 0x80 || opcode == 0x83 || opcode == 0xf6)
		put(o, choose(o->c, 256));
	PUT(o, 0x70 + choose(o->c, 16), choose(o->c, 24));
}

static void vex(struct code *o)
{
	static const uint8_t opcodes[] = {0xf2, 0xf3, 0xf5, 0xf6, 0xf7};
	PUT(o, 0xc4, 0xe2 + choose(o->c, 2), choose(o->c, 256) & (choose_yes(o->c) ? 0xfb : 0xff), CHOOSE_OF(o->c, opcodes));
	mod_rm(o);
}

static void rare_words(struct code *o)
{
	switch (choose(o->c, 6)) {
	case 0: PUT(o, 0xf3, 0x90); break;
	case 1: PUT(o, 0x0f, 0x0b, 0x6b, 0x76, 0x6d); break; /* forced emulation, of what follows */
	case 2: PUT(o, 0x0f, 0xae, 0xe8 + choose(o->c, 3) * 8); break;
	case 3: PUT(o, 0x0f, choose_yes(o->c) ? 0xff : 0xb9, 0xc0); break;
	case 4: PUT(o, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90); break;
	default: PUT(o, 0x66, 0x0f, 0x38, 0xf6 + choose(o->c, 2)); mod_rm(o); break;
	}
}

static void put_instruction(struct code *o)
{
	static void (*const kinds[])(struct code *) = {
		noise, one_byte, one_byte, one_byte, one_byte, one_byte, two_bytes, two_bytes, no_operands, no_operands, strings, strings, new_pointer,
		new_pointer, table_store, table_store, control_register, control_register, debug_register, model_specific, segment_register,
		table_register, far_return, far_direct, system_call, group_01, invalidate_pcid, flags, ports, interrupt, branch, branch,
		self_modify, enter, new_stack, compare_and_branch, compare_and_branch, vex, rare_words,
	};
	CHOOSE_OF(o->c, kinds)(o);
}

size_t guest_code_some(struct guest_plan *plan, struct choices *c, unsigned width, uint8_t *bytes, size_t room)
{
	struct code o = {.plan = plan, .c = c, .bytes = bytes, .room = room, .width = width};
	put_instruction(&o);
	return o.length;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------------- */

/* Drops the error code, steps over some bytes of what failed, goes back. */
static void put_handler(struct code *o, bool error_code)
{
	unsigned cell = o->width;
	if (choose_rarely(o->c, 12)) {
		noise(o);
		return;
	}
	if (error_code) {
		if (o->width == 8)
			put(o, 0x48);
		PUT(o, 0x83, 0xc4, cell);
	}
	if (choose_rarely(o->c, 6))
		put_instruction(o);
	if (choose(o->c, 8)) {
		if (o->width == 2) { /* PUSH BP; MOV BP, SP; ADD word [BP+2], n; POP BP */
			PUT(o, 0x55, 0x89, 0xe5, 0x83, 0x46, 0x02, 1 + choose(o->c, 4), 0x5d);
		} else {
			if (o->width == 8)
				put(o, 0x48);
			PUT(o, 0x83, 0x04, 0x24, 1 + choose(o->c, 4));
		}
	}
	if (o->width == 8)
		put(o, 0x48);
	put(o, choose_rarely(o->c, 16) ? 0xf4 : 0xcf);
}

static unsigned handler_width(const struct guest_plan *plan)
{
	return plan->mode == PLAN_V86 || plan->mode == PLAN_PROTECTED16 ? 4 : plan->mode == PLAN_COMPAT ? 8 : plan_code_width(plan);
}

void guest_code_make(struct guest_plan *plan, struct choices *c)
{
	struct code o = {.plan = plan, .c = c, .bytes = plan->ram + PLAN_CODE, .room = 2040, .width = plan_code_width(plan)};
	size_t wanted = 32 + choose(c, 512);
	while (o.length < wanted)
		put_instruction(&o);
	put(&o, 0xe9); /* from the beginning */
	uint64_t distance = 0 - (uint64_t)o.length - (o.width == 2 ? 2 : 4);
	put_number(&o, distance, o.width == 2 ? 2 : 4);
	for (unsigned n = 0; n < HANDLER_COUNT; n++) {
		struct code h = {.plan = plan, .c = c, .bytes = plan->ram + PLAN_HANDLERS + n * HANDLER_BYTES, .room = HANDLER_BYTES,
				 .width = handler_width(plan)};
		put_handler(&h, plan->mode != PLAN_REAL && (VECTORS_WITH_ERROR_CODE >> n & 1));
	}
}
