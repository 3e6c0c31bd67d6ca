/*
 * Time of check, time of use: another processor of L1 changes vmcb12, a VMCB under VMLOAD, or a permission map, while this one works
 * with it. Each guest below runs once in peace; then again for each byte of its VMCB, which is inverted as soon as VMRUN has copied it. Up
 * to and behind the next #VMEXIT the two runs must be the same: registers, memory, what devices saw, exit code, and all that #VMEXIT
 * writes. The byte itself holds what #VMEXIT writes there, or is still inverted. test_smm.c has the same for RSM.
 *
 * Reads of guest memory are counted in mem_read(), which this program wraps. Whether the harness could find anything is tested with
 * mutants: a hook that fills a field of a copy from memory again, after the byte was inverted, is a second read.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "cpu/cpuid.h"
#include "toctou_guests.h"

#define STEPS 200

/* ---- reads, counted ----------------------------------------------------------------------------------------------------- */

bool __real_mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length);
bool __wrap_mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length);

/* What is watched: a range of memory, with the number of reads of each of its bytes. */
static struct watch {
	gpa_t first;
	size_t length;
	uint8_t counts[3 * VMCB_SIZE];
	uint8_t *inverted; /* a byte to invert behind the first read, or NULL */
} watch;

bool __wrap_mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length)
{
	bool good = __real_mem_read(space, as_id, gpa, buffer, length), seen = false;
	for (size_t n = 0; n < length; n++)
		if (gpa + n - watch.first < watch.length) {
			watch.counts[gpa + n - watch.first]++;
			seen = true;
		}
	if (seen && watch.inverted) {
		*watch.inverted ^= 0xff;
		watch.inverted = NULL;
	}
	return good;
}

static void watch_begin(gpa_t first, size_t length, uint8_t *inverted)
{
	watch = (struct watch){.first = first, .length = length, .inverted = inverted};
}

static void watch_end(void)
{
	watch.length = 0;
}

static unsigned most_reads(void)
{
	unsigned most = 0;
	for (size_t n = 0; n < sizeof(watch.counts); n++)
		most = MAX(most, watch.counts[n]);
	return most;
}

/* ---- the harness -------------------------------------------------------------------------------------------------------- */

/* A second read: a field of a copy that is filled from memory again. */
struct mutant {
	const char *name;
	unsigned offset; /* in the VMCB */
	unsigned place;  /* in struct nested */
	unsigned size;
	bool unused;     /* by VMRUN, or by this processor at all: a second read of it goes unnoticed */
};

/* Two machines of the same contents would do; one that is put back is faster. */
struct harness {
	const struct toctou_guest *guest;
	struct fixture *f;
	uint8_t *before, *after; /* RAM */
	bool dirty[TOCTOU_HIGH_END >> PAGE_SHIFT]; /* pages in which the two differ */
	uint64_t digest;         /* of everything else, after the run in peace */
	/* The adversary's. */
	unsigned offset;
	uint8_t mask;
	const struct mutant *mutant;
	bool copied;
};

/* Another processor's store, right after the copy. From here on nobody may read the VMCB. */
static void copied(void *opaque)
{
	struct harness *h = opaque;
	uint8_t *vmcb = h->f->ram + NESTED_VMCB;
	vmcb[h->offset] ^= h->mask;
	if (h->mutant)
		memcpy((uint8_t *)h->f->v->nested + h->mutant->place, vmcb + h->mutant->offset, h->mutant->size);
	assert_int_equal(most_reads(), 1);
	h->copied = true;
	watch_begin(NESTED_VMCB, VMCB_SIZE, NULL);
}

/* All but memory: registers, what the MMU works for, devices, time. */
static uint64_t digest_machine(const struct fixture *f)
{
	struct digest digest;
	const struct vcpu *v = f->v;
	const struct mmu_regs *regs = mmu_get_regs(v->mmu);
	const uint64_t values[] = {
		mmu_cpu_role(v->mmu).word, mmu_root_role(v->mmu).word, regs->cr0, regs->cr3, regs->cr4, regs->efer, regs->guest_mode,
		v->fault_log_count, f->log_count, f->interrupts, f->acknowledged, f->next_read, f->clock.base, v->nested->control_valid,
		v->nested->save_valid, v->nested->exit.pending,
	};
	digest_init(&digest);
	vcpu_digest(v, &digest);
	DIGEST(&digest, values);
	for (unsigned n = 0; n < MIN(f->log_count, (unsigned)FIXTURE_LOG_SIZE); n++)
		digest_number(&digest, f->log[n].address + f->log[n].value);
	return digest_value(&digest);
}

