/* The engine: budgets, code that changes, the boundary between instructions, and accesses that leave the processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/block.h"
#include "fixture.h"

#define RW (PTE_P | PTE_W | PTE_A | PTE_D)

static const enum mmu_mode mmu_modes[] = {MMU_TDP, MMU_SHADOW};

/*
 * mov ecx, 20; mov edi, 20000h; L: rdtsc; stosd; push ecx; mov esi, 20000h; mov ecx, 13; rep movsb; pop ecx; add eax, ecx;
 * test cl, 1; jz M; add ebx, edi; nop; M: add ecx, -1; jnz L; hlt. The same bytes in 32-bit and 64-bit code.
 */
static const uint8_t busy[] = {
	0xb9, 20, 0, 0, 0, 0xbf, 0, 0, 2, 0, 0x0f, 0x31, 0xab, 0x51, 0xbe, 0, 0, 2, 0, 0xb9, 13, 0, 0, 0, 0xf3, 0xa4, 0x59, 0x01, 0xc8,
	0xf6, 0xc1, 1, 0x74, 3, 0x01, 0xfb, 0x90, 0x83, 0xc1, 0xff, 0x75, 0xe0, 0xf4,
};

static uint64_t run_busy(enum fixture_mode mode, enum mmu_mode mmu, int64_t slice)
{
	struct fixture *f = fixture_create(mode, mmu);
	fixture_code(f, busy, sizeof(busy));
	assert_int_equal(fixture_run_to_halt(f, slice), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RCX], 0);
	assert_int_equal(f->v->rip, FIXTURE_CODE + sizeof(busy));
	uint64_t digest = fixture_digest(f);
	fixture_destroy(f);
	return digest;
}

/* However a run is cut, it ends alike; and equal runs are equal. */
static void test_budgets(void **state)
{
	static const int64_t slices[] = {100000, 1, 2, 3, 5, 7, 12, 13, 31, 32, 33, 100};
	for (enum fixture_mode mode = FIXTURE_PROTECTED; mode <= FIXTURE_LONG; mode++) {
		for (unsigned m = 0; m < ARRAY_LEN(mmu_modes); m++) {
			uint64_t whole = run_busy(mode, mmu_modes[m], 100000);
			for (unsigned n = 0; n < ARRAY_LEN(slices); n++)
				assert_int_equal(run_busy(mode, mmu_modes[m], slices[n]), whole);
		}
	}
}

/* A budget of n retires n instructions, also within a block and within a repetition. */
static void test_budget_is_exact(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	for (unsigned n = 1; n < 60; n++) {
		fixture_rewind(f);
		fixture_code(f, busy, sizeof(busy));
		assert_int_equal(fixture_run(f, n), RUN_BUDGET);
		assert_int_equal(f->v->instructions, n);
	}
	fixture_destroy(f);
}

/* nop x 5; rdtsc; mov ebx, eax; nop; rdtsc; hlt */
static void test_clock_inside_block(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x31, 0x89, 0xc3, 0x90, 0x0f, 0x31, 0xf4);
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RBX], 5 * CLOCK_TICKS_PER_INSTRUCTION);
	assert_int_equal(f->v->gpr[REG_RAX], 8 * CLOCK_TICKS_PER_INSTRUCTION);
	fixture_destroy(f);
}

/* ---- code that changes -------------------------------------------------------------------------------------------------- */

/* L: mov [next + 1], cl; next: mov al, 0; movzx eax, al; add edx, eax; dec ecx; jnz L; hlt */
static void test_store_into_own_block(void **state)
{
	for (int64_t slice = 1; slice < 1001; slice += 333) {
		struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
		FIXTURE_CODE_BYTES(f, 0x88, 0x0d, 1, 0, 0, 0, 0xb0, 0, 0x0f, 0xb6, 0xc0, 0x01, 0xc2, 0xff, 0xc9, 0x75, 0xef, 0xf4);
		f->v->gpr[REG_RCX] = 10;
		assert_int_equal(fixture_run_to_halt(f, slice), RUN_HALT);
		assert_int_equal(f->v->gpr[REG_RDX], 55);
		fixture_destroy(f);
	}
}

