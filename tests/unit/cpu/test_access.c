/* Memory as instructions see it: limits, page crossings, what is not plain RAM, alignment, canonical addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/access.h"
#include "fixture.h"

#define RW (PTE_P | PTE_W | PTE_A | PTE_D)

static void assert_linear(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size, uint64_t access, uint64_t expected)
{
	uint64_t linear = ~0ull;
	assert_true(segment_linear(v, seg, offset, size, access, &linear));
	assert_int_equal(linear, expected);
}

static void assert_refused(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size, uint64_t access, unsigned vector)
{
	uint64_t linear;
	v->status = ST_NEXT;
	assert_false(segment_linear(v, seg, offset, size, access, &linear));
	assert_int_equal(v->status, ST_FAULT);
	assert_int_equal(v->fault.vector, vector);
	assert_true(v->fault.has_error);
	assert_int_equal(v->fault.error, 0);
}

static void test_limits(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_PROTECTED, MMU_TDP);
	struct vcpu *v = f->v;
	v->seg[SEG_DS] = (struct segment){.base = 0x20000, .limit = 0xfff, .selector = 0x10, .attr = 0x4093};
	v->seg[SEG_SS] = v->seg[SEG_DS];
	vcpu_update_mode(v);
	assert_linear(v, SEG_DS, 0xffc, 4, PFERR_W, 0x20ffc);
	assert_refused(v, SEG_DS, 0xffd, 4, 0, VEC_GP);
	assert_refused(v, SEG_SS, 0x1000, 1, 0, VEC_SS);
	assert_refused(v, SEG_DS, 0xffffffff, 1, 0, VEC_GP);
	/* Flat: the last byte is good, what runs past it is not. */
	assert_linear(v, SEG_ES, 0xfffffffc, 4, PFERR_W, 0xfffffffc);
	assert_refused(v, SEG_ES, 0xfffffffd, 4, 0, VEC_GP);
	/* A base that takes the address past 4 GiB wraps. */
	v->seg[SEG_DS].base = 0xfffff000;
	v->seg[SEG_DS].limit = 0xffffffff;
	vcpu_update_mode(v);
	assert_linear(v, SEG_DS, 0x1800, 4, 0, 0x800);
	fixture_destroy(f);
}

static void test_expand_down(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_PROTECTED, MMU_TDP);
	struct vcpu *v = f->v;
	v->seg[SEG_DS] = (struct segment){.base = 0x20000, .limit = 0xfff, .selector = 0x10, .attr = 0x0097};
	vcpu_update_mode(v);
	assert_refused(v, SEG_DS, 0xfff, 1, 0, VEC_GP);
	assert_refused(v, SEG_DS, 0xffe, 4, 0, VEC_GP);
	assert_linear(v, SEG_DS, 0x1000, 4, PFERR_W, 0x21000);
	assert_linear(v, SEG_DS, 0xffff, 1, 0, 0x2ffff);
	assert_refused(v, SEG_DS, 0xffff, 2, 0, VEC_GP);
	v->seg[SEG_DS].attr |= SEG_ATTR_D;
	assert_linear(v, SEG_DS, 0x10000, 4, 0, 0x30000);
	assert_linear(v, SEG_DS, 0xfffffffc, 4, 0, 0x1fffc);
	assert_refused(v, SEG_DS, 0xfffffffe, 4, 0, VEC_GP);
	/* Even with a limit of 4 GiB it is not flat: nothing lies above the limit. */
	v->seg[SEG_DS].base = 0;
	v->seg[SEG_DS].limit = 0xffffffff;
	vcpu_update_mode(v);
	assert_refused(v, SEG_DS, 0x1000, 1, 0, VEC_GP);
	fixture_destroy(f);
}

static void test_types(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_PROTECTED, MMU_TDP);
	struct vcpu *v = f->v;
	v->seg[SEG_DS].attr &= (uint16_t)~SEG_TYPE_WRITABLE;
	v->seg[SEG_ES].attr = 0xc099; /* execute only */
	v->seg[SEG_FS].unusable = v->seg[SEG_SS].unusable = true;
	vcpu_update_mode(v);
	assert_linear(v, SEG_DS, 0x1000, 4, 0, 0x1000);
	assert_refused(v, SEG_DS, 0x1000, 4, PFERR_W, VEC_GP);
	assert_refused(v, SEG_ES, 0x1000, 4, 0, VEC_GP);
	assert_linear(v, SEG_CS, 0x1000, 4, 0, 0x1000);
	assert_refused(v, SEG_CS, 0x1000, 4, PFERR_W, VEC_GP);
	assert_refused(v, SEG_FS, 0, 1, 0, VEC_GP);
	assert_refused(v, SEG_SS, 0, 1, 0, VEC_SS);
	fixture_destroy(f);
}