/* VMRUN, L2 up to its exit, and L1's HLT behind VMRUN. */
static void run(struct harness *h, unsigned offset, uint8_t mask, const struct mutant *mutant)
{
	struct fixture *f = h->f;
	nested_rewind(f);
	h->guest->prepare(f);
	mmu_flush_all(f->v->mmu);
	h->offset = offset;
	h->mask = mask;
	h->mutant = mutant;
	h->copied = false;
	f->v->nested->hooks = (struct svm_hooks){.copied = copied, .opaque = h};
	watch_begin(NESTED_VMCB, VMCB_SIZE, NULL);
	nested_vmrun(f);
	for (unsigned n = 0; n < STEPS && !f->v->halted && !f->v->shutdown; n += 8)
		fixture_run(f, 8);
	watch_end();
	assert_true(h->copied);
}

static void put_back(struct harness *h, unsigned page)
{
	fixture_code_at(h->f, page << PAGE_SHIFT, h->before + (page << PAGE_SHIFT), PAGE_SIZE);
}

static void check_calm(const struct harness *h)
{
	const struct vmcb *vmcb = (const struct vmcb *)(const void *)(h->after + NESTED_VMCB);
	if (vmcb->control.exit_code != h->guest->exit_code || !h->f->v->halted || h->f->v->rip != FIXTURE_CODE + 4)
		fail_msg("%s: left with %#llx", h->guest->name, (unsigned long long)vmcb->control.exit_code);
}

static bool is_changed(const struct harness *h, unsigned page)
{
	return memcmp(h->before + (page << PAGE_SHIFT), h->f->ram + (page << PAGE_SHIFT), PAGE_SIZE) != 0;
}

static struct harness *harness_create(const struct toctou_guest *guest, enum mmu_mode mode)
{
	struct cpu_model model;
	struct harness *h = calloc(1, sizeof(*h));
	assert_non_null(h);
	assert_true(cpu_model_parse("amd", &model, NULL));
	h->guest = guest;
	struct fixture *f = h->f = fixture_create_model(FIXTURE_LONG, mode, &model);
	assert_true(svm_attach(f->v));
	assert_true(mem_slot_remove(&f->space, 0, 0));
	assert_true(mem_slot_add(&f->space, 0, 0, 0, TOCTOU_LOW_END, f->ram, 0, NULL));
	assert_true(mem_slot_add(&f->space, 0, 2, TOCTOU_HIGH_BEGIN, TOCTOU_HIGH_END - TOCTOU_HIGH_BEGIN, f->ram + TOCTOU_HIGH_BEGIN, 0, NULL));
	nested_rewind(f);
	guest->prepare(f);
	FIXTURE_CODE_BYTES(f, 0x0f, 0x01, 0xd8, 0xf4);
	h->before = malloc(TOCTOU_HIGH_END);
	h->after = malloc(TOCTOU_HIGH_END);
	assert_true(h->before && h->after);
	memcpy(h->before, f->ram, TOCTOU_HIGH_END);
	run(h, 0, 0, NULL);
	memcpy(h->after, f->ram, TOCTOU_HIGH_END);
	h->digest = digest_machine(f);
	for (unsigned page = 0; page < TOCTOU_HIGH_END >> PAGE_SHIFT; page++) {
		h->dirty[page] = is_changed(h, page);
		if (h->dirty[page])
			put_back(h, page);
	}
	check_calm(h);
	return h;
}

static void harness_destroy(struct harness *h)
{
	nested_destroy(h->f);
	free(h->before);
	free(h->after);
	free(h);
}

struct span {
	uint16_t first, length;
};

static bool in_spans(const struct span *spans, size_t count, unsigned offset)
{
	for (size_t n = 0; n < count; n++)
		if (offset - spans[n].first < spans[n].length)
			return true;
	return false;
}