/* L: mov [B + 1], cl; jmp B; (16 bytes of nothing) B: mov al, 0; movzx eax, al; add edx, eax; dec ecx; jnz L; hlt */
static void test_store_into_linked_block(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0x88, 0x0d, 19, 0, 0, 0, 0xeb, 16, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
			   0x90, 0x90, 0x90, 0x90, 0xb0, 0, 0x0f, 0xb6, 0xc0, 0x01, 0xc2, 0xff, 0xc9, 0x75, 0xdd, 0xf4);
	f->v->gpr[REG_RCX] = 10;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RDX], 55);
	fixture_destroy(f);
}

/* L: mov [11000h], cl; jmp X. At 10ffdh, X: mov eax, imm32 (its third byte is at 11000h); add edx, eax; dec ecx; jnz L; hlt */
static void test_store_into_crossing_instruction(void **state)
{
	static const uint8_t first[] = {0x88, 0x0c, 0x25, 0, 0x10, 1, 0, 0xe9, 0xf1, 0x0f, 0, 0};
	static const uint8_t second[] = {0xb8, 0, 0, 0, 0, 0x01, 0xc2, 0xff, 0xc9, 0x0f, 0x85, 0xf4, 0xef, 0xff, 0xff, 0xf4};
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	fixture_code(f, first, sizeof(first));
	fixture_code_at(f, FIXTURE_CODE + 0xffd, second, sizeof(second));
	f->v->gpr[REG_RCX] = 10;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RDX], 55u << 16);
	fixture_destroy(f);
}

/* Bytes that are no instruction become one by a change of their second byte. */
static void test_invalid_code_becomes_valid(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct fixture_frame frame;
	FIXTURE_CODE_BYTES(f, 0x0f, 0x04, 0xc0, 0xf4);
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_true(fixture_frame(f, &frame));
	assert_int_equal(frame.vector, VEC_UD);
	fixture_rewind(f);
	fixture_code_at(f, FIXTURE_CODE + 1, &(uint8_t){0x1f}, 1);
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 4);
	fixture_destroy(f);
}

/* One page of code at two addresses: lea rax, [rip]; hlt knows where it is. A store through either is seen at both. */
static void test_aliased_code(void **state)
{
	for (unsigned m = 0; m < ARRAY_LEN(mmu_modes); m++) {
		struct fixture *f = fixture_create(FIXTURE_LONG, mmu_modes[m]);
		FIXTURE_CODE_BYTES(f, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xf4);
		fixture_map(f, 0x40000, FIXTURE_CODE | RW);
		for (unsigned n = 0; n < 6; n++) {
			f->v->rip = n & 1 ? 0x40000 : FIXTURE_CODE;
			f->v->halted = false;
			if (n >= 2)
				fixture_code_at(f, FIXTURE_CODE + 3, &(uint8_t){(uint8_t)n}, 1);
			uint64_t expected = f->v->rip + 7 + (n >= 2 ? n : 0);
			assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
			assert_int_equal(f->v->gpr[REG_RAX], expected);
		}
		fixture_destroy(f);
	}
}

/* A page of code is mapped elsewhere while links and jump caches know the old one: invlpg comes between, and the new code runs. */
static void test_remapped_code(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	static const uint8_t one[] = {0xb0, 1, 0xf4}, two[] = {0xb0, 2, 0xf4};
	fixture_code_at(f, 0x50000, one, sizeof(one));
	fixture_code_at(f, 0x51000, two, sizeof(two));
	for (unsigned n = 0; n < 6; n++) {
		fixture_map(f, 0x40000, (n & 1 ? 0x51000 : 0x50000) | RW);
		f->v->rip = 0x40000;
		f->v->halted = false;
		assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
		assert_int_equal(f->v->gpr[REG_RAX], 1 + (n & 1));
	}
	fixture_destroy(f);
}

/* More blocks than the cache has room for: each place in a field of NOPs starts another. The program works before and after. */
static void test_cache_reset(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	uint64_t epoch = block_cache_epoch(f->blocks), digest = 0;
	static uint8_t field[64 * PAGE_SIZE];
	memset(field, 0x90, sizeof(field));
	fixture_code_at(f, 0x100000, field, sizeof(field));
	for (unsigned round = 0; round < 2; round++) {
		fixture_rewind(f);
		memset(f->ram + FIXTURE_DATA, 0, 0x10000);
		fixture_code(f, busy, sizeof(busy));
		assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
		assert_true(!round || digest == fixture_digest(f));
		digest = fixture_digest(f);
		for (unsigned n = 0; n < 40000 && !round; n++) {
			f->v->halted = false;
			f->v->rip = 0x100000 + n;
			assert_int_equal(fixture_run(f, 32), RUN_BUDGET);
			assert_int_equal(f->v->rip, 0x100000 + n + 32);
		}
	}
	assert_true(block_cache_epoch(f->blocks) > epoch);
	fixture_destroy(f);
}

