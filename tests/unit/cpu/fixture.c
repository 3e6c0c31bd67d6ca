/* The machine of fixture.h. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/pte.h"
#include "base/alloc.h"
#include "cpu/block.h"
#include "cpu/cpuid.h"

#define GDT 0x1000u
#define IDT 0x2000u
#define TSS 0xf000u
#define PT0 (FIXTURE_TABLES + 0x5000u)

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fixture: %s failed\n", what);
	abort();
}

/* ---- devices ------------------------------------------------------------------------------------------------------------ */

static void record(struct fixture *f, bool mmio, bool write, uint64_t address, unsigned size, uint64_t value)
{
	if (f->log_count < FIXTURE_LOG_SIZE)
		f->log[f->log_count] = (struct fixture_access){mmio, write, address, value, size};
	f->log_count++;
}

static bool device_read(struct fixture *f, bool mmio, uint64_t address, unsigned size, uint64_t *ret)
{
	*ret = f->next_read++ & size_mask(size);
	record(f, mmio, false, address, size, *ret);
	return true;
}

static bool port_read_op(void *machine, uint16_t port, unsigned size, uint64_t *ret)
{
	struct fixture *f = machine;
	return !f->exit_on_port && device_read(f, false, port, size, ret);
}

static bool port_write_op(void *machine, uint16_t port, unsigned size, uint64_t value)
{
	struct fixture *f = machine;
	if (f->exit_on_port)
		return false;
	record(f, false, true, port, size, value & size_mask(size));
	if (f->raise_on_port) {
		f->interrupts++;
		vcpu_kick(f->v);
	}
	return true;
}

static bool mmio_read_op(void *machine, gpa_t gpa, unsigned size, uint64_t *ret)
{
	struct fixture *f = machine;
	return !f->exit_on_mmio && device_read(f, true, gpa, size, ret);
}

static bool mmio_write_op(void *machine, gpa_t gpa, unsigned size, uint64_t value)
{
	struct fixture *f = machine;
	if (f->exit_on_mmio)
		return false;
	record(f, true, true, gpa, size, value & size_mask(size));
	return true;
}

static bool intr_pending_op(void *machine, unsigned vcpu)
{
	return ((struct fixture *)machine)->interrupts > 0;
}

static int intr_acknowledge_op(void *machine, unsigned vcpu)
{
	struct fixture *f = machine;
	f->interrupts--;
	f->acknowledged++;
	return f->vector;
}

static uint64_t cr8_read_op(void *machine, unsigned vcpu)
{
	return 0;
}

static void cr8_write_op(void *machine, unsigned vcpu, uint64_t value)
{
}

static bool apic_msr_read_op(void *machine, unsigned vcpu, uint32_t msr, uint64_t *ret)
{
	return false;
}

static bool apic_msr_write_op(void *machine, unsigned vcpu, uint32_t msr, uint64_t value)
{
	return false;
}

static uint64_t send_ipi_op(void *machine, unsigned vcpu, uint64_t low, uint64_t high, uint64_t min, uint64_t icr)
{
	return 0;
}

static uint32_t apic_id_op(void *machine, unsigned vcpu)
{
	return vcpu;
}

static const struct cpu_ops operations = {
	.port_read = port_read_op, .port_write = port_write_op, .mmio_read = mmio_read_op, .mmio_write = mmio_write_op,
	.intr_pending = intr_pending_op, .intr_acknowledge = intr_acknowledge_op, .cr8_read = cr8_read_op,
	.cr8_write = cr8_write_op, .apic_msr_read = apic_msr_read_op, .apic_msr_write = apic_msr_write_op,
	.send_ipi = send_ipi_op, .apic_id = apic_id_op,
};

static uint64_t elapsed(void *opaque)
{
	return CLOCK_TICKS_PER_INSTRUCTION * vcpu_turn_retired(((struct fixture *)opaque)->v);
}

/* ---- tables ------------------------------------------------------------------------------------------------------------- */

