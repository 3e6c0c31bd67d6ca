/*
 * Makes the guests of fuzz_machine.c: processor model, MMU options, descriptor and page tables, registers, and the script of phases. Most
 * of what it makes is right, so that a guest gets somewhere; every part is spoilt now and then.
 */
#include "guest_plan.h"

#include "arch/pte.h"
#include "cpu/cpuid.h"

#define CODE_DPL0 0x08u
#define TABLE(n) (PLAN_TABLES + (n) * PAGE_SIZE)

static void store(struct guest_plan *plan, uint64_t address, uint64_t value, unsigned size)
{
	memcpy(plan->ram + address, &value, size);
}

static uint64_t load(const struct guest_plan *plan, uint64_t address, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, plan->ram + address, size);
	return value;
}

static bool is_long(const struct guest_plan *plan)
{
	return plan->mode >= PLAN_COMPAT;
}

unsigned plan_code_width(const struct guest_plan *plan)
{
	return plan->mode <= PLAN_PROTECTED16 ? 2 : plan->mode >= PLAN_LONG4 ? 8 : 4;
}

uint64_t plan_address(const struct guest_plan *plan, struct choices *c)
{
	static const uint64_t edges[] = {0, 1, 0xfff, 0x1000, 0xfffe, 0x10000, 0x3fffc, 0x40000, 0x7fffffff, 0xfffffffe, 0x100000000, 0x7ffffffffffc,
					 0x7fffffffffff, 0x800000000000, 0xffff800000000000, 0xfffffffffffffff8, 0xffffffffffffffff,
					 0xfee00000, 0xfec00000, 0xd0000000, 0xb8000, 0x3fffffff, 0x40000000, 0xfffffffffffff, 0xff00000000000000};
	static const uint64_t places[] = {PLAN_GDT, PLAN_IDT, PLAN_TSS, PLAN_TSS2, PLAN_LDT, PLAN_STACK, PLAN_CODE, PLAN_HANDLERS, PLAN_DATA,
					  PLAN_ROM};
	uint64_t page = (uint64_t)choose(c, 0x48) << PAGE_SHIFT;
	switch (choose(c, 8)) {
	case 0: return CHOOSE_OF(c, edges);
	case 1: return CHOOSE_OF(c, places) + choose(c, 256);
	case 2: return page + PAGE_SIZE - choose(c, 16);
	case 3: return TABLE(choose(c, 10)) + choose(c, 512) * 8;
	case 4: return plan->high_gpa + choose_number(c, 2);
	case 5: return (plan->mode >= PLAN_LONG4 ? 0xffffff8000000000ull : 0x400000) + page + choose(c, 4096);
	default: return PLAN_DATA + choose(c, 0x3000);
	}
}

uint16_t plan_selector(struct choices *c)
{
	if (choose_rarely(c, 6))
		return (uint16_t)choose_number(c, 2);
	unsigned index = choose(c, 32);
	bool user = index >= 4 && index <= 6;
	return (uint16_t)(index << 3 | (choose_rarely(c, 6) ? choose(c, 8) : user ? 3 : 0));
}

/* ---- model and options -------------------------------------------------------------------------------------------------- */

static void make_model(struct guest_plan *plan, struct choices *c)
{
	struct err err;
	bool good = cpu_model_parse(choose_yes(c) ? "intel" : "amd", &plan->model, &err);
	REQUIRE(good);
	static const uint8_t widths[] = {40, 40, 36, 52, 46, 32};
	plan->model.maxphyaddr = CHOOSE_OF(c, widths);
	feature_set_to(&plan->model.features, FEAT_PKS, choose_yes(c));
	feature_set_to(&plan->model.features, FEAT_FEP, choose_yes(c));
	feature_set_to(&plan->model.features, FEAT_CLZERO, choose_yes(c));
	while (choose_rarely(c, 4))
		feature_set_to(&plan->model.features, (enum feature)(FEAT_NONE + 1 + choose(c, FEAT_COUNT - 1)), choose_rarely(c, 4));
	/* What the chosen mode stands on, and what follows from the features. */
	static const enum feature needed[] = {FEAT_PAE, FEAT_PSE, FEAT_LM, FEAT_MSR};
	for (size_t n = 0; n < ARRAY_LEN(needed); n++)
		feature_set_to(&plan->model.features, needed[n], true);
	if (plan->mode == PLAN_LONG5)
		feature_set_to(&plan->model.features, FEAT_LA57, true);
	plan->model.linear_bits = feature_in(&plan->model.features, FEAT_LA57) ? 57 : 48;
}