/* Whether #VMEXIT writes the byte (APM 2, "#VMEXIT"). */
static bool is_written(const struct harness *h, unsigned offset)
{
	static const struct span exit[] = {{0x70, 0x20}, {0xa8, 4}};
	static const struct span state[] = {{0x60, 2}, {0x68, 8}, {0xc8, 24}, {0x400, 64}, {0x464, 12}, {0x484, 12}, {0x4cb, 1}, {0x4d0, 8},
					    {0x548, 56}, {0x5d8, 8}, {0x5f8, 8}, {0x640, 8}};
	static const struct span pat[] = {{0x668, 8}}, records[] = {{0x670, 40}};
	const struct vmcb *vmcb = (const struct vmcb *)(const void *)(h->before + NESTED_VMCB);
	if (in_spans(exit, ARRAY_LEN(exit), offset))
		return true;
	if (h->guest->exit_code == VMEXIT_INVALID)
		return false;
	return in_spans(state, ARRAY_LEN(state), offset) || ((vmcb->control.nested_ctl & NESTED_CTL_NP) && in_spans(pat, 1, offset)) ||
	       ((vmcb->control.virt_ext & VIRT_EXT_LBR) && in_spans(records, 1, offset));
}

/* Puts the byte to what it is without the adversary, if it is what it may be; then all memory must be what it is without. */
static const char *memory_difference(struct harness *h, unsigned offset, uint8_t mask)
{
	uint8_t *byte = h->f->ram + NESTED_VMCB + offset;
	uint8_t wanted = is_written(h, offset) ? h->after[NESTED_VMCB + offset] : h->before[NESTED_VMCB + offset] ^ mask;
	bool good = *byte == wanted;
	*byte = h->after[NESTED_VMCB + offset];
	if (!good)
		return "the byte";
	if (memcmp(h->f->ram + NESTED_VMCB, h->after + NESTED_VMCB, VMCB_SIZE))
		return "the VMCB";
	if (memcmp(h->f->ram, h->after, TOCTOU_LOW_END))
		return "low memory";
	size_t high = TOCTOU_HIGH_END - TOCTOU_HIGH_BEGIN;
	return memcmp(h->f->ram + TOCTOU_HIGH_BEGIN, h->after + TOCTOU_HIGH_BEGIN, high) ? "memory" : NULL;
}

/* A run with the byte inverted. What is different from the run in peace, or NULL. */
static const char *difference(struct harness *h, unsigned offset, uint8_t mask, const struct mutant *mutant)
{
	run(h, offset, mask, mutant);
	const char *what = memory_difference(h, offset, mask);
	if (most_reads())
		what = "reads";
	if (digest_machine(h->f) != h->digest)
		what = "the machine";
	for (unsigned page = 0; page < TOCTOU_HIGH_END >> PAGE_SHIFT; page++)
		if (h->dirty[page] || (what && is_changed(h, page)))
			put_back(h, page);
	return what;
}

/* ---- VMRUN -------------------------------------------------------------------------------------------------------------- */

/* Every other guest runs on shadow pages, whole bytes are inverted; then single bits, on the other kind of MMU. */
static void inverted_bytes(bool single_bits)
{
	for (unsigned n = 0; n < toctou_guest_count; n++) {
		if (single_bits && n % 4)
			continue;
		struct harness *h = harness_create(&toctou_guests[n], (n / (single_bits ? 4 : 1) + single_bits) % 2 ? MMU_SHADOW : MMU_TDP);
		for (unsigned offset = 0; offset < VMCB_SIZE; offset++) {
			const char *what = difference(h, offset, single_bits ? (uint8_t)(1u << hash_mix(offset) % 8) : 0xff, NULL);
			if (what)
				fail_msg("%s, byte %#x: %s is different", toctou_guests[n].name, offset, what);
		}
		harness_destroy(h);
	}
}

static void each_byte(void **state)
{
	inverted_bytes(false);
}

static void each_byte_by_a_bit(void **state)
{
	inverted_bytes(true);
}

static void one_read_of_each_byte(void **state)
{
	struct fixture *f = nested_create("amd");
	toctou_intercept(f, INTERCEPT_HLT);
	watch_begin(NESTED_VMCB, VMCB_SIZE, NULL);
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	for (unsigned n = 0; n < VMCB_SIZE; n++)
		assert_int_equal(watch.counts[n], 1);
	watch_begin(NESTED_VMCB, VMCB_SIZE, NULL);
	fixture_run(f, 1);
	assert_false(f->v->guest_mode);
	assert_int_equal(most_reads(), 0);
	watch_end();
	nested_destroy(f);
}

