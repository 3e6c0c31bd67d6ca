/* The reader and writer of VMCBs: one read, copies that are poison outside of their windows, and writes of the manual's fields alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nested.h"

struct reads {
	unsigned count;
	gpa_t gpa;
	size_t length;
};

static void count_read(void *opaque, gpa_t gpa, size_t length)
{
	struct reads *reads = opaque;
	reads->count++;
	reads->gpa = gpa;
	reads->length = length;
}

static bool is_poison(const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;
	for (size_t n = 0; n < length; n++)
		if (byte[n] != 0xa5)
			return false;
	return true;
}

static void assert_poison(const struct vcpu *v, bool control, bool save)
{
	assert_int_equal(is_poison(&v->nested->control, sizeof(v->nested->control)), control);
	assert_int_equal(is_poison(&v->nested->save, sizeof(v->nested->save)), save);
	assert_int_equal(v->nested->control_valid, !control);
	assert_int_equal(v->nested->save_valid, !save);
}

static void windows(void **state)
{
	struct fixture *f = nested_create("amd");
	assert_poison(f->v, true, true);
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	assert_poison(f->v, false, true);
	nested_exit(f, VMEXIT_HLT);
	assert_poison(f->v, true, true);
	nested_vmcb(f)->control.asid = 0;
	nested_vmrun(f);
	assert_false(f->v->guest_mode);
	assert_poison(f->v, true, true);
	nested_rewind(f);
	nested_vmrun(f);
	vcpu_reset(f->v, true);
	assert_poison(f->v, true, true);
	assert_false(f->v->guest_mode);
	nested_destroy(f);
}

static void one_read(void **state)
{
	struct fixture *f = nested_create("amd");
	struct reads reads = {0};
	f->v->nested->hooks = (struct svm_hooks){.guest_read = count_read, .opaque = &reads};
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	assert_int_equal(reads.count, 1);
	assert_int_equal(reads.gpa, NESTED_VMCB);
	assert_int_equal(reads.length, VMCB_SIZE);
	nested_exit(f, VMEXIT_HLT);
	assert_int_equal(reads.count, 1);
	nested_destroy(f);
}

static void no_memory(void **state)
{
	struct fixture *f = nested_create("amd");
	assert_false(svm_copy(f->v, FIXTURE_MMIO));
	assert_poison(f->v, true, true);
	assert_false(svm_vmload(f->v, FIXTURE_MMIO));
	assert_false(svm_vmsave(f->v, FIXTURE_MMIO));
	assert_false(svm_vmsave(f->v, FIXTURE_ROM));
	uint8_t bytes[16] = {1};
	assert_false(svm_write(f->v, FIXTURE_ROM, bytes, sizeof(bytes)));
	assert_true(svm_write(f->v, NESTED_MEMORY, bytes, sizeof(bytes)));
	assert_int_equal(fixture_load(f, NESTED_MEMORY, 2), 1);
	nested_destroy(f);
}

static void fill(struct vcpu *v, const struct vmcb *image)
{
	svm_fill_control(v, &image->control);
	svm_fill_save(v, &image->save);
}

static void unsupported_bits(void **state)
{
	struct fixture *f = nested_create("amd"), *less = nested_create("amd,-npt,-vgif,-vnmi,-lbrv,-pause-filter,-nrip-save,-vmcb-clean");
	struct vmcb ones;
	memset(&ones, 0xff, sizeof(ones));
	fill(f->v, &ones);
	const struct vmcb_control_cached *control = nested_control(f->v);
	assert_int_equal(control->int_ctl & (VINTR_AVIC_ENABLE | BIT(30)), 0);
	assert_int_equal(control->int_ctl | VINTR_AVIC_ENABLE | BIT(30), ~0ull);
	assert_int_equal(control->nested_ctl, NESTED_CTL_NP | NESTED_CTL_GMET);
	assert_int_equal(control->virt_ext, VIRT_EXT_LBR | VIRT_EXT_VMLOAD_VMSAVE);
	assert_int_equal(control->intercepts[VMCB_MISC1], 0xffffffff);
	assert_int_equal(control->intercepts[VMCB_MISC2], 0x3fff);
	assert_int_equal(control->intercepts[VMCB_MISC3], 4);
	assert_int_equal(control->iopm_base_pa & 0xfff, 0);
	assert_int_equal(control->msrpm_base_pa & 0xfff, 0);
	assert_int_equal(control->pause_filter_count, 0xffff);
	assert_int_equal(control->pause_filter_threshold, 0xffff);
	assert_int_equal(control->next_rip, ~0ull);
	fill(less->v, &ones);
	control = nested_control(less->v);
	assert_int_equal(control->int_ctl & (VINTR_GIF_ENABLE | VINTR_NMI_ENABLE), 0);
	assert_int_equal(control->nested_ctl, 0);
	assert_int_equal(control->virt_ext, 0); /* virtual VMLOAD and VMSAVE need nested paging */
	assert_int_equal(control->pause_filter_count, 0);
	assert_int_equal(control->pause_filter_threshold, 0);
	assert_int_equal(control->next_rip, 0);
	assert_int_equal(control->clean, 0);
	nested_destroy(f);
	nested_destroy(less);
	f = nested_create("amd,-gmet");
	fill(f->v, &ones);
	assert_int_equal(nested_control(f->v)->nested_ctl, NESTED_CTL_NP);
	nested_destroy(f);
}