/* A turn that ends between a branch and its target, with an interrupt in between, must not link the branch to the handler. */
static void test_no_link_across_turns(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct fixture_frame frame;
	/* The handler of vector 40h lies in the page of the branch, so that a link is possible. */
	static const uint8_t branch[] = {0xeb, 2, 0xf4, 0xf4, 0xb0, 7, 0xf4};
	fixture_code_at(f, FIXTURE_HANDLERS + 0x800, branch, sizeof(branch));
	f->v->rip = FIXTURE_HANDLERS + 0x800;
	vcpu_set_rflags(f->v, FLAG_IF);
	assert_int_equal(fixture_run(f, 1), RUN_BUDGET);
	f->interrupts = 1;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_true(fixture_frame(f, &frame));
	assert_int_equal(frame.vector, 0x40);
	assert_int_equal(frame.rip, FIXTURE_HANDLERS + 0x804);
	fixture_rewind(f);
	f->v->rip = FIXTURE_HANDLERS + 0x800;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RAX], 7);
	assert_int_equal(f->v->rip, FIXTURE_HANDLERS + 0x807);
	fixture_destroy(f);
}

static void test_crossing_into_absent_page(void **state)
{
	for (unsigned m = 0; m < ARRAY_LEN(mmu_modes); m++) {
		struct fixture *f = fixture_create(FIXTURE_LONG, mmu_modes[m]);
		struct fixture_frame frame;
		fixture_code_at(f, FIXTURE_CODE + 0xffd, (const uint8_t[]){0xb8, 1, 2, 3, 4, 0xf4}, 6);
		fixture_map(f, FIXTURE_CODE + 0x1000, 0);
		f->v->rip = FIXTURE_CODE + 0xffd;
		assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
		assert_true(fixture_frame(f, &frame));
		assert_int_equal(frame.vector, VEC_PF);
		assert_int_equal(frame.rip, FIXTURE_CODE + 0xffd);
		assert_int_equal(f->v->cr2, FIXTURE_CODE + 0x1000);
		assert_int_equal(frame.error & PFERR_P, 0);
		fixture_destroy(f);
	}
}

/* ---- the boundary between instructions ----------------------------------------------------------------------------------- */

static void assert_delivered(struct fixture *f, unsigned vector, uint64_t rip)
{
	struct fixture_frame frame;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_true(fixture_frame(f, &frame));
	assert_int_equal(frame.vector, vector);
	assert_int_equal(frame.rip, rip);
}

/* sti; nop; nop; hlt: an interrupt that waits is taken after the first NOP, also when the turn ends behind STI. */
static void test_sti_shadow(void **state)
{
	for (int64_t slice = 1; slice <= 1000; slice += 999) {
		struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
		FIXTURE_CODE_BYTES(f, 0xfb, 0x90, 0x90, 0xf4);
		f->interrupts = 1;
		assert_int_equal(fixture_run(f, slice), slice == 1 ? RUN_BUDGET : RUN_HALT);
		assert_delivered(f, 0x40, FIXTURE_CODE + 2);
		assert_int_equal(f->acknowledged, 1);
		fixture_destroy(f);
	}
}

/* mov ss, eax; nop; nop; hlt: neither an interrupt nor an NMI comes between the first two. */
static void test_mov_ss_shadow(void **state)
{
	for (unsigned nmi = 0; nmi < 2; nmi++) {
		struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
		FIXTURE_CODE_BYTES(f, 0x8e, 0xd0, 0x90, 0x90, 0xf4);
		f->v->gpr[REG_RAX] = FIXTURE_DATA0;
		vcpu_set_rflags(f->v, FLAG_IF);
		assert_int_equal(fixture_run(f, 1), RUN_BUDGET);
		if (nmi)
			vcpu_raise_nmi(f->v);
		else
			f->interrupts = 1;
		assert_delivered(f, nmi ? VEC_NMI : 0x40, FIXTURE_CODE + 3);
		assert_int_equal(f->v->nmi_blocked, nmi);
		fixture_destroy(f);
	}
}