static void make_options(struct guest_plan *plan, struct choices *c)
{
	static const unsigned quotas[] = {1, 0, 24, 32, 64}, intervals[] = {0, 0, 1, 7, 50}, banks[] = {0, 0, 4, 6};
	plan->mmu = (struct mmu_options){
		.mode = choose_yes(c) ? MMU_SHADOW : MMU_TDP,
		.shadow_page_quota = CHOOSE_OF(c, quotas),
		.tlb_entries_log2 = choose_yes(c) ? TLB_ENTRIES_LOG2 : choose(c, 3),
		.tlb_banks = CHOOSE_OF(c, banks),
		.mmio_generation_bits = choose_rarely(c, 3) ? 2 : 0,
		.no_large_pages = choose_rarely(c, 4),
		.no_revival = choose_rarely(c, 4),
	};
	plan->check_interval = CHOOSE_OF(c, intervals);
	plan->compare = choose_yes(c);
	plan->tables_in_rom = choose_rarely(c, 6);
	static const gpa_t highs[] = {0x100000, 0x200000, 0x40000000, 0xffff0000, 0x100000000, 0xf0000, 0xfff000000};
	plan->high_gpa = CHOOSE_OF(c, highs);
	plan->slices = choose_number(c, 8);
	plan->vcpu_index = choose_rarely(c, 4); /* others than 0 wait for a start-up message after INIT */
}

/* ---- descriptor tables -------------------------------------------------------------------------------------------------- */

static uint64_t descriptor(uint32_t base, uint32_t limit20, unsigned access, unsigned nibble)
{
	return (uint64_t)(limit20 & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
	       (uint64_t)(limit20 >> 16 & 15) << 48 | (uint64_t)nibble << 52 | (uint64_t)(base >> 24) << 56;
}

static uint64_t gate(uint16_t selector, uint32_t offset, unsigned access, unsigned low)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)low << 32 | (uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48;
}

static void make_gdt(struct guest_plan *plan, struct choices *c)
{
	bool wide = is_long(plan);
	uint16_t kernel = wide ? 0x18 : 0x08;
	const uint64_t entries[] = {
		0,
		descriptor(0, 0xfffff, 0x9b, 0xc), /* 08 code */
		descriptor(0, 0xfffff, 0x93, 0xc), /* 10 data */
		descriptor(0, 0xfffff, 0x9b, 0xa), /* 18 64-bit code */
		descriptor(0, 0xfffff, 0xfb, 0xc), /* 20 code, DPL 3 */
		descriptor(0, 0xfffff, 0xf3, 0xc), /* 28 data, DPL 3 */
		descriptor(0, 0xfffff, 0xfb, 0xa), /* 30 64-bit code, DPL 3 */
		descriptor(PLAN_CODE, 0x3fff, 0x9b, 0), /* 38 16-bit code */
		descriptor(0, 0xffff, 0x93, 0),    /* 40 16-bit data */
		descriptor(PLAN_TSS, 0x2ff, 0x8b, 0), 0, /* 48 TSS, busy */
		descriptor(PLAN_LDT, 0xff, 0x82, 0), 0,  /* 58 LDT */
		gate(kernel, PLAN_CODE + 0x40, 0xec, 2), 0, /* 68 call gate */
		gate(0x80, 0, 0xe5, 0),            /* 78 task gate */
		descriptor(PLAN_TSS2, 0x2ff, 0x89, 0), 0, /* 80 another TSS */
		descriptor(0, 0xfffff, 0x9f, 0xc), /* 90 conforming code */
		descriptor(0, 0x8, 0x97, 0xc),     /* 98 expand-down data */
		descriptor(0, 0xfffff, 0x13, 0xc), /* a0 not present */
		descriptor(PLAN_TSS, 0x2b, 0x81, 0), /* a8 16-bit TSS */
		descriptor(0x1000, 0xfff, 0x91, 0),/* b0 read-only data */
		descriptor(0, 0xfffff, 0xf2, 0xc), /* b8 data, DPL 3, not accessed yet */
		descriptor(PLAN_TSS16, 0x2b, 0x81, 0), /* c0 another 16-bit TSS */
	};
	memcpy(plan->ram + PLAN_GDT, entries, sizeof(entries));
	for (unsigned n = ARRAY_LEN(entries); n < 64; n++)
		store(plan, PLAN_GDT + 8 * n, choose_number(c, 8) | (choose_yes(c) ? 1ull << 47 : 0), 8);
	for (unsigned n = 0; n < 32; n++)
		store(plan, PLAN_LDT + 8 * n, n < 24 ? entries[n] : choose_number(c, 8), 8);
}