static void test_real_mode(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_REAL, MMU_TDP);
	assert_linear(f->v, SEG_DS, 0xfffe, 2, PFERR_W, FIXTURE_DATA + 0xfffe);
	assert_refused(f->v, SEG_DS, 0xffff, 2, 0, VEC_GP);
	assert_refused(f->v, SEG_SS, 0xffff, 2, 0, VEC_SS);
	fixture_destroy(f);
}

static void test_canonical(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct vcpu *v = f->v;
	assert_linear(v, SEG_DS, 0x7ffffffffff8, 8, 0, 0x7ffffffffff8);
	assert_refused(v, SEG_DS, 0x7ffffffffff9, 8, 0, VEC_GP);
	assert_refused(v, SEG_SS, 0x800000000000, 1, 0, VEC_SS);
	assert_linear(v, SEG_DS, 0xffff800000000000, 8, 0, 0xffff800000000000);
	v->seg[SEG_FS].base = 0x7ffffffff000;
	assert_refused(v, SEG_FS, 0x1000, 1, 0, VEC_GP);
	v->cr4 |= CR4_LA57;
	assert_linear(v, SEG_FS, 0x1000, 1, 0, 0x800000000000);
	fixture_destroy(f);
}

/* Every size at every place around a page boundary whose pages are not neighbours in memory. */
static void check_crossings(enum mmu_mode mmu)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, mmu);
	struct vcpu *v = f->v;
	uint64_t value, pattern = 0x8877665544332211;
	struct rmw rmw;
	fixture_map(f, 0x41000, 0x61000 | RW);
	fixture_map(f, 0x42000, 0x53000 | RW);
	for (unsigned size = 1; size <= 8; size *= 2) {
		for (uint64_t at = 0x42000 - size; at <= 0x42000; at++) {
			memset(f->ram + 0x61ff0, 0xee, 16);
			memset(f->ram + 0x53000, 0xee, 16);
			assert_true(linear_write(v, NULL, at, size, pattern));
			assert_true(linear_read(v, NULL, at, size, &value));
			assert_int_equal(value, pattern & size_mask(size));
			for (unsigned n = 0; n < size; n++)
				assert_int_equal(f->ram[at + n < 0x42000 ? at + n - 0x41000 + 0x61000 : at + n - 0x42000 + 0x53000],
						 pattern >> 8 * n & 0xff);
			assert_true(rmw_begin_linear(v, NULL, at, size, &rmw));
			assert_int_equal(rmw.old[0], pattern & size_mask(size));
			assert_true(rmw_commit(v, NULL, &rmw, ~rmw.old[0], 0, false));
			assert_true(linear_read(v, NULL, at, size, &value));
			assert_int_equal(value, ~pattern & size_mask(size));
			assert_int_equal(f->ram[0x61fff - (at < 0x42000 ? 0x42000 - at : 0)], 0xee);
			assert_int_equal(f->ram[0x53000 + (at + size - 0x42000)], 0xee);
		}
	}
	fixture_destroy(f);
}

static void test_crossings(void **state)
{
	check_crossings(MMU_TDP);
	check_crossings(MMU_SHADOW);
}

static void assert_page_fault(struct vcpu *v, uint64_t cr2, uint32_t error)
{
	assert_int_equal(v->status, ST_FAULT);
	assert_int_equal(v->fault.vector, VEC_PF);
	assert_int_equal(v->fault.cr2, cr2);
	assert_int_equal(v->fault.error, error);
}

