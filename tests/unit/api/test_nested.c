/*
 * The state of nested guests through the library: a processor in L2 moves to another machine in every order of setters, comes back to L1 as
 * it would have, and every refusal leaves everything as it was.
 */
#include "guest.h"

#define TABLES 0x2000u /* PML4, PDPT, PD: the first 2 MiB, for users too; nCR3 as well */
#define VMCB_GPA 0x5000u
#define HSAVE 0x6000u
#define IOPM 0x7000u
#define MSRPM 0xa000u
#define L2_CODE 0xc000u
#define STEPS 3 /* of L2, before it is moved */

#define EFER_LONG 0x1500u /* LME, LMA, SVME */
#define EFER_MSR 0xc0000080u
#define HSAVE_MSR 0xc0010117u
#define CONTROL_MISC2 0x10u
#define CONTROL_INT_CTL 0x60u
#define CONTROL_NESTED 0x90u
#define CONTROL_EVENT 0xa8u
#define SAVE 0x400u

static void put(void *bytes, size_t at, uint64_t value, size_t size)
{
	memcpy((uint8_t *)bytes + at, &value, size);
}

static uint64_t get(const void *bytes, size_t at, size_t size)
{
	uint64_t value = 0;
	memcpy(&value, (const uint8_t *)bytes + at, size);
	return value;
}

/* vmrun; mov [0xd000],rbx; hlt */
static const uint8_t l1_code[] = {0x0f, 0x01, 0xd8, 0x48, 0x89, 0x1c, 0x25, 0x00, 0xd0, 0x00, 0x00, 0xf4};
/* mov rbx,1234h; inc rbx (6 times); vmmcall; hlt */
static const uint8_t l2_code[] = {0x48, 0xc7, 0xc3, 0x34, 0x12, 0x00, 0x00, 0x48, 0xff, 0xc3, 0x48, 0xff, 0xc3, 0x48, 0xff, 0xc3,
				  0x48, 0xff, 0xc3, 0x48, 0xff, 0xc3, 0x48, 0xff, 0xc3, 0x0f, 0x01, 0xd9, 0xf4};

static void enter_long_mode(struct umbra_vcpu *vcpu)
{
	const struct umbra_segment data = {.limit = 0xffffffff, .selector = 0x10, .attributes = 0xc093};
	struct umbra_regs regs = {.rip = CODE_GPA, .rflags = 2};
	struct umbra_sregs sregs;
	struct umbra_error error;

	umbra_vcpu_get_sregs(vcpu, &sregs);
	sregs.cr0 = 0x80000031;
	sregs.cr3 = TABLES;
	sregs.cr4 = 0x20;
	sregs.efer = EFER_LONG;
	sregs.cs = (struct umbra_segment){.limit = 0xffffffff, .selector = 8, .attributes = 0xa09b};
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
	if (!umbra_vcpu_set_sregs(vcpu, &sregs, &error))
		fail_msg("%s", error.text);
	regs.gpr[UMBRA_RSP] = 0xf000;
	regs.gpr[UMBRA_RAX] = VMCB_GPA;
	umbra_vcpu_set_regs(vcpu, &regs);
	assert_true(umbra_vcpu_set_msr(vcpu, HSAVE_MSR, HSAVE));
}

static void make_vmcb(uint8_t *vmcb, bool nested_paging)
{
	static const struct {
		uint16_t at;
		uint8_t size;
		uint64_t value;
	} fields[] = {
		{CONTROL_MISC2, 4, 3}, {0x40, 8, IOPM}, {0x48, 8, MSRPM}, {0x50, 8, 777}, {0x58, 4, 1}, /* VMRUN, VMMCALL; maps; TSC; ASID */
		{SAVE + 0x10, 2, 8}, {SAVE + 0x12, 2, 0xa9b}, {SAVE + 0x14, 4, 0xffffffff}, /* CS */
		{SAVE + 0x20, 2, 0x10}, {SAVE + 0x22, 2, 0xc93}, {SAVE + 0x24, 4, 0xffffffff}, /* SS */
		{SAVE + 0xd0, 8, EFER_LONG}, {SAVE + 0x148, 8, 0x20}, {SAVE + 0x150, 8, TABLES}, {SAVE + 0x158, 8, 0x80000031},
		{SAVE + 0x160, 8, 0x400}, {SAVE + 0x168, 8, 0xffff0ff0}, {SAVE + 0x170, 8, 2}, {SAVE + 0x178, 8, L2_CODE},
		{SAVE + 0x1d8, 8, 0xe000}, {SAVE + 0x268, 8, 0x0007040600070406},
	};
	for (size_t n = 0; n < sizeof(fields) / sizeof(fields[0]); n++)
		put(vmcb, fields[n].at, fields[n].value, fields[n].size);
	put(vmcb, CONTROL_NESTED, nested_paging, 8);
	put(vmcb, 0xb0, TABLES, 8);
}