/* An interrupt raised by a port write is taken right behind it, and wakes a processor that halted. */
static void test_interrupts(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0xe6, 0x10, 0x90, 0xf4);
	f->raise_on_port = true;
	vcpu_set_rflags(f->v, FLAG_IF);
	assert_delivered(f, 0x40, FIXTURE_CODE + 2);
	fixture_rewind(f);
	FIXTURE_CODE_BYTES(f, 0xf4, 0x90, 0xf4);
	vcpu_set_rflags(f->v, FLAG_IF);
	assert_int_equal(fixture_run(f, 100), RUN_HALT);
	assert_int_equal(fixture_run(f, 100), RUN_HALT);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 1);
	f->interrupts = 1;
	assert_true(vcpu_has_work(f->v));
	assert_int_equal(fixture_run(f, 1), RUN_BUDGET); /* the delivery */
	assert_delivered(f, 0x40, FIXTURE_CODE + 1);
	fixture_destroy(f);
}

/* A second NMI waits while the first is handled. */
static void test_nmi(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0x90, 0xf4);
	vcpu_raise_nmi(f->v);
	vcpu_raise_nmi(f->v);
	vcpu_raise_nmi(f->v);
	assert_delivered(f, VEC_NMI, FIXTURE_CODE);
	assert_int_equal(f->v->nmi_pending, 1);
	assert_true(f->v->nmi_blocked);
	fixture_destroy(f);
}

/* rep movsb under TF traps after each iteration, pointing at itself until the last. */
static void test_single_step_repeats(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	for (unsigned count = 1; count <= 3; count++) {
		fixture_rewind(f);
		FIXTURE_CODE_BYTES(f, 0xf3, 0xa4, 0xf4);
		f->v->gpr[REG_RCX] = count;
		f->v->gpr[REG_RSI] = f->v->gpr[REG_RDI] = FIXTURE_DATA;
		vcpu_set_rflags(f->v, FLAG_TF);
		assert_delivered(f, VEC_DB, count == 1 ? FIXTURE_CODE + 2 : FIXTURE_CODE);
		assert_int_equal(f->v->gpr[REG_RCX], count - 1);
		assert_true(f->v->dr6 & DR6_BS);
	}
	fixture_destroy(f);
}

/* An instruction breakpoint on REP is taken once: RF stands until the instruction ends. */
static void test_breakpoint_on_repeat(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0xf3, 0xa4, 0xf4);
	f->v->gpr[REG_RCX] = 5;
	f->v->gpr[REG_RSI] = f->v->gpr[REG_RDI] = FIXTURE_DATA;
	f->v->dr[0] = FIXTURE_CODE;
	f->v->dr7 |= 1;
	vcpu_set_rflags(f->v, FLAG_RF);
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 3);
	assert_int_equal(f->v->gpr[REG_RCX], 0);
	fixture_rewind(f);
	f->v->dr[0] = FIXTURE_CODE;
	f->v->dr7 |= 1;
	assert_delivered(f, VEC_DB, FIXTURE_CODE);
	fixture_destroy(f);
}

static void test_stop(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	fixture_code(f, busy, sizeof(busy));
	vcpu_stop(f->v);
	assert_int_equal(fixture_run(f, 1000), RUN_STOPPED);
	assert_int_equal(f->v->instructions, 0);
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	fixture_destroy(f);
}

/* ---- exits -------------------------------------------------------------------------------------------------------------- */

static void assert_exit(struct fixture *f, enum run_exit exit, bool write, uint64_t address, unsigned size, uint64_t value)
{
	assert_int_equal(fixture_run(f, 1000), exit);
	assert_int_equal(f->v->exit_info.write, write);
	assert_int_equal(f->v->exit_info.address, address);
	assert_int_equal(f->v->exit_info.size, size);
	if (write)
		assert_int_equal(f->v->exit_info.value & size_mask(size), value);
}

/* in al, 10h; mov bl, al; out 11h, al; hlt. Unanswered, the exit comes again. */
static void test_port_exits(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0xe4, 0x10, 0x88, 0xc3, 0xe6, 0x11, 0xf4);
	f->exit_on_port = true;
	assert_exit(f, RUN_IO, false, 0x10, 1, 0);
	assert_int_equal(f->v->rip, FIXTURE_CODE);
	assert_exit(f, RUN_IO, false, 0x10, 1, 0);
	vcpu_complete_io(f->v, 0x5a);
	assert_exit(f, RUN_IO, true, 0x11, 1, 0x5a);
	assert_int_equal(f->v->instructions, 2);
	vcpu_complete_io(f->v, 0);
	assert_int_equal(fixture_run(f, 1000), RUN_HALT);
	assert_int_equal(f->v->gpr[REG_RBX], 0x5a);
	assert_int_equal(f->v->instructions, 4);
	fixture_destroy(f);
}