/* Once the registers have been filled from it. */
static void spoil_gdt(struct guest_plan *plan, struct choices *c)
{
	while (choose_rarely(c, 4))
		store(plan, PLAN_GDT + choose(c, 512), choose_number(c, 8), 1 + choose(c, 7));
}

static void make_idt(struct guest_plan *plan, struct choices *c)
{
	bool wide = is_long(plan);
	for (unsigned vector = 0; vector < 256; vector++) {
		uint32_t handler = PLAN_HANDLERS + vector % 32 * 64;
		unsigned access = (choose_yes(c) ? 0x8e : 0xee) | (choose_rarely(c, 4) ? 1 : 0);
		unsigned ist = wide && choose_rarely(c, 6) ? choose(c, 8) : 0;
		uint64_t low = gate(wide ? 0x18 : CODE_DPL0, handler, access, ist);
		if (choose_rarely(c, 24))
			low = choose_yes(c) ? gate(choose(c, 3) ? 0x80 : 0xc0, 0, 0xe5, 0) : low ^ 1ull << choose(c, 64);
		store(plan, PLAN_IDT + vector * (wide ? 16 : 8), low, 8);
		if (wide)
			store(plan, PLAN_IDT + vector * 16 + 8, choose_rarely(c, 64) ? choose_number(c, 8) : 0, 8);
		if (plan->mode == PLAN_REAL)
			store(plan, 4 * vector, choose_rarely(c, 32) ? choose_number(c, 4) : handler, 4);
	}
}

/* The first TSS is where the processor is, the second one where task switches go. */
static void make_tss(struct guest_plan *plan, struct choices *c)
{
	if (is_long(plan)) {
		for (unsigned n = 0; n < 10; n++)
			store(plan, PLAN_TSS + 4 + 8 * n, choose_rarely(c, 8) ? plan_address(plan, c) : PLAN_STACK0 - 0x100 * n, 8);
	} else {
		for (unsigned n = 0; n < 3; n++) {
			store(plan, PLAN_TSS + 4 + 8 * n, PLAN_STACK0 - 0x200 * n, 4);
			store(plan, PLAN_TSS + 8 + 8 * n, n ? plan_selector(c) : 0x10, 2);
		}
		static const uint16_t selectors[] = {0x10, 0x08, 0x10, 0x10, 0x10, 0x10, 0x58};
		memcpy(plan->ram + PLAN_TSS2, plan->ram + PLAN_TSS, 0x20);
		store(plan, PLAN_TSS2 + 0x1c, choose_rarely(c, 4) ? PLAN_ROOT2 : PLAN_TABLES, 4);
		store(plan, PLAN_TSS2 + 0x20, PLAN_CODE + choose(c, 256), 4);
		store(plan, PLAN_TSS2 + 0x24, choose_yes(c) ? 2 : choose_number(c, 4), 4);
		for (unsigned n = 0; n < 8; n++)
			store(plan, PLAN_TSS2 + 0x28 + 4 * n, n == 4 ? PLAN_STACK - 0x100 : plan_address(plan, c), 4);
		for (unsigned n = 0; n < 7; n++)
			store(plan, PLAN_TSS2 + 0x48 + 4 * n, choose_rarely(c, 8) ? plan_selector(c) : selectors[n], 2);
		store(plan, PLAN_TSS2, choose_rarely(c, 4) ? plan_selector(c) : 0x48, 2);
		store(plan, PLAN_TSS2 + 0x64, choose(c, 2), 2);
	}
	for (unsigned n = 0; n < 22; n++) /* the 16-bit one */
		store(plan, PLAN_TSS16 + 2 * n, n == 7 ? PLAN_CODE + choose(c, 256) : n == 8 ? 2 : n >= 17 ? plan_selector(c) :
		      PLAN_STACK - 0x100, 2);
	if (!choose_rarely(c, 3))
		memcpy(plan->ram + PLAN_TSS16 + 0x22, (const uint16_t[]){0x10, 0x08, 0x10, 0x10, 0}, 10);
	store(plan, PLAN_TSS + 0x66, choose_rarely(c, 4) ? choose_number(c, 2) : 0x88, 2);
	for (unsigned n = 0; n < 32; n++)
		store(plan, PLAN_TSS + 0x68 + 8 * n, choose_rarely(c, 4) ? choose_number(c, 8) : 0, 8);
}