static struct guest create(bool nested_paging)
{
	struct guest guest = guest_create(l1_code, sizeof(l1_code), 1);

	put(guest.memory, TABLES, (TABLES + 0x1000) | 7, 8);
	put(guest.memory, TABLES + 0x1000, (TABLES + 0x2000) | 7, 8);
	put(guest.memory, TABLES + 0x2000, 0x87, 8);
	memcpy(guest.memory + L2_CODE, l2_code, sizeof(l2_code));
	make_vmcb(guest.memory + VMCB_GPA, nested_paging);
	enter_long_mode(guest.vcpu);
	return guest;
}

/* A machine of the same memory whose processor is as after RESET. */
static struct guest create_empty(const struct guest *from)
{
	struct guest guest = guest_create("", 0, 1);

	memcpy(guest.memory, from->memory, GUEST_BYTES);
	umbra_vcpu_reset(guest.vcpu, false);
	return guest;
}

struct moved {
	struct umbra_regs regs;
	struct umbra_sregs sregs;
	struct umbra_nested nested;
	uint64_t hsave;
};

static struct moved take(struct umbra_vcpu *vcpu)
{
	struct moved moved;

	umbra_vcpu_get_regs(vcpu, &moved.regs);
	umbra_vcpu_get_sregs(vcpu, &moved.sregs);
	umbra_vcpu_get_nested(vcpu, &moved.nested);
	assert_true(umbra_vcpu_get_msr(vcpu, HSAVE_MSR, &moved.hsave));
	return moved;
}

static void give_registers(struct umbra_vcpu *vcpu, const struct moved *moved)
{
	struct umbra_error error;

	if (!umbra_vcpu_set_sregs(vcpu, &moved->sregs, &error))
		fail_msg("%s", error.text);
	umbra_vcpu_set_regs(vcpu, &moved->regs);
	assert_true(umbra_vcpu_set_msr(vcpu, HSAVE_MSR, moved->hsave));
}

static void give_nested(struct umbra_vcpu *vcpu, const struct moved *moved)
{
	struct umbra_error error;

	if (!umbra_vcpu_set_nested(vcpu, &moved->nested, &error))
		fail_msg("%s", error.text);
}

/* Into L2, a few instructions far. */
static void run_into_guest(struct guest *guest)
{
	struct umbra_nested nested;

	assert_int_equal(umbra_vcpu_run(guest->vcpu, 1 + STEPS)->reason, UMBRA_EXIT_BUDGET);
	umbra_vcpu_get_nested(guest->vcpu, &nested);
	assert_int_equal(nested.flags, UMBRA_NESTED_GUEST_MODE | UMBRA_NESTED_GIF);
	assert_int_equal(nested.vmcb12, VMCB_GPA);
	assert_int_equal(guest_register(guest, UMBRA_RBX), 0x1234 + STEPS - 1);
}