/* add dword [rbx], 5; hlt: the read and the store are two exits, and an interrupt waits for both. */
static void test_mmio_exits(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0x83, 0x03, 5, 0xf4);
	f->v->gpr[REG_RBX] = FIXTURE_MMIO + 8;
	f->exit_on_mmio = true;
	vcpu_set_rflags(f->v, FLAG_IF);
	assert_exit(f, RUN_MMIO, false, FIXTURE_MMIO + 8, 4, 0);
	f->interrupts = 1;
	vcpu_raise_nmi(f->v);
	vcpu_complete_io(f->v, 10);
	assert_exit(f, RUN_MMIO, true, FIXTURE_MMIO + 8, 4, 15);
	assert_int_equal(f->v->rip, FIXTURE_CODE);
	assert_int_equal(f->acknowledged, 0);
	vcpu_complete_io(f->v, 0);
	assert_delivered(f, VEC_NMI, FIXTURE_CODE + 3);
	assert_int_equal(vcpu_rflags(f->v) & FLAG_IF, 0);
	fixture_destroy(f);
}

/* The same with devices that answer at once: one read, one store, in the middle of a block. */
static void test_mmio_in_block(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0x90, 0x90, 0x83, 0x03, 5, 0x90, 0x48, 0x8b, 0x03, 0x90, 0xf4);
	f->v->gpr[REG_RBX] = FIXTURE_MMIO + 8;
	f->next_read = 10;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_int_equal(f->log_count, 3);
	assert_true(!f->log[0].write && f->log[1].write && f->log[1].value == 15 && !f->log[2].write && f->log[2].size == 8);
	assert_int_equal(f->v->gpr[REG_RAX], 11);
	assert_int_equal(f->v->instructions, 7);
	fixture_destroy(f);
}

/* rep outsb from MMIO and rep insb to MMIO: every byte is read once and written once, with and without exits. */
static void test_string_ports_and_mmio(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	for (unsigned in = 0; in < 2; in++) {
		fixture_rewind(f);
		FIXTURE_CODE_BYTES(f, 0xf3, in ? 0x6c : 0x6e, 0xf4);
		f->v->gpr[REG_RCX] = 3;
		f->v->gpr[REG_RDX] = 0x77;
		f->v->gpr[REG_RSI] = f->v->gpr[REG_RDI] = FIXTURE_MMIO;
		f->next_read = 0x30;
		assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
		assert_int_equal(f->log_count, 6);
		for (unsigned n = 0; n < 6; n++) {
			assert_int_equal(f->log[n].write, n & 1);
			assert_int_equal(f->log[n].mmio, (n & 1) == in);
			assert_int_equal(f->log[n].value, 0x30 + n / 2);
			assert_int_equal(f->log[n].address, f->log[n].mmio ? FIXTURE_MMIO + n / 2 : 0x77);
		}
		fixture_rewind(f);
		f->v->gpr[REG_RCX] = 1;
		f->v->gpr[REG_RDX] = 0x77;
		f->v->gpr[REG_RSI] = f->v->gpr[REG_RDI] = FIXTURE_MMIO;
		f->exit_on_port = f->exit_on_mmio = true;
		assert_exit(f, in ? RUN_IO : RUN_MMIO, false, in ? 0x77 : FIXTURE_MMIO, 1, 0);
		vcpu_complete_io(f->v, 0x99);
		assert_exit(f, in ? RUN_MMIO : RUN_IO, true, in ? FIXTURE_MMIO : 0x77, 1, 0x99);
		vcpu_complete_io(f->v, 0);
		assert_int_equal(fixture_run(f, 1000), RUN_HALT);
		assert_int_equal(f->v->gpr[REG_RCX], 0);
	}
	/* Only the store of INS leaves: the port, which has answered, is not read again. */
	fixture_rewind(f);
	f->v->gpr[REG_RCX] = 1;
	f->v->gpr[REG_RDX] = 0x77;
	f->v->gpr[REG_RDI] = FIXTURE_MMIO;
	f->next_read = 0x40;
	f->exit_on_mmio = true;
	assert_exit(f, RUN_MMIO, true, FIXTURE_MMIO, 1, 0x40);
	vcpu_complete_io(f->v, 0);
	assert_int_equal(fixture_run(f, 1000), RUN_HALT);
	assert_int_equal(f->log_count, 1);
	fixture_destroy(f);
}