static void test_second_page_absent(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct vcpu *v = f->v;
	struct rmw rmw;
	uint64_t value;
	fixture_map(f, 0x42000, 0);
	memset(f->ram + 0x41ff0, 0xee, 16);
	assert_false(linear_write(v, NULL, 0x41ffd, 8, 0));
	assert_page_fault(v, 0x42000, PFERR_W);
	assert_false(linear_read(v, NULL, 0x41ffd, 4, &value));
	assert_page_fault(v, 0x42000, 0);
	assert_false(rmw_begin_linear(v, NULL, 0x41fff, 2, &rmw));
	assert_page_fault(v, 0x42000, PFERR_W);
	for (unsigned n = 0; n < 16; n++)
		assert_int_equal(f->ram[0x41ff0 + n], 0xee);
	fixture_destroy(f);
}

/* mov [400000h], ebx; add [400000h], ebx; mov ecx, [400000h]; hlt */
static void test_rom(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	uint32_t content = 0x01020304;
	assert_true(mem_write_rom(&f->space, 0, FIXTURE_ROM, &content, 4));
	FIXTURE_CODE_BYTES(f, 0x89, 0x1c, 0x25, 0, 0, 0x40, 0, 0x01, 0x1c, 0x25, 0, 0, 0x40, 0, 0x8b, 0x0c, 0x25, 0, 0, 0x40, 0, 0xf4);
	f->v->gpr[REG_RBX] = 0x10;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RCX], content);
	assert_int_equal(f->log_count, 2);
	assert_true(f->log[0].mmio && f->log[0].write && f->log[0].address == FIXTURE_ROM && f->log[0].value == 0x10);
	assert_int_equal(f->log[1].value, content + 0x10);
	fixture_destroy(f);
}

struct ear {
	struct mem_listener listener;
	unsigned count, length;
	gpa_t gpa;
};

static void hear(void *opaque, gpa_t gpa, unsigned length, unsigned flags)
{
	struct ear *ear = opaque;
	ear->count++;
	ear->gpa = gpa;
	ear->length = length;
}

static void test_watched(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct ear ear = {.listener = {.written = hear}};
	ear.listener.opaque = &ear;
	mem_listener_add(&f->space, &ear.listener);
	assert_true(linear_write(f->v, NULL, 0x50000, 8, 1)); /* now a TLB entry for writing exists */
	mem_watch(&f->space, mem_slot_find(&f->space, 0, 0x50), 0x50, PAGE_FLAG_CODE);
	assert_int_equal(ear.count, 0);
	assert_true(linear_write(f->v, NULL, 0x50010, 4, 1));
	assert_int_equal(ear.count, 1);
	assert_int_equal(ear.gpa, 0x50010);
	assert_int_equal(ear.length, 4);
	mem_listener_remove(&ear.listener);
	fixture_destroy(f);
}

/* mov eax, [rbx]; hlt at each privilege, with and without AC and AM. */
static void test_alignment(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct fixture_frame frame;
	for (unsigned n = 0; n < 16; n++) {
		bool user = n & 1, am = n & 2, ac = n & 4, misaligned = n & 8;
		fixture_rewind(f);
		fixture_map(f, FIXTURE_CODE, FIXTURE_CODE | RW | PTE_U);
		fixture_map(f, FIXTURE_DATA, FIXTURE_DATA | RW | PTE_U);
		FIXTURE_CODE_BYTES(f, 0x8b, 0x03, 0xcc);
		f->v->gpr[REG_RBX] = FIXTURE_DATA + (misaligned ? 2 : 4);
		f->v->cr0 |= am ? CR0_AM : 0;
		vcpu_registers_changed(f->v);
		vcpu_set_rflags(f->v, ac ? FLAG_AC : 0);
		fixture_set_user(f, user);
		assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
		assert_true(fixture_frame(f, &frame));
		bool checked = user && am && ac && misaligned;
		assert_int_equal(frame.vector, checked ? VEC_AC : VEC_BP);
		assert_int_equal(frame.rip, FIXTURE_CODE + (checked ? 0 : 3));
		assert_int_equal(frame.error, 0);
	}
	fixture_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits), cmocka_unit_test(test_expand_down), cmocka_unit_test(test_types),
		cmocka_unit_test(test_real_mode), cmocka_unit_test(test_canonical), cmocka_unit_test(test_crossings),
		cmocka_unit_test(test_second_page_absent), cmocka_unit_test(test_rom), cmocka_unit_test(test_watched),
		cmocka_unit_test(test_alignment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