/* L2 ends with VMMCALL, and L1 stores what L2 left in RBX. */
static void expect_end(struct guest *guest)
{
	assert_int_equal(umbra_vcpu_run(guest->vcpu, 100)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(get(guest->memory, VMCB_GPA + 0x70, 8), 0x81);
	assert_int_equal(get(guest->memory, VMCB_GPA + SAVE + 0x178, 8), L2_CODE + sizeof(l2_code) - 4);
	assert_int_equal(get(guest->memory, 0xd000, 8), 0x123a);
}

static void blobs_are_what_they_say(void **state)
{
	struct guest guest = create(true);
	struct umbra_nested nested;

	umbra_vcpu_get_nested(guest.vcpu, &nested);
	assert_int_equal(nested.flags, UMBRA_NESTED_GIF);
	assert_int_equal(nested.vmcb12, 0);
	run_into_guest(&guest);
	umbra_vcpu_get_nested(guest.vcpu, &nested);
	assert_int_equal(get(nested.vmcb, 0x50, 8), 777);
	assert_int_equal(get(nested.vmcb, 0x58, 4), 1);
	assert_int_equal(get(nested.vmcb, CONTROL_NESTED, 8), 1);
	assert_int_equal(get(nested.vmcb, SAVE + 0x178, 8), CODE_GPA + 3); /* L1's: behind VMRUN */
	assert_int_equal(get(nested.vmcb, SAVE + 0x1d8, 8), 0xf000);
	assert_int_equal(get(nested.vmcb, SAVE + 0x1f8, 8), VMCB_GPA);
	assert_int_equal(get(nested.vmcb, SAVE + 0xd0, 8), EFER_LONG);
	assert_int_equal(get(nested.vmcb, SAVE + 0x12, 2), 0xa9b);
	expect_end(&guest);
	guest_destroy(&guest);
}

/* ---- moving ------------------------------------------------------------------------------------------------------------- */

static void efer_first(struct umbra_vcpu *vcpu)
{
	assert_true(umbra_vcpu_set_msr(vcpu, EFER_MSR, 0x1000));
}

static void order_registers_nested(struct umbra_vcpu *vcpu, const struct moved *moved)
{
	give_registers(vcpu, moved);
	give_nested(vcpu, moved);
}

static void order_nested_registers(struct umbra_vcpu *vcpu, const struct moved *moved)
{
	efer_first(vcpu);
	give_nested(vcpu, moved);
	give_registers(vcpu, moved);
}

static void order_nested_twice(struct umbra_vcpu *vcpu, const struct moved *moved)
{
	give_registers(vcpu, moved);
	give_nested(vcpu, moved);
	give_nested(vcpu, moved);
	give_registers(vcpu, moved);
}

static void order_out_and_in(struct umbra_vcpu *vcpu, const struct moved *moved)
{
	const struct umbra_nested none = {.flags = UMBRA_NESTED_GIF};

	give_registers(vcpu, moved);
	give_nested(vcpu, moved);
	assert_true(umbra_vcpu_set_nested(vcpu, &none, NULL));
	give_registers(vcpu, moved);
	give_nested(vcpu, moved);
}

static void any_order_will_do(bool nested_paging)
{
	void (*const orders[])(struct umbra_vcpu *, const struct moved *) = {
		order_registers_nested, order_nested_registers, order_nested_twice, order_out_and_in};
	struct guest guest = create(nested_paging);
	uint64_t digests[4];

	run_into_guest(&guest);
	const struct moved moved = take(guest.vcpu);
	for (unsigned n = 0; n < 4; n++) {
		struct guest other = create_empty(&guest);
		orders[n](other.vcpu, &moved);
		digests[n] = umbra_vm_digest(other.vm);
		assert_int_equal(digests[n], digests[0]);
		struct moved again = take(other.vcpu);
		assert_memory_equal(&again.nested, &moved.nested, sizeof(moved.nested));
		assert_memory_equal(&again.regs, &moved.regs, sizeof(moved.regs));
		assert_int_equal(again.sregs.cr3, moved.sregs.cr3);
		expect_end(&other);
		guest_destroy(&other);
	}
	expect_end(&guest);
	guest_destroy(&guest);
}

static void any_order(void **state)
{
	any_order_will_do(false);
}

static void any_order_with_nested_paging(void **state)
{
	any_order_will_do(true);
}

/* Field by field: what lies between the fields is nobody's. */
static void assert_same_segment(const struct umbra_segment *a, const struct umbra_segment *b)
{
	assert_int_equal(a->base, b->base);
	assert_int_equal(a->limit, b->limit);
	assert_int_equal(a->selector, b->selector);
	assert_int_equal(a->attributes, b->attributes);
	assert_int_equal(a->unusable, b->unusable);
}

static void assert_same_sregs(const struct umbra_sregs *a, const struct umbra_sregs *b)
{
	const struct umbra_segment *left = &a->es, *right = &b->es;
	for (unsigned n = 0; n < 8; n++) /* es to tr follow one another */
		assert_same_segment(&left[n], &right[n]);
	assert_int_equal(a->gdtr.base, b->gdtr.base);
	assert_int_equal(a->gdtr.limit, b->gdtr.limit);
	assert_int_equal(a->idtr.base, b->idtr.base);
	assert_int_equal(a->idtr.limit, b->idtr.limit);
	assert_memory_equal(&a->cr0, &b->cr0, offsetof(struct umbra_sregs, pkru) - offsetof(struct umbra_sregs, cr0));
	assert_int_equal(a->pkru, b->pkru);
}

/* In L2 already: the registers of L2 are nobody's business, the blob's save area is L1's. */
static void a_blob_changes_no_register(void **state)
{
	struct guest guest = create(false);

	run_into_guest(&guest);
	struct moved before = take(guest.vcpu), blob = before;
	put(blob.nested.vmcb, SAVE + 0x178, CODE_GPA + 11, 8); /* L1 is to go on at the HLT */
	put(blob.nested.vmcb, SAVE + 0x1d8, 0xe800, 8);
	give_nested(guest.vcpu, &blob);
	struct moved after = take(guest.vcpu);
	assert_memory_equal(&after.regs, &before.regs, sizeof(before.regs));
	assert_same_sregs(&after.sregs, &before.sregs);
	assert_memory_equal(&after.nested, &blob.nested, sizeof(blob.nested));
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 100)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(get(guest.memory, 0xd000, 8), 0);
	assert_int_equal(guest_register(&guest, UMBRA_RSP), 0xe800);
	guest_destroy(&guest);
}

