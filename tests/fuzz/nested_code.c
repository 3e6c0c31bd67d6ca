/*
 * Programs for the plans of nested_plan.h. L1's goes round: it runs one of its VMCBs, now and then moves L2's RIP on as a hypervisor does,
 * changes VMCBs, nested tables and maps, flushes, writes MSRs, and executes what any hostile guest executes. L2's is what any hostile guest
 * executes, and the instructions of SVM. The handler of SMIs changes what RSM will read.
 */
#include "arch/msr.h"
#include "nested_plan.h"

#define L1_ROOM 0xc00u
#define L2_ROOM 0x700u

struct program {
	struct nested_plan *plan;
	struct guest_plan *guest;
	struct choices *c;
	uint8_t *bytes;
	size_t length, room;
	unsigned width;
};

static void put(struct program *p, const void *bytes, size_t length)
{
	if (p->length + length > p->room)
		return;
	memcpy(p->bytes + p->length, bytes, length);
	p->length += length;
}

#define PUT(p, ...) put(p, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* mov $value, register */
static void put_move(struct program *p, unsigned reg, uint64_t value)
{
	uint8_t bytes[10] = {0x48, (uint8_t)(0xb8 + reg)};
	memcpy(bytes + 2, &value, 8);
	if (p->width == 8) {
		put(p, bytes, 10);
		return;
	}
	bytes[0] = 0x66;
	put(p, bytes + (p->width == 4), p->width == 4 ? 5 : 6);
}

static void put_any(struct program *p)
{
	uint8_t bytes[64];
	put(p, bytes, guest_code_some(p->guest, p->c, p->width, bytes, sizeof(bytes)));
}

/* Where this L1 has the sixteen pages. */
static uint64_t window(const struct program *p)
{
	return p->guest->mode == PLAN_PROTECTED32 ? NESTED_HIGH : NESTED_WINDOW;
}

static uint64_t choose_vmcb(struct program *p)
{
	uint64_t gpa = NESTED_HIGH + HIGH_VMCB + choose(p->c, NESTED_VMCBS) * PAGE_SIZE;
	return choose_rarely(p->c, 32) ? plan_address(&p->plan->l1, p->c) : gpa;
}

/* ---- L1 ----------------------------------------------------------------------------------------------------------------- */

static void world_switch(struct program *p)
{
	static const uint8_t around[] = {0xda, 0xdb, 0xdc, 0xdd, 0xdc};
	put_move(p, 0, choose_vmcb(p));
	if (choose_rarely(p->c, 3))
		PUT(p, 0x0f, 0x01, CHOOSE_OF(p->c, around));
	PUT(p, 0x0f, 0x01, 0xd8);
	if (choose_rarely(p->c, 3))
		PUT(p, 0x0f, 0x01, CHOOSE_OF(p->c, around));
	if (choose_yes(p->c))
		PUT(p, 0x0f, 0x01, 0xdc); /* STGI */
}

/* Register 3 is the address, 1 the value. */
static void put_store(struct program *p, uint64_t address, unsigned size, uint64_t value)
{
	put_move(p, 3, address);
	put_move(p, 1, value);
	if (size == 8 && p->width == 8)
		PUT(p, 0x48, 0x89, 0x0b);
	else if (size == 2)
		PUT(p, 0x66, 0x89, 0x0b);
	else
		PUT(p, size == 1 ? 0x88 : 0x89, 0x0b);
}

static void edit(struct program *p)
{
	struct nested_edit e = nested_choose_edit(p->plan, p->c);
	put_store(p, window(p) + e.offset, e.size, e.value);
}

/* mov next_rip, %rcx; mov %rcx, rip; and no event again */
static void step_over(struct program *p)
{
	uint64_t vmcb = window(p) + HIGH_VMCB + choose(p->c, NESTED_VMCBS) * PAGE_SIZE;
	put_move(p, 3, vmcb);
	for (unsigned n = 0; n < 2; n++) {
		uint8_t bytes[] = {0x48, n ? 0x89 : 0x8b, 0x8b, 0, 0, 0, 0};
		uint32_t offset = n ? offsetof(struct vmcb, save.rip) : offsetof(struct vmcb, control.next_rip);
		memcpy(bytes + 3, &offset, 4);
		put(p, bytes + (p->width != 8), p->width == 8 ? 7 : 6);
	}
	if (choose_yes(p->c))
		put_store(p, vmcb + offsetof(struct vmcb, control.event_inj), 8, 0);
}

static void flush(struct program *p)
{
	put_move(p, 0, choose_yes(p->c) ? choose(p->c, 0x48) * PAGE_SIZE : plan_address(p->guest, p->c));
	put_move(p, 1, choose(p->c, 4));
	PUT(p, 0x0f, 0x01, 0xdf);
}