/* ---- page tables -------------------------------------------------------------------------------------------------------- */

static uint64_t random_entry(const struct guest_plan *plan, struct choices *c)
{
	uint64_t entry = choose_rarely(c, 16) ? choose_number(c, 8) : (uint64_t)choose(c, 0x60) << PAGE_SHIFT;
	if (choose_rarely(c, 4))
		entry = TABLE(choose(c, 12));
	if (choose_rarely(c, 8))
		entry = plan->high_gpa + ((uint64_t)choose(c, 17) << PAGE_SHIFT);
	entry |= PTE_P | choose(c, 512);
	if (choose_rarely(c, 8))
		entry ^= 1ull << choose(c, 64);
	return entry;
}

static void store_entry(struct guest_plan *plan, uint64_t table, unsigned index, uint64_t entry)
{
	unsigned size = plan->mode == PLAN_PAGED32 ? 4 : 8;
	store(plan, table + index * size, entry, size);
}

/* One leaf table: RAM where it is, and whatever else beyond it. */
static void make_leaf_table(struct guest_plan *plan, struct choices *c, uint64_t table, uint64_t flags)
{
	unsigned policy = choose(c, 3); /* of U: nobody's, everybody's, each page its own */
	for (unsigned n = 0; n < (plan->mode == PLAN_PAGED32 ? 1024 : 512); n++) {
		bool user = policy == 1 || (policy == 2 && choose_yes(c));
		uint64_t entry = n < PLAN_RAM >> PAGE_SHIFT ? (uint64_t)n << PAGE_SHIFT | flags | (user ? PTE_U : 0) : 0;
		if (n == PLAN_ROM >> PAGE_SHIFT)
			entry = PLAN_ROM | flags;
		else if (!entry && choose_rarely(c, 8))
			entry = random_entry(plan, c);
		store_entry(plan, table, n, entry);
	}
}

/* Large pages and shared subtables beside the path that code runs on. */
static void make_upper_table(struct guest_plan *plan, struct choices *c, uint64_t table, uint64_t below, uint64_t flags)
{
	unsigned entries = plan->mode == PLAN_PAGED32 ? 1024 : 512;
	store_entry(plan, table, 0, below | flags | PTE_U);
	store_entry(plan, table, 1, choose_yes(c) ? below | flags | PTE_U : PTE_PS | flags);
	store_entry(plan, table, 2, PTE_PS | flags | (choose_yes(c) ? PTE_U | PTE_G : 0));
	store_entry(plan, table, 3, table | flags | PTE_U); /* itself */
	store_entry(plan, table, entries / 2, below | flags);
	store_entry(plan, table, entries - 2, random_entry(plan, c));
	store_entry(plan, table, entries - 1, (choose_yes(c) ? table : below) | flags | PTE_U);
}

static void spoil_tables(struct guest_plan *plan, struct choices *c, unsigned first, unsigned last)
{
	for (unsigned n = choose(c, 24); n; n--) {
		unsigned index = choose_rarely(c, 16) ? choose(c, 512) : 4 + choose(c, 508);
		if (!choose_rarely(c, 16) && index < 16) /* code, stacks, descriptors */
			index += 16;
		store_entry(plan, TABLE(first + choose(c, last - first + 1)), index, random_entry(plan, c));
	}
}

static unsigned table_levels(const struct guest_plan *plan)
{
	return plan->mode < PLAN_PAGED32 ? 0 : plan->mode == PLAN_PAGED32 ? 2 : plan->mode == PLAN_PAE ? 3 : plan->mode == PLAN_LONG5 ? 5 : 4;
}