static uint64_t descriptor(uint32_t base, uint32_t limit, uint16_t attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 |
	       (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(attr >> 12) << 52 | (uint64_t)(base >> 24) << 56;
}

static void make_gdt(struct fixture *f)
{
	const uint64_t entries[] = {
		0,
		descriptor(0, 0xfffff, 0xa09b), /* 08: 64-bit code */
		descriptor(0, 0xfffff, 0xc093), /* 10: data */
		descriptor(0, 0xfffff, 0xc09b), /* 18: 32-bit code */
		descriptor(0, 0xfffff, 0xa0fb), /* 20: 64-bit code, DPL 3 */
		descriptor(0, 0xfffff, 0xc0f3), /* 28: data, DPL 3 */
		descriptor(0, 0xfffff, 0xc0fb), /* 30: 32-bit code, DPL 3 */
		0,
		descriptor(TSS, 0x67, 0x008b), /* 40: TSS, busy */
		0,
	};
	memcpy(f->ram + GDT, entries, sizeof(entries));
}

static uint16_t code_selector(const struct fixture *f)
{
	return f->mode == FIXTURE_LONG ? FIXTURE_CODE64 : FIXTURE_CODE32;
}

/* Each vector's handler is a HLT; in real mode the table is at 0, else at IDT. */
static void make_handlers(struct fixture *f)
{
	memset(f->ram + FIXTURE_HANDLERS, 0xf4, 256 * 16);
	for (unsigned vector = 0; vector < 256; vector++) {
		uint32_t handler = FIXTURE_HANDLERS + 16 * vector;
		uint64_t gate = (handler & 0xffff) | (uint64_t)code_selector(f) << 16 | 0xeeull << 40;
		if (f->mode == FIXTURE_REAL)
			memcpy(f->ram + 4 * vector, &handler, 4);
		else if (f->mode == FIXTURE_PROTECTED)
			memcpy(f->ram + IDT + 8 * vector, &gate, 8);
		else
			memcpy(f->ram + IDT + 16 * vector, &(uint64_t[2]){gate | 1ull << 32, 0}, 16);
	}
}

static void make_tss(struct fixture *f)
{
	memset(f->ram + TSS, 0, 0x68);
	if (f->mode == FIXTURE_PROTECTED) {
		fixture_store(f, TSS + 4, 4, FIXTURE_EVENT_STACK);
		fixture_store(f, TSS + 8, 4, FIXTURE_DATA0);
	} else {
		fixture_store(f, TSS + 4, 8, FIXTURE_EVENT_STACK);
		fixture_store(f, TSS + 0x24, 8, FIXTURE_EVENT_STACK); /* IST 1 */
	}
	fixture_store(f, TSS + 0x66, 2, 0x68); /* no I/O bitmap */
}

static void make_page_tables(struct fixture *f)
{
	const uint64_t table = PTE_P | PTE_W | PTE_U;
	memset(f->ram + FIXTURE_TABLES, 0, 0x6000);
	fixture_store(f, FIXTURE_TABLES, 8, (FIXTURE_TABLES + 0x6000u) | table); /* PML4 */
	for (unsigned n = 0; n < 4; n++)
		fixture_store(f, FIXTURE_TABLES + 0x6000u + 8 * n, 8, (FIXTURE_TABLES + 0x1000u * (n + 1)) | table);
	for (unsigned n = 0; n < 2048; n++)
		fixture_store(f, FIXTURE_TABLES + 0x1000u + 8 * n, 8, (uint64_t)n << 21 | PTE_PS | PTE_P | PTE_W | PTE_A | PTE_D);
	fixture_store(f, FIXTURE_TABLES + 0x1000u, 8, PT0 | table);
	for (unsigned n = 0; n < 512; n++)
		fixture_store(f, PT0 + 8 * n, 8, (uint64_t)n << 12 | PTE_P | PTE_W | PTE_A | PTE_D);
}

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

static void set_flat(struct vcpu *v, enum seg seg, uint16_t selector, uint16_t attr)
{
	v->seg[seg] = (struct segment){.limit = 0xffffffff, .selector = selector, .attr = attr};
}

void fixture_set_user(struct fixture *f, bool user)
{
	struct vcpu *v = f->v;
	uint16_t dpl = user ? SEG_ATTR_DPL : 0, rpl = user ? 3 : 0, code = f->mode == FIXTURE_LONG ? 0xa09b : 0xc09b;
	uint16_t cs = user ? (f->mode == FIXTURE_LONG ? 0x20 : 0x30) : code_selector(f);
	set_flat(v, SEG_CS, cs | rpl, code | dpl);
	for (unsigned n = 0; n < SEG_COUNT; n++)
		if (n != SEG_CS)
			set_flat(v, n, (user ? 0x28 : FIXTURE_DATA0) | rpl, 0xc093 | dpl);
	vcpu_update_mode(v);
}

static void set_control(struct fixture *f)
{
	struct vcpu *v = f->v;
	v->cr0 = CR0_ET | CR0_NE;
	v->gdtr = (struct table_register){.base = GDT, .limit = 0x4f};
	v->idtr = (struct table_register){.base = IDT, .limit = f->mode == FIXTURE_LONG ? 0xfff : 0x7ff};
	if (f->mode == FIXTURE_REAL) {
		v->idtr = (struct table_register){.base = 0, .limit = 0x3ff};
		v->seg[SEG_CS].selector = 0x1000; /* FIXTURE_CODE is its offset 0 */
		v->seg[SEG_CS].base = FIXTURE_CODE;
		v->seg[SEG_DS].selector = v->seg[SEG_ES].selector = FIXTURE_DATA >> 4;
		v->seg[SEG_DS].base = v->seg[SEG_ES].base = FIXTURE_DATA;
		v->seg[SEG_SS].selector = 0x2000;
		v->seg[SEG_SS].base = 0x20000;
		return;
	}
	v->cr0 |= CR0_PE;
	v->seg[SEG_TR] = (struct segment){.base = TSS, .limit = 0x67, .selector = FIXTURE_TSS, .attr = 0x8b};
	if (f->mode == FIXTURE_LONG) {
		v->cr0 |= CR0_PG | CR0_WP;
		v->cr4 = CR4_PAE;
		v->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX;
		v->cr3 = FIXTURE_TABLES;
	}
	fixture_set_user(f, false);
}

void fixture_rewind(struct fixture *f)
{
	struct vcpu *v = f->v;
	vcpu_reset(v, false);
	set_control(f);
	memset(v->gpr, 0, sizeof(v->gpr));
	v->rip = f->mode == FIXTURE_REAL ? 0 : FIXTURE_CODE;
	v->gpr[REG_RSP] = f->mode == FIXTURE_REAL ? 0xfff0 : FIXTURE_STACK;
	v->instructions = 0;
	v->fault_log_count = 0;
	v->tsc_offset = 0;
	f->clock.base = 0;
	f->next_read = 0x1122334455667700ull;
	f->log_count = f->interrupts = f->acknowledged = 0;
	f->exit_on_port = f->exit_on_mmio = f->raise_on_port = false;
	f->vector = 0x40;
	vcpu_registers_changed(v);
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

struct fixture *fixture_create_model(enum fixture_mode mode, enum mmu_mode mmu, const struct cpu_model *model)
{
	struct fixture *f = mem_zalloc(1, sizeof(*f));
	must(f, "memory");
	f->mode = mode;
	f->ram = pages_alloc(FIXTURE_RAM_SIZE);
	must(f->ram, "RAM");
	mem_space_init(&f->space);
	must(mem_slot_add(&f->space, 0, 0, 0, FIXTURE_RAM_SIZE, f->ram, 0, NULL), "RAM slot");
	must(mem_slot_add(&f->space, 0, 1, FIXTURE_ROM, PAGE_SIZE, NULL, SLOT_READONLY, NULL), "ROM slot");
	clock_init(&f->clock);
	f->mmu = mmu_vm_create(&f->space, &(struct mmu_options){.mode = mmu, .tlb_entries_log2 = TLB_ENTRIES_LOG2}, &f->trace);
	f->blocks = block_cache_create(&f->space, &f->trace);
	must(f->mmu && f->blocks, "MMU");
	make_gdt(f);
	make_handlers(f);
	make_tss(f);
	make_page_tables(f);
	f->v = vcpu_create(0, model, &f->space, f->mmu, f->blocks, &f->clock, &f->trace, &operations, f);
	must(f->v, "processor");
	f->clock.elapsed = elapsed;
	f->clock.opaque = f;
	fixture_rewind(f);
	return f;
}

struct fixture *fixture_create(enum fixture_mode mode, enum mmu_mode mmu)
{
	struct cpu_model model;
	cpu_model_default(&model);
	return fixture_create_model(mode, mmu, &model);
}

void fixture_destroy(struct fixture *f)
{
	vcpu_destroy(f->v);
	block_cache_destroy(f->blocks);
	mmu_vm_destroy(f->mmu);
	mem_space_finish(&f->space);
	pages_free(f->ram, FIXTURE_RAM_SIZE);
	mem_free(f);
}

void fixture_code_at(struct fixture *f, uint64_t address, const void *bytes, size_t length)
{
	must(mem_write(&f->space, 0, address, bytes, length), "store of code");
}

void fixture_code(struct fixture *f, const void *bytes, size_t length)
{
	fixture_code_at(f, FIXTURE_CODE, bytes, length);
}

uint64_t fixture_load(struct fixture *f, uint64_t address, unsigned size)
{
	uint64_t value = 0;
	must(mem_read(&f->space, 0, address, &value, size), "load");
	return value;
}

void fixture_store(struct fixture *f, uint64_t address, unsigned size, uint64_t value)
{
	must(mem_write(&f->space, 0, address, &value, size), "store");
}

void fixture_map(struct fixture *f, uint64_t gva, uint64_t entry)
{
	fixture_store(f, PT0 + 8 * (gva >> PAGE_SHIFT), 8, entry);
	if (f->v)
		mmu_invlpg(f->v->mmu, gva);
}

/* ---- running ------------------------------------------------------------------------------------------------------------ */

/* As a machine does: time passes by what was retired. */
enum run_exit fixture_run(struct fixture *f, int64_t n)
{
	uint64_t before = f->v->instructions;
	enum run_exit exit = vcpu_run(f->v, n);
	f->clock.base += CLOCK_TICKS_PER_INSTRUCTION * (f->v->instructions - before);
	return exit;
}

enum run_exit fixture_run_to_halt(struct fixture *f, int64_t slice)
{
	enum run_exit exit = RUN_BUDGET;
	for (int64_t done = 0; done < 100000 && exit == RUN_BUDGET; done += slice)
		exit = fixture_run(f, slice);
	return exit;
}

bool fixture_frame(struct fixture *f, struct fixture_frame *ret)
{
	const struct vcpu *v = f->v;
	uint64_t at = v->seg[SEG_CS].base + v->rip - FIXTURE_HANDLERS, sp = v->gpr[REG_RSP];
	if (!v->halted || at >= 256 * 16 || at % 16 != 1)
		return false;
	unsigned cell = f->mode == FIXTURE_LONG ? 8 : f->mode == FIXTURE_PROTECTED ? 4 : 2;
	if (f->mode == FIXTURE_REAL)
		sp = v->seg[SEG_SS].base + (uint16_t)sp;
	*ret = (struct fixture_frame){.vector = (unsigned)(at / 16)};
	ret->has_error = f->mode != FIXTURE_REAL && ret->vector < 32 && (VECTORS_WITH_ERROR_CODE >> ret->vector & 1);
	if (ret->has_error) {
		ret->error = (uint32_t)fixture_load(f, sp, 4);
		sp += cell;
	}
	ret->rip = fixture_load(f, sp, cell);
	ret->cs = (uint16_t)fixture_load(f, sp + cell, cell);
	ret->rflags = fixture_load(f, sp + 2 * cell, cell);
	bool switched = f->mode == FIXTURE_LONG || (f->mode == FIXTURE_PROTECTED && (ret->cs & 3));
	ret->rsp = switched ? fixture_load(f, sp + 3 * cell, cell) : v->gpr[REG_RSP] + (3u + ret->has_error) * cell;
	return true;
}

static uint64_t mix(uint64_t digest, uint64_t value)
{
	return hash_mix(digest * 31 + value);
}

uint64_t fixture_digest(struct fixture *f)
{
	const struct vcpu *v = f->v;
	uint64_t digest = 1, word;
	for (unsigned n = 0; n < REG_COUNT; n++)
		digest = mix(digest, v->gpr[n]);
	digest = mix(mix(mix(digest, v->rip), vcpu_rflags(v)), v->instructions);
	digest = mix(mix(digest, v->cr2), v->halted);
	for (unsigned offset = 0; offset < FIXTURE_RAM_SIZE; offset += 8) {
		memcpy(&word, f->ram + offset, 8);
		if (word)
			digest = mix(digest ^ offset, word);
	}
	return digest;
}