/* Where a field lies in a copy and in the VMCB, whose part is as wide. */
struct field {
	const char *name;
	size_t in_copy, in_vmcb, length;
};

#define FIELD(copy, part, first, last)                                                                                                \
	{#first, offsetof(struct copy, first), offsetof(struct vmcb, part.first),                                                      \
	 offsetof(struct copy, last) + sizeof(((struct copy *)0)->last) - offsetof(struct copy, first)}
#define CONTROL(name) FIELD(vmcb_control_cached, control, name, name)
#define SAVE(name) FIELD(vmcb_save_cached, save, name, name)

static void assert_fields(const void *copy, const struct vmcb *image, const struct field *rows, size_t count)
{
	for (size_t n = 0; n < count; n++)
		if (memcmp((const char *)copy + rows[n].in_copy, (const char *)image + rows[n].in_vmcb, rows[n].length))
			fail_msg("%s differs", rows[n].name);
}

/* The copies hold what the VMCB holds, field by field: each byte of the VMCB that a copy shows is shown at its place. */
static void fields(void **state)
{
	static const struct field control[] = {CONTROL(intercepts[VMCB_EXCEPTION]), CONTROL(tsc_offset), CONTROL(asid), CONTROL(tlb_control),
					       CONTROL(interrupt_shadow), CONTROL(nested_cr3), CONTROL(event_inj)};
	static const struct field save[] = {SAVE(segments), SAVE(cpl), SAVE(efer), SAVE(cr4), SAVE(cr3), SAVE(cr0), SAVE(dr7), SAVE(dr6),
					    SAVE(rflags), SAVE(rip), SAVE(rsp), SAVE(rax), SAVE(cr2), SAVE(g_pat),
					    FIELD(vmcb_save_cached, save, dbgctl, last_excp_to)};
	struct fixture *f = nested_create("amd");
	struct vmcb image;
	uint8_t *bytes = (uint8_t *)&image;
	for (unsigned n = 0; n < sizeof(image); n++)
		bytes[n] = (uint8_t)(n * 7 + (n >> 8) * 13);
	fill(f->v, &image);
	assert_fields(nested_control(f->v), &image, control, ARRAY_LEN(control));
	assert_fields(nested_save(f->v), &image, save, ARRAY_LEN(save));
	nested_destroy(f);
}