static void make_tree(struct guest_plan *plan, struct choices *c, uint64_t root, uint64_t flags)
{
	unsigned levels = table_levels(plan);
	for (unsigned level = levels; level > 1; level--) {
		uint64_t table = root + (levels - level) * PAGE_SIZE;
		if (plan->mode == PLAN_PAE && level == 3)
			for (unsigned n = 0; n < 8; n++)
				store(plan, table + 8 * n, choose_rarely(c, 8) ? 0 : (table + PAGE_SIZE) | PTE_P, 8);
		else
			make_upper_table(plan, c, table, table + PAGE_SIZE, flags);
	}
	make_leaf_table(plan, c, root + (levels - 1) * PAGE_SIZE, flags);
}

static void make_tables(struct guest_plan *plan, struct choices *c)
{
	unsigned levels = table_levels(plan);
	uint64_t flags = PTE_P | PTE_W | (choose(c, 4) ? PTE_A | PTE_D : 0);
	if (!levels && !choose_rarely(c, 4)) /* v8086 and real mode may still turn paging on */
		return;
	if (!levels) {
		store(plan, PLAN_TABLES, PTE_PS | flags | PTE_U, 4);
		return;
	}
	make_tree(plan, c, PLAN_TABLES, flags);
	make_tree(plan, c, PLAN_ROOT2, flags);
	if (choose_yes(c)) /* the second tree shares what is below its root */
		store(plan, PLAN_ROOT2, load(plan, PLAN_TABLES, 8), 8);
	unsigned first = plan->mode == PLAN_PAE ? 1 : 0;
	spoil_tables(plan, c, first, levels - 1);
	spoil_tables(plan, c, 8 + first, 8 + levels - 1);
}

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

static uint64_t cr4_allowed(const struct guest_plan *plan)
{
	static const struct { uint64_t bits; enum feature feature; } bits[] = {
		{CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC}, {CR4_DE, FEAT_DE}, {CR4_PSE, FEAT_PSE}, {CR4_MCE, FEAT_MCE},
		{CR4_PGE, FEAT_PGE}, {CR4_UMIP, FEAT_UMIP}, {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_SMEP, FEAT_SMEP}, {CR4_SMAP, FEAT_SMAP},
		{CR4_PKE, FEAT_PKU}, {CR4_PKS, FEAT_PKS},
	};
	uint64_t allowed = CR4_PCE | CR4_OSFXSR;
	for (size_t n = 0; n < ARRAY_LEN(bits); n++)
		allowed |= feature_in(&plan->model.features, bits[n].feature) ? bits[n].bits : 0;
	if (is_long(plan) && feature_in(&plan->model.features, FEAT_PCID))
		allowed |= CR4_PCIDE;
	return allowed;
}

static void make_control(struct guest_plan *plan, struct choices *c)
{
	struct plan_registers *r = &plan->start;
	r->cr0 = CR0_ET | (choose_number(c, 4) & (CR0_WP | CR0_AM | CR0_NE | CR0_MP));
	if (choose_rarely(c, 8))
		r->cr0 |= CR0_CD | (choose_yes(c) ? CR0_NW : 0) | CR0_TS;
	r->cr0 |= (plan->mode == PLAN_REAL ? 0 : CR0_PE) | (table_levels(plan) ? CR0_PG : 0);
	r->cr4 = choose_number(c, 4) & cr4_allowed(plan);
	if (choose_yes(c))
		r->cr4 &= ~(CR4_SMEP | CR4_SMAP);
	r->cr4 |= (plan->mode >= PLAN_PAE ? CR4_PAE : 0) | (plan->mode == PLAN_LONG5 ? CR4_LA57 : 0) |
		  (plan->mode == PLAN_PAGED32 ? CR4_PSE : 0);
	r->efer = (choose_yes(c) && feature_in(&plan->model.features, FEAT_SYSCALL) ? EFER_SCE : 0) |
		  (choose_yes(c) && feature_in(&plan->model.features, FEAT_NX) ? EFER_NX : 0) |
		  (is_long(plan) ? EFER_LME | EFER_LMA : 0);
	r->cr3 = PLAN_TABLES | (choose_rarely(c, 4) ? choose(c, 0x20) : 0);
	r->pkru = choose_rarely(c, 4) ? (uint32_t)choose_number(c, 4) : 0;
	r->pkrs = choose_rarely(c, 4) ? (uint32_t)choose_number(c, 4) : 0;
	r->dr7 = DR7_FIXED_1;
	if (choose_rarely(c, 6)) {
		r->dr7 |= choose_number(c, 4) & ~(BITS(15, 14) | BITS(12, 11) | (choose_rarely(c, 4) ? 0 : DR7_GD));
		for (unsigned n = 0; n < 4; n++)
			r->dr[n] = plan_address(plan, c);
	}
}