/* ---- mutants ------------------------------------------------------------------------------------------------------------ */

#define CONTROL(field) {#field, offsetof(struct vmcb, control.field), offsetof(struct nested, control.field), \
			sizeof(((struct nested *)0)->control.field), false}
#define SAVE(field) {#field, offsetof(struct vmcb, save.field), offsetof(struct nested, save.field), \
		     sizeof(((struct nested *)0)->save.field), false}

static const struct mutant mutants[] = {
	CONTROL(event_inj), CONTROL(intercepts[VMCB_EXCEPTION]), CONTROL(intercepts[VMCB_MISC1]), CONTROL(intercepts[VMCB_MISC2]),
	CONTROL(pause_filter_threshold), CONTROL(pause_filter_count), CONTROL(iopm_base_pa), CONTROL(msrpm_base_pa), CONTROL(tsc_offset),
	CONTROL(asid), CONTROL(tlb_control), CONTROL(int_ctl), CONTROL(interrupt_shadow), CONTROL(nested_ctl), CONTROL(nested_cr3),
	CONTROL(virt_ext), CONTROL(next_rip), SAVE(segments[VMCB_ES]), SAVE(segments[VMCB_CS]), SAVE(segments[VMCB_SS]),
	SAVE(segments[VMCB_DS]), SAVE(segments[VMCB_GDTR]), SAVE(segments[VMCB_IDTR]), SAVE(cpl), SAVE(efer), SAVE(cr4), SAVE(cr3),
	SAVE(cr0), SAVE(dr7), SAVE(dr6), SAVE(rflags), SAVE(rip), SAVE(rsp), SAVE(rax), SAVE(cr2), SAVE(g_pat), SAVE(dbgctl), SAVE(br_from),
	SAVE(br_to), SAVE(last_excp_from), SAVE(last_excp_to),
	{"clean", offsetof(struct vmcb, control.clean), offsetof(struct nested, control.clean), 4, true},
	{"FS", offsetof(struct vmcb, save.segments[VMCB_FS]), offsetof(struct nested, save.segments[VMCB_FS]), 32, true}, /* and GS */
	{"TR", offsetof(struct vmcb, save.segments[VMCB_TR]), offsetof(struct nested, save.segments[VMCB_TR]), 16, true},
};

static unsigned differences(struct harness *h, const struct mutant *mutant, unsigned enough)
{
	unsigned found = 0;
	for (unsigned byte = 0; byte < mutant->size && found < enough; byte++)
		found += difference(h, mutant->offset + byte, 0xff, mutant) != NULL;
	return found;
}

static void second_reads_are_found(void **state)
{
	unsigned found[ARRAY_LEN(mutants)] = {0};
	for (unsigned n = 0; n < toctou_guest_count; n++) {
		struct harness *h = harness_create(&toctou_guests[n], n % 2 ? MMU_SHADOW : MMU_TDP);
		for (unsigned m = 0; m < ARRAY_LEN(mutants); m++)
			if (!found[m])
				found[m] = differences(h, &mutants[m], 1);
		harness_destroy(h);
	}
	for (unsigned m = 0; m < ARRAY_LEN(mutants); m++)
		if (!found[m] != mutants[m].unused)
			fail_msg("a second read of %s is%s noticed", mutants[m].name, found[m] ? "" : " not");
}

/* The event of a VMRUN that injects one: all that makes it up, in whichever byte it changes. */
static void second_read_of_the_event(void **state)
{
	for (unsigned n = 0; n < toctou_guest_count; n++) {
		bool event = toctou_guests[n].prepare == toctou_exception;
		if (!event && toctou_guests[n].prepare != toctou_cut_off)
			continue;
		struct harness *h = harness_create(&toctou_guests[n], MMU_TDP);
		assert_string_equal(mutants[0].name, "event_inj");
		for (unsigned byte = 0; byte < 8; byte++) {
			const char *what = difference(h, offsetof(struct vmcb, control.event_inj) + byte, 0xff, &mutants[0]);
			bool counts = byte < 2 || byte == 3 || event; /* without an error code its bits are nobody's */
			assert_true(byte == 2 || counts == (what != NULL));
		}
		harness_destroy(h);
	}
}

/* ---- VMLOAD, VMSAVE ----------------------------------------------------------------------------------------------------- */