/* enter 16, 31 with the whole stack in MMIO: no instruction makes more accesses. */
/* 32-bit code that runs to the end of its 4 GiB goes on at 0, however its block ended. */
static void test_rip_wraps_at_4_gib(void **state)
{
	static uint8_t page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	struct fixture *f = fixture_create(FIXTURE_PROTECTED, MMU_TDP);
	struct err err;
	memset(page, 0x90, sizeof(page));
	fixture_code_at(f, 0, page, 16);
	assert_true(mem_slot_add(&f->space, 0, 7, 0xfffff000, PAGE_SIZE, page, 0, &err));
	for (unsigned n = 1; n <= 3; n++) { /* a part of a block, all of it, and one instruction more */
		f->v->rip = 0xfffffffe;
		assert_int_equal(fixture_run(f, n), RUN_BUDGET);
		assert_int_equal(f->v->rip, (uint32_t)(0xfffffffe + n));
	}
	/* A last instruction that stores to itself: mov byte [ffffffffh], 90h. */
	fixture_code_at(f, 0xfffffff9, (const uint8_t[]){0xc6, 0x05, 0xff, 0xff, 0xff, 0xff, 0x90}, 7);
	f->v->rip = 0xfffffff9;
	assert_int_equal(fixture_run(f, 2), RUN_BUDGET);
	assert_int_equal(f->v->rip, 1);
	fixture_destroy(f);
}

static void test_longest_mmio_instruction(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	FIXTURE_CODE_BYTES(f, 0xc8, 16, 0, 31, 0xf4);
	f->v->gpr[REG_RSP] = FIXTURE_MMIO + 0x1004;
	f->v->gpr[REG_RBP] = FIXTURE_MMIO + 0x3004;
	assert_int_equal(fixture_run_to_halt(f, 1000), RUN_HALT);
	assert_true(f->log_count >= 62);
	assert_int_equal(f->v->gpr[REG_RBP], FIXTURE_MMIO + 0x1004 - 8);
	assert_int_equal(f->v->gpr[REG_RSP], FIXTURE_MMIO + 0x1004 - 8 * 32 - 16);
	fixture_destroy(f);
}

/* ud2 with the IDT in MMIO: garbage gates and a shutdown, but nothing is left over for a later instruction. */
static void test_tables_in_mmio(void **state)
{
	for (unsigned exits = 0; exits < 2; exits++) {
		struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
		FIXTURE_CODE_BYTES(f, 0x0f, 0x0b);
		f->v->idtr.base = FIXTURE_MMIO;
		f->next_read = 0;
		f->exit_on_mmio = exits;
		assert_int_equal(fixture_run(f, 1000), RUN_SHUTDOWN);
		assert_int_equal(f->v->reply_count, 0);
		fixture_destroy(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budgets), cmocka_unit_test(test_budget_is_exact), cmocka_unit_test(test_clock_inside_block),
		cmocka_unit_test(test_store_into_own_block), cmocka_unit_test(test_store_into_linked_block),
		cmocka_unit_test(test_store_into_crossing_instruction), cmocka_unit_test(test_invalid_code_becomes_valid),
		cmocka_unit_test(test_aliased_code), cmocka_unit_test(test_remapped_code), cmocka_unit_test(test_cache_reset),
		cmocka_unit_test(test_no_link_across_turns), cmocka_unit_test(test_crossing_into_absent_page),
		cmocka_unit_test(test_sti_shadow), cmocka_unit_test(test_mov_ss_shadow), cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_nmi), cmocka_unit_test(test_single_step_repeats), cmocka_unit_test(test_breakpoint_on_repeat),
		cmocka_unit_test(test_stop), cmocka_unit_test(test_port_exits), cmocka_unit_test(test_mmio_exits),
		cmocka_unit_test(test_mmio_in_block), cmocka_unit_test(test_string_ports_and_mmio),
		cmocka_unit_test(test_longest_mmio_instruction), cmocka_unit_test(test_rip_wraps_at_4_gib), cmocka_unit_test(test_tables_in_mmio),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