/* ---- refusals ----------------------------------------------------------------------------------------------------------- */

static void expect_refusal(struct umbra_vcpu *vcpu, struct umbra_vm *vm, const struct umbra_nested *nested, const char *name)
{
	struct umbra_nested before, after;
	struct umbra_error error = {.text = ""};
	uint64_t digest = umbra_vm_digest(vm);

	umbra_vcpu_get_nested(vcpu, &before);
	if (umbra_vcpu_set_nested(vcpu, nested, &error))
		fail_msg("%s: accepted", name);
	assert_int_equal(error.code, UMBRA_ERROR_USAGE);
	assert_true(!strncmp(error.text, "nested state: ", 14));
	umbra_vcpu_get_nested(vcpu, &after);
	if (memcmp(&before, &after, sizeof(before)) || umbra_vm_digest(vm) != digest)
		fail_msg("%s: changed something", name);
}

static const struct {
	const char *name;
	uint16_t at; /* in the VMCB */
	uint8_t size;
	uint64_t value;
} bad_fields[] = {
	{"VMRUN is not intercepted", CONTROL_MISC2, 4, 2}, {"ASID 0", 0x58, 4, 0}, {"TLB_CONTROL", 0x5c, 1, 2},
	{"IOPM", 0x40, 8, 1ull << 60}, {"MSRPM", 0x48, 8, 1ull << 60}, {"an event", CONTROL_EVENT, 8, 0x80000330},
	{"EFER.SVME", SAVE + 0xd0, 8, 0x500}, {"EFER reserved", SAVE + 0xd0, 8, 0x1500 | 1 << 9}, {"EFER.LMA", SAVE + 0xd0, 8, 0x1100},
	{"CR0.PG", SAVE + 0x158, 8, 0x31}, {"CR0.PE", SAVE + 0x158, 8, 0x80000030}, {"CR0.NW", SAVE + 0x158, 8, 0xa0000031},
	{"CR0 upper half", SAVE + 0x158, 8, 1ull << 40 | 0x80000031}, {"CR3", SAVE + 0x150, 8, 1ull << 60}, {"CR4.PAE", SAVE + 0x148, 8, 0},
	{"CR4 reserved", SAVE + 0x148, 8, 1 << 15 | 0x20}, {"RFLAGS.VM", SAVE + 0x170, 8, 1 << 17 | 2}, {"CPL", SAVE + 0xcb, 1, 3},
	{"RFLAGS reserved", SAVE + 0x170, 8, 1 << 3 | 2}, {"DR6", SAVE + 0x168, 8, 1ull << 32}, {"DR7", SAVE + 0x160, 8, 1ull << 32},
	{"CS.L and CS.D", SAVE + 0x12, 2, 0xe9b}, {"PAT", SAVE + 0x268, 8, 2},
};