static void fill_state_page(struct fixture *f)
{
	struct vmcb *page = (struct vmcb *)(void *)(f->ram + TOCTOU_STATE_PAGE);
	for (unsigned n = 0; n < VMCB_SIZE; n++)
		f->ram[TOCTOU_STATE_PAGE + n] = (uint8_t)hash_mix(n);
	page->save.segments[VMCB_TR].attrib = 0x8b;
}

static void execute_state(struct fixture *f, uint8_t opcode)
{
	nested_rewind(f);
	FIXTURE_CODE_BYTES(f, 0x0f, 0x01, opcode);
	f->v->gpr[REG_RAX] = TOCTOU_STATE_PAGE;
	fixture_run(f, 1);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 3);
	watch_end();
}

static void vmload(void **state)
{
	struct fixture *f = nested_create("amd");
	uint8_t *page = malloc(VMCB_SIZE);
	assert_non_null(page);
	fill_state_page(f);
	memcpy(page, f->ram + TOCTOU_STATE_PAGE, VMCB_SIZE);
	watch_begin(TOCTOU_STATE_PAGE, VMCB_SIZE, NULL);
	execute_state(f, 0xda);
	assert_int_equal(most_reads(), 1);
	uint64_t digest = digest_machine(f);
	static const uint16_t used[] = {0x440, 0x45f, 0x470, 0x490, 0x600, 0x63f};
	for (unsigned n = 0; n < ARRAY_LEN(used); n++)
		assert_int_equal(watch.counts[used[n]], 1);
	for (unsigned n = 0; n < VMCB_SIZE; n++) {
		watch_begin(TOCTOU_STATE_PAGE, VMCB_SIZE, f->ram + TOCTOU_STATE_PAGE + n);
		execute_state(f, 0xda);
		assert_int_equal(digest_machine(f), digest);
		assert_int_equal(f->ram[TOCTOU_STATE_PAGE + n], page[n] ^ 0xff);
		f->ram[TOCTOU_STATE_PAGE + n] = page[n];
		assert_memory_equal(f->ram + TOCTOU_STATE_PAGE, page, VMCB_SIZE);
	}
	/* It would be seen: a byte inverted before. */
	f->ram[TOCTOU_STATE_PAGE + 0x610] ^= 0xff;
	execute_state(f, 0xda);
	assert_int_not_equal(digest_machine(f), digest);
	free(page);
	nested_destroy(f);
}

/* It reads nothing, and what stands beside its fields stays as it is, whatever that is. */
static void vmsave(void **state)
{
	static const struct span fields[] = {{0x440, 32}, {0x470, 16}, {0x490, 16}, {0x600, 64}};
	struct fixture *f = nested_create("amd");
	uint64_t digest = 0;
	uint8_t *first = malloc(VMCB_SIZE);
	assert_non_null(first);
	for (unsigned pass = 0; pass < 2; pass++) {
		memset(f->ram + TOCTOU_STATE_PAGE, pass ? 0xff : 0, VMCB_SIZE);
		watch_begin(TOCTOU_STATE_PAGE, VMCB_SIZE, NULL);
		execute_state(f, 0xdb);
		assert_int_equal(most_reads(), 0);
		if (!pass) {
			digest = digest_machine(f);
			memcpy(first, f->ram + TOCTOU_STATE_PAGE, VMCB_SIZE);
		}
	}
	assert_int_equal(digest_machine(f), digest);
	for (unsigned n = 0; n < VMCB_SIZE; n++) {
		bool field = in_spans(fields, ARRAY_LEN(fields), n);
		assert_int_equal(f->ram[TOCTOU_STATE_PAGE + n], field ? first[n] : 0xff);
		assert_true(field || !first[n]);
	}
	free(first);
	nested_destroy(f);
}

/* ---- permission maps ---------------------------------------------------------------------------------------------------- */

/* One access of the guest, with the byte of the map inverted behind its first read: the first one counts. */
static void map_case(struct fixture *f, void (*prepare)(struct fixture *), gpa_t map, size_t size, gpa_t byte, bool forbidden,
		     uint64_t code)
{
	nested_rewind(f);
	prepare(f);
	f->ram[byte] = forbidden ? 0xff : 0;
	watch_begin(map, size, f->ram + byte);
	nested_vmrun(f);
	for (unsigned n = 0; n < STEPS && !f->v->halted; n++)
		fixture_run(f, 1);
	watch_end();
	assert_int_equal(nested_vmcb(f)->control.exit_code, forbidden ? code : VMEXIT_HLT);
	assert_int_equal(watch.counts[byte - map], 1);
	assert_int_equal(most_reads(), 1);
	assert_int_equal(f->ram[byte], forbidden ? 0 : 0xff);
	f->ram[byte] = 0;
}