static void segments(void **state)
{
	for (unsigned attrib = 0; attrib < 0x1000; attrib++) {
		struct vmcb_segment from = {.selector = 0x1234, .attrib = (uint16_t)attrib, .limit = 0x89abcdef, .base = 0x1122334455667788}, to;
		struct segment segment;
		svm_segment_load(&segment, &from);
		assert_int_equal(segment.attr, (attrib & 0xff) | (attrib & 0xf00) << 4);
		assert_int_equal(segment.unusable, !(attrib & 0x80));
		svm_segment_store(&to, &segment);
		assert_memory_equal(&from, &to, sizeof(to));
		segment.unusable = true;
		svm_segment_store(&to, &segment);
		assert_int_equal(to.attrib, attrib & ~0x80u);
	}
}

/* ---- what is written ---------------------------------------------------------------------------------------------------- */

struct span {
	uint16_t first, length;
};

static bool in_spans(const struct span *spans, unsigned offset)
{
	for (; spans->length; spans++)
		if (offset >= spans->first && offset < spans->first + spans->length)
			return true;
	return false;
}

/* Stores over two different backgrounds: bytes that keep both of them were not written. */
static void assert_writes(const char *model, bool (*store)(struct vcpu *v), const struct span *spans, uint64_t nested_ctl, uint64_t virt_ext)
{
	struct fixture *f = nested_create(model);
	uint8_t *page = f->ram + NESTED_VMCB, *first = malloc(VMCB_SIZE);
	assert_non_null(first);
	for (unsigned background = 0; background < 2; background++) {
		nested_rewind(f);
		nested_vmrun(f);
		f->v->nested->control.nested_ctl = nested_ctl;
		f->v->nested->control.virt_ext = virt_ext;
		memset(page, background ? 0x5a : 0xc3, VMCB_SIZE);
		assert_true(store(f->v));
		if (!background)
			memcpy(first, page, VMCB_SIZE);
	}
	for (unsigned offset = 0; offset < VMCB_SIZE; offset++) {
		bool written = !(first[offset] == 0xc3 && page[offset] == 0x5a);
		if (written != in_spans(spans, offset))
			fail_msg("%s: byte %#x is%s written", model, offset, written ? "" : " not");
	}
	free(first);
	nested_destroy(f);
}

static bool store_exit(struct vcpu *v)
{
	return svm_store_exit(v, NESTED_VMCB, 0);
}

static bool store_refusal(struct vcpu *v)
{
	return svm_store_refusal(v, NESTED_VMCB);
}

static bool store_vmsave(struct vcpu *v)
{
	return svm_vmsave(v, NESTED_VMCB);
}

#define EXIT_SPANS                                                                                                            \
	{0x60, 2}, {0x68, 40}, {0xa8, 4}, {0x400, 64}, {0x464, 12}, {0x484, 12}, {0x4cb, 1}, {0x4d0, 8}, {0x548, 56}, {0x5d8, 8}, \
		{0x5f8, 8}, {0x640, 8}

static void exit_writes(void **state)
{
	static const struct span plain[] = {EXIT_SPANS, {0xc8, 24}, {0, 0}};
	static const struct span more[] = {EXIT_SPANS, {0xc8, 24}, {0x668, 8}, {0x670, 40}, {0, 0}};
	static const struct span less[] = {EXIT_SPANS, {0, 0}};
	assert_writes("amd", store_exit, plain, 0, 0);
	assert_writes("amd", store_exit, more, NESTED_CTL_NP, VIRT_EXT_LBR);
	assert_writes("amd,-nrip-save,-decodeassists", store_exit, less, 0, 0);
}

static void refusal_writes(void **state)
{
	static const struct span spans[] = {{0x70, 32}, {0xa8, 4}, {0, 0}};
	assert_writes("amd", store_refusal, spans, 0, 0);
}

static void vmsave_writes(void **state)
{
	static const struct span spans[] = {{0x440, 32}, {0x470, 16}, {0x490, 16}, {0x600, 64}, {0, 0}};
	assert_writes("amd", store_vmsave, spans, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows),
		cmocka_unit_test(one_read),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(unsupported_bits),
		cmocka_unit_test(fields),
		cmocka_unit_test(segments),
		cmocka_unit_test(exit_writes),
		cmocka_unit_test(refusal_writes),
		cmocka_unit_test(vmsave_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