static void write_msr(struct program *p)
{
	static const uint32_t numbers[] = {MSR_VM_HSAVE_PA, MSR_VM_CR, MSR_TSC_RATIO, MSR_EFER, MSR_DEBUGCTL, MSR_PAT, MSR_TSC};
	static const uint64_t areas[] = {NESTED_HIGH + HIGH_HSAVE, NESTED_HIGH + HIGH_HSAVE, NESTED_HIGH, PLAN_ROM, 0xd0000000};
	uint32_t number = CHOOSE_OF(p->c, numbers);
	uint64_t value = number == MSR_VM_HSAVE_PA ? CHOOSE_OF(p->c, areas) : number == MSR_DEBUGCTL ? choose(p->c, 4) :
			 number == MSR_EFER ? p->guest->start.efer ^ (choose_rarely(p->c, 4) ? 1ull << choose(p->c, 16) : 0) : choose_number(p->c, 8);
	if (number == MSR_VM_CR && choose(p->c, 4))
		return; /* it may be the end of SVM */
	put_move(p, 1, number);
	put_move(p, 0, (uint32_t)value);
	put_move(p, 2, value >> 32);
	PUT(p, 0x0f, 0x30);
}

static void put_jump_back(struct program *p)
{
	uint8_t bytes[5] = {0xe9};
	unsigned size = p->width == 2 ? 3 : 5;
	uint32_t distance = 0 - (uint32_t)p->length - size;
	memcpy(bytes + 1, &distance, 4);
	p->room += 5;
	put(p, bytes, size);
}

static void make_l1(struct nested_plan *plan, struct choices *c)
{
	static void (*const kinds[])(struct program *) = {world_switch, world_switch, world_switch, edit, edit, step_over, flush, write_msr,
							  put_any};
	struct program p = {plan, &plan->l1, c, plan->l1.ram + PLAN_CODE, 0, L1_ROOM, plan_code_width(&plan->l1)};
	for (unsigned n = 4 + choose(c, 24); n; n--)
		CHOOSE_OF(c, kinds)(&p);
	put_jump_back(&p);
}

/* ---- L2 ----------------------------------------------------------------------------------------------------------------- */

static void svm_instruction(struct program *p)
{
	static const uint8_t thirds[] = {0xd8, 0xd9, 0xd9, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf};
	if (choose_yes(p->c))
		put_move(p, 0, choose_yes(p->c) ? choose(p->c, 0x20) * PAGE_SIZE : choose_vmcb(p));
	PUT(p, 0x0f, 0x01, CHOOSE_OF(p->c, thirds));
}

static void simple(struct program *p)
{
	static const uint8_t bytes[][3] = {{0xf4, 0x90, 0x90}, {0x0f, 0xa2, 0x90}, {0xf3, 0x90, 0x90}, {0x0f, 0x31, 0x90}, {0x9c, 0x9d, 0x90},
					   {0x0f, 0x0b, 0x90}, {0xfb, 0x90, 0xfa}, {0xcd, 0x20, 0x90}, {0xe4, 0x60, 0x90}, {0x0f, 0xaa, 0x90}};
	put(p, CHOOSE_OF(p->c, bytes), 3);
}

static void make_l2(struct nested_plan *plan, struct guest_plan *guest, struct choices *c, uint8_t *bytes)
{
	static void (*const kinds[])(struct program *) = {svm_instruction, simple, put_any, put_any, put_any, put_any};
	struct program p = {plan, guest, c, bytes, 0, L2_ROOM, plan_code_width(guest)};
	for (unsigned n = 8 + choose(c, 64); n; n--)
		CHOOSE_OF(c, kinds)(&p);
	put_jump_back(&p);
}

/* ---- SMM ---------------------------------------------------------------------------------------------------------------- */

/* 16-bit code that reaches all of memory: movl $value, address; rsm */
static void make_handler(struct nested_plan *plan, struct choices *c)
{
	struct program p = {plan, &plan->l1, c, plan->high + HIGH_SMM_CODE, 0, 0x400, 2};
	while (choose_rarely(c, 3)) {
		struct nested_edit e = nested_choose_edit(plan, c);
		uint8_t bytes[] = {0x67, 0x66, 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0};
		uint32_t address = NESTED_HIGH + e.offset, value = (uint32_t)e.value;
		memcpy(bytes + 4, &address, 4);
		memcpy(bytes + 8, &value, 4);
		put(&p, bytes, sizeof(bytes));
	}
	if (choose_rarely(c, 8))
		put_any(&p);
	PUT(&p, 0x0f, 0xaa);
}

void nested_code_make(struct nested_plan *plan, struct choices *c)
{
	make_l1(plan, c);
	make_l2(plan, &plan->l1, c, plan->l1.ram + NESTED_SHARED_CODE);
	make_l2(plan, &plan->l2, c, plan->l2.ram + PLAN_CODE);
	make_handler(plan, c);
}