static void refuse_all(struct guest *guest, const struct moved *moved)
{
	for (size_t n = 0; n < sizeof(bad_fields) / sizeof(bad_fields[0]); n++) {
		struct umbra_nested nested = moved->nested;
		put(nested.vmcb, bad_fields[n].at, bad_fields[n].value, bad_fields[n].size);
		expect_refusal(guest->vcpu, guest->vm, &nested, bad_fields[n].name);
	}
	struct umbra_nested nested = moved->nested;
	nested.flags |= 4;
	expect_refusal(guest->vcpu, guest->vm, &nested, "a flag that does not exist");
	nested = moved->nested;
	nested.zero = 1;
	expect_refusal(guest->vcpu, guest->vm, &nested, "what must be zero");
	nested = moved->nested;
	nested.vmcb12 |= 8;
	expect_refusal(guest->vcpu, guest->vm, &nested, "an address inside of a page");
	nested.vmcb12 = 1ull << 45;
	expect_refusal(guest->vcpu, guest->vm, &nested, "an address that is too wide");
}

static void refusals_change_nothing(void **state)
{
	struct guest guest = create(false);

	run_into_guest(&guest);
	const struct moved moved = take(guest.vcpu);
	refuse_all(&guest, &moved); /* while L2 runs */
	struct guest other = create_empty(&guest);
	give_registers(other.vcpu, &moved);
	refuse_all(&other, &moved); /* before it does */
	give_nested(other.vcpu, &moved);
	expect_end(&other);
	expect_end(&guest);
	guest_destroy(&guest);
	guest_destroy(&other);
}

/* Nested paging needs L1's. */
static void nested_paging_has_rules(void **state)
{
	struct guest guest = create(true);

	run_into_guest(&guest);
	struct moved moved = take(guest.vcpu);
	put(moved.nested.vmcb, 0xb0, 1ull << 60, 8);
	expect_refusal(guest.vcpu, guest.vm, &moved.nested, "nCR3");
	expect_end(&guest);
	guest_destroy(&guest);
}

/* EFER.SVME is off: there is GIF and nothing else. */
static void without_svm_there_is_gif(void **state)
{
	struct guest guest = create(false), plain = guest_create("", 0, 1);
	const struct umbra_nested gif = {.flags = UMBRA_NESTED_GIF}, none = {.flags = 0};

	run_into_guest(&guest);
	const struct moved moved = take(guest.vcpu);
	assert_true(umbra_vcpu_set_nested(plain.vcpu, &gif, NULL));
	expect_refusal(plain.vcpu, plain.vm, &none, "GIF clear");
	expect_refusal(plain.vcpu, plain.vm, &moved.nested, "a guest");
	assert_true(umbra_vcpu_set_msr(plain.vcpu, EFER_MSR, 0x1000));
	assert_true(umbra_vcpu_set_nested(plain.vcpu, &none, NULL));
	struct umbra_nested after;
	umbra_vcpu_get_nested(plain.vcpu, &after);
	assert_int_equal(after.flags, 0);
	guest_destroy(&guest);
	guest_destroy(&plain);
}

/* Registers that are set while L2 runs are L2's: it goes on, and L1 comes back. */
static void setters_stay_in_the_guest(void **state)
{
	struct guest guest = create(true);

	run_into_guest(&guest);
	struct moved moved = take(guest.vcpu);
	moved.regs.rip = L2_CODE + 7; /* the first INC again */
	moved.regs.gpr[UMBRA_RBX] = 0x5000;
	give_registers(guest.vcpu, &moved);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 100)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(get(guest.memory, 0xd000, 8), 0x5006);
	guest_destroy(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blobs_are_what_they_say), cmocka_unit_test(any_order), cmocka_unit_test(any_order_with_nested_paging),
		cmocka_unit_test(a_blob_changes_no_register), cmocka_unit_test(refusals_change_nothing),
		cmocka_unit_test(nested_paging_has_rules), cmocka_unit_test(without_svm_there_is_gif),
		cmocka_unit_test(setters_stay_in_the_guest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