static uint64_t canonical(const struct guest_plan *plan, uint64_t address)
{
	return (uint64_t)sign_extend(address, plan->start.cr4 & CR4_LA57 ? 57 : 48);
}

static void make_msrs(struct guest_plan *plan, struct choices *c)
{
	struct plan_registers *r = &plan->start;
	r->star = 0x0020000800000000ull | PLAN_CODE;
	r->lstar = canonical(plan, choose_rarely(c, 4) ? plan_address(plan, c) : PLAN_CODE + choose(c, 256));
	r->cstar = r->lstar;
	r->sfmask = choose_number(c, 4);
	r->kernel_gs_base = canonical(plan, plan_address(plan, c));
	r->sysenter_cs = choose_rarely(c, 4) ? plan_selector(c) : 0x08;
	r->sysenter_esp = PLAN_STACK0;
	r->sysenter_eip = PLAN_CODE + choose(c, 256);
}

static void set_segment(struct guest_plan *plan, enum seg seg, uint16_t selector)
{
	uint64_t entry = load(plan, PLAN_GDT + SEL_INDEX(selector), 8);
	plan->start.seg[seg] = (struct segment){.base = descriptor_base(entry), .limit = descriptor_limit(entry), .selector = selector,
						.attr = descriptor_attr(entry)};
}

static void set_real_segments(struct guest_plan *plan, struct choices *c)
{
	for (unsigned n = 0; n < SEG_COUNT; n++) {
		uint16_t selector = n == SEG_CS ? PLAN_CODE >> 4 : (uint16_t)(choose_yes(c) ? 0 : choose_number(c, 2));
		plan->start.seg[n] = (struct segment){.base = (uint64_t)selector << 4, .limit = 0xffff, .selector = selector,
						      .attr = (plan->mode == PLAN_V86 ? 0xf3 : n == SEG_CS ? 0x9b : 0x93)};
	}
	if (plan->mode == PLAN_REAL && choose_rarely(c, 6)) /* "unreal" mode */
		for (unsigned n = SEG_DS; n < SEG_COUNT; n++)
			plan->start.seg[n].limit = 0xffffffff;
}

/* Caches that differ from any descriptor, but that a descriptor could have filled. */
static void spoil_segment(struct guest_plan *plan, struct choices *c)
{
	static const enum seg candidates[] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};
	struct segment *segment = &plan->start.seg[CHOOSE_OF(c, candidates)];
	uint32_t limit = (uint32_t)choose_number(c, 4);
	segment->base = choose_yes(c) ? (uint32_t)plan_address(plan, c) : choose_number(c, 4);
	segment->attr = (uint16_t)((segment->attr & ~0xfu) | choose(c, 16));
	segment->limit = segment->attr & SEG_ATTR_G ? limit | 0xfff : limit & 0xfffff;
	if (is_long(plan) && (segment == &plan->start.seg[SEG_FS] || segment == &plan->start.seg[SEG_GS]))
		segment->base = canonical(plan, plan_address(plan, c));
	if (choose_rarely(c, 4)) {
		segment->unusable = true;
		segment->selector = 0;
	}
}