/* Four bits of two bytes: in %dx, %eax at port 3fdh. */
static void wide_port(struct fixture *f)
{
	toctou_port(f);
	TOCTOU_CODE(f, 0x66, 0xba, 0xfd, 0x03, 0xed, 0xf4);
}

static void one_register(struct fixture *f)
{
	toctou_register(f);
	TOCTOU_CODE(f, 0xb9, 0x81, 0, 0, 0xc0, 0x0f, 0x32, 0xf4);
}

static void permission_maps(void **state)
{
	struct fixture *f = nested_create("amd");
	for (unsigned forbidden = 0; forbidden < 2; forbidden++) {
		map_case(f, wide_port, TOCTOU_IO_MAP, 0x3000, TOCTOU_IO_MAP + 0x3fd / 8, forbidden, VMEXIT_IOIO);
		map_case(f, wide_port, TOCTOU_IO_MAP, 0x3000, TOCTOU_IO_MAP + 0x400 / 8, forbidden, VMEXIT_IOIO);
		map_case(f, one_register, TOCTOU_MSR_MAP, MSRPM_SIZE, TOCTOU_MSR_MAP + 0x800 + 0x81 / 4, forbidden, VMEXIT_MSR);
	}
	nested_destroy(f);
}

/* ---- windows ------------------------------------------------------------------------------------------------------------ */

static void use_control(struct vcpu *v)
{
	assert_int_equal(nested_control(v)->asid, 1);
}

static void use_save(struct vcpu *v)
{
	assert_int_equal(nested_save(v)->rip, NESTED_CODE);
}

/* Whether the use ends in a bug of ours. */
static bool is_bug(struct vcpu *v, void (*use)(struct vcpu *))
{
#ifdef UMBRA_BUG_ABORTS
	int status = 0;
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		use(v);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
#else
	struct bug_trap trap;
	bug_trap_arm(&trap);
	if (setjmp(trap.env))
		return true;
	use(v);
	bug_trap_disarm(&trap);
	return false;
#endif
}

static struct windows {
	struct fixture *f;
	unsigned calls;
} windows;

static void inside_vmrun(void *opaque)
{
	struct windows *w = opaque;
	w->calls++;
	assert_false(is_bug(w->f->v, use_control) || is_bug(w->f->v, use_save));
}

static void copies_outside_of_their_windows(void **state)
{
	struct fixture *f = windows.f = nested_create("amd");
	toctou_intercept(f, INTERCEPT_HLT);
	assert_true(is_bug(f->v, use_control) && is_bug(f->v, use_save));
	f->v->nested->hooks = (struct svm_hooks){.copied = inside_vmrun, .opaque = &windows};
	nested_vmrun(f);
	assert_int_equal(windows.calls, 1);
	assert_true(f->v->guest_mode);
	assert_false(is_bug(f->v, use_control));
	assert_true(is_bug(f->v, use_save));
	fixture_run(f, 1);
	assert_false(f->v->guest_mode);
	assert_true(is_bug(f->v, use_control) && is_bug(f->v, use_save));
	const uint8_t *control = (const uint8_t *)&f->v->nested->control, *save = (const uint8_t *)&f->v->nested->save;
	for (size_t n = 0; n < sizeof(f->v->nested->control); n++)
		assert_int_equal(control[n], control[0]);
	for (size_t n = 0; n < sizeof(f->v->nested->save); n++)
		assert_int_equal(save[n], control[0]);
	assert_true(control[0] != 0 && control[0] != 0xff);
	nested_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte), cmocka_unit_test(each_byte_by_a_bit), cmocka_unit_test(one_read_of_each_byte),
		cmocka_unit_test(second_reads_are_found), cmocka_unit_test(second_read_of_the_event), cmocka_unit_test(vmload),
		cmocka_unit_test(vmsave), cmocka_unit_test(permission_maps), cmocka_unit_test(copies_outside_of_their_windows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