static void make_segments(struct guest_plan *plan, struct choices *c, bool user)
{
	static const uint16_t code[PLAN_MODE_COUNT] = {[PLAN_PROTECTED16] = 0x38, [PLAN_PROTECTED32] = 0x08, [PLAN_PAGED32] = 0x08,
						       [PLAN_PAE] = 0x08, [PLAN_COMPAT] = 0x08, [PLAN_LONG4] = 0x18, [PLAN_LONG5] = 0x18};
	set_segment(plan, SEG_TR, 0x48);
	set_segment(plan, SEG_LDTR, 0x58);
	if (plan->mode <= PLAN_V86) {
		set_real_segments(plan, c);
		return;
	}
	for (unsigned n = 0; n < SEG_COUNT; n++)
		set_segment(plan, n, user ? 0x2b : plan->mode == PLAN_PROTECTED16 ? 0x40 : 0x10);
	set_segment(plan, SEG_CS, user ? (plan->mode >= PLAN_LONG4 ? 0x33 : 0x23) : code[plan->mode]);
	while (choose_rarely(c, 4))
		spoil_segment(plan, c);
}

static void make_registers(struct guest_plan *plan, struct choices *c)
{
	struct plan_registers *r = &plan->start;
	bool user = plan->mode > PLAN_PROTECTED16 && !plan->supervisor && choose_rarely(c, 3);
	make_control(plan, c);
	make_msrs(plan, c);
	make_segments(plan, c, user);
	r->gdtr = (struct table_register){.base = PLAN_GDT, .limit = 0x1ff};
	r->idtr = (struct table_register){.base = plan->mode == PLAN_REAL ? 0 : PLAN_IDT, .limit = plan->mode == PLAN_REAL ? 0x3ff : 0xfff};
	if (choose_rarely(c, 16))
		*(choose_yes(c) ? &r->gdtr : &r->idtr) = (struct table_register){.base = canonical(plan, plan_address(plan, c)), .limit = 0xffff};
	for (unsigned n = 0; n < 16; n++)
		r->gpr[n] = choose_rarely(c, 4) ? choose_number(c, 8) : plan_address(plan, c);
	r->gpr[REG_RSP] = choose_rarely(c, 16) ? plan_address(plan, c) : PLAN_STACK;
	r->rip = PLAN_CODE - plan_code_base(plan);
	r->rflags = FLAG_FIXED_1 | (choose_number(c, 4) & (FLAGS_STATUS | FLAG_IOPL | FLAG_IF | FLAG_DF | FLAG_ID));
	if (choose_rarely(c, 6))
		r->rflags |= choose_number(c, 4) & (FLAG_TF | FLAG_NT | FLAG_AC | FLAG_RF | FLAG_VIF | FLAG_VIP);
	if (plan->mode == PLAN_V86)
		r->rflags |= FLAG_VM;
}

/* ---- the script --------------------------------------------------------------------------------------------------------- */

static void make_phases(struct guest_plan *plan, struct choices *c)
{
	static const unsigned budgets[] = {1, 2, 7, 40, 100, 250, 400};
	plan->phase_count = 1 + choose(c, PLAN_PHASES_MAX);
	unsigned most = plan->check_interval == 1 ? 40 : UINT32_MAX; /* checks of the whole cache take their time */
	for (unsigned n = 0; n < plan->phase_count; n++)
		plan->phases[n] = (struct phase){
			.event = choose_yes(c) ? PHASE_NOTHING : (enum phase_event)choose(c, PHASE_EVENT_COUNT),
			.argument = choose_number(c, 8),
			.budget = MIN(CHOOSE_OF(c, budgets), most),
		};
}

void guest_plan_fill(struct guest_plan *plan, struct choices *c)
{
	make_options(plan, c);
	for (unsigned n = 0; n < 0x1000; n += 8)
		store(plan, PLAN_DATA + n, choose_rarely(c, 3) ? plan_address(plan, c) : choices_generate(c), 8);
	for (unsigned n = 0; n < 16; n++) { /* far pointers */
		store(plan, PLAN_DATA + 64 + 8 * n, PLAN_CODE - plan_code_base(plan) + choose(c, 1024), 4);
		store(plan, PLAN_DATA + 68 + 8 * n, plan_selector(c), 2);
	}
	make_gdt(plan, c);
	make_tss(plan, c);
	make_idt(plan, c);
	make_tables(plan, c);
	guest_code_make(plan, c);
	make_registers(plan, c);
	spoil_gdt(plan, c);
	make_phases(plan, c);
}

void guest_plan_make(struct guest_plan *plan, struct choices *c)
{
	memset(plan, 0, sizeof(*plan));
	plan->mode = (enum plan_mode)choose(c, PLAN_MODE_COUNT);
	make_model(plan, c);
	guest_plan_fill(plan, c);
}
