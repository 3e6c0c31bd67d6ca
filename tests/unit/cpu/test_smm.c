/*
 * System-management mode (cpu/smm.c). The offsets of the state-save area are written out here as the manuals have them, so that the
 * table in smm.c is compared with something. The program is linked with mem_read() wrapped, to see what of the area RSM reads, and to
 * change it behind its back.
 */
#include "guest.h"

#include "cpu/smm.h"

#define SMBASE 0x30000u
#define HANDLER_START (SMBASE + 0x8000u)
#define AREA(offset) (SMBASE + (offset))

/* ---- the wrapped reader ------------------------------------------------------------------------------------------------- */

static struct {
	uint8_t reads[SMM_AREA_SIZE];
	struct mem_space *flip_in; /* after the first read of the area, this byte of it is inverted */
	unsigned flip;
} watch;

bool __real_mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length);
bool __wrap_mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length);

bool __wrap_mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length)
{
	bool good = __real_mem_read(space, as_id, gpa, buffer, length), seen = false;
	for (size_t n = 0; n < length; n++) {
		uint64_t offset = gpa + n - AREA(SMM_AREA_OFFSET);
		if (offset >= SMM_AREA_SIZE)
			continue;
		watch.reads[offset]++;
		seen = true;
	}
	if (seen && watch.flip_in) {
		uint8_t byte;
		assert_true(__real_mem_read(space, 0, AREA(SMM_AREA_OFFSET) + watch.flip, &byte, 1));
		byte = (uint8_t)~byte;
		assert_true(mem_write(watch.flip_in, 0, AREA(SMM_AREA_OFFSET) + watch.flip, &byte, 1));
		watch.flip_in = NULL;
	}
	return good;
}

/* ---- helpers ------------------------------------------------------------------------------------------------------------ */

#define HANDLER_BYTES(g, ...) poke((g), HANDLER_START, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Everything that an SMI and RSM bring back. */
struct snapshot {
	uint64_t gpr[REG_COUNT], rip, rflags, cr0, cr3, cr4, efer, dr6, dr7, pdpte[4];
	struct segment seg[SEG_ALL_COUNT];
	struct table_register gdtr, idtr;
	bool halted, nmi_blocked, smm;
	uint32_t smbase;
	enum cpu_mode mode;
	uint8_t cpl;
};

static void take_snapshot(struct guest *g, struct snapshot *ret)
{
	struct vcpu *v = g->v;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->gpr, v->gpr, sizeof(ret->gpr));
	ret->rip = v->rip;
	ret->rflags = vcpu_rflags(v);
	ret->cr0 = v->cr0;
	ret->cr3 = v->cr3;
	ret->cr4 = v->cr4;
	ret->efer = v->efer;
	ret->dr6 = v->dr6;
	ret->dr7 = v->dr7;
	if (v->cr0 & CR0_PG)
		memcpy(ret->pdpte, mmu_get_regs(v->mmu)->pdpte, sizeof(ret->pdpte));
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++) {
		ret->seg[n].base = v->seg[n].base;
		ret->seg[n].limit = v->seg[n].limit;
		ret->seg[n].selector = v->seg[n].selector;
		ret->seg[n].attr = v->seg[n].attr;
		ret->seg[n].unusable = v->seg[n].unusable;
	}
	ret->gdtr.base = v->gdtr.base;
	ret->gdtr.limit = v->gdtr.limit;
	ret->idtr.base = v->idtr.base;
	ret->idtr.limit = v->idtr.limit;
	ret->halted = v->halted;
	ret->nmi_blocked = v->nmi_blocked;
	ret->smm = v->smm;
	ret->smbase = v->smbase;
	ret->mode = v->mode;
	ret->cpl = v->cpl;
}

static void assert_same(const struct snapshot *a, const struct snapshot *b)
{
	for (unsigned n = 0; n < REG_COUNT; n++)
		assert_int_equal(a->gpr[n], b->gpr[n]);
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++) {
		assert_int_equal(a->seg[n].base, b->seg[n].base);
		assert_int_equal(a->seg[n].limit, b->seg[n].limit);
		assert_int_equal(a->seg[n].selector, b->seg[n].selector);
		assert_int_equal(a->seg[n].attr, b->seg[n].attr);
		assert_int_equal(a->seg[n].unusable, b->seg[n].unusable);
	}
	assert_int_equal(a->rip, b->rip);
	assert_int_equal(a->rflags, b->rflags);
	assert_int_equal(a->cr0, b->cr0);
	assert_int_equal(a->cr4, b->cr4);
	assert_int_equal(a->efer, b->efer);
	assert_int_equal(a->dr7, b->dr7);
	assert_memory_equal(a, b, sizeof(*a));
}

/* Distinct values everywhere, at CODE, without changing how the processor runs. */
static void fill_registers(struct guest *g)
{
	struct vcpu *v = g->v;
	bool wide = g->mode == GUEST_LONG;
	for (unsigned n = 0; n < 16; n++)
		v->gpr[n] = (wide ? 0x1122334400000000ull : 0) + 0x01010101u * (n + 1);
	if (!wide)
		memset(&v->gpr[REG_R8], 0, 8 * sizeof(v->gpr[0]));
	v->gpr[REG_RSP] = STACK;
	v->rip = CODE;
	vcpu_set_rflags(v, FLAG_CF | FLAG_SF | FLAG_DF | FLAG_AC | FLAG_ID);
	v->dr6 = DR6_FIXED_1 | DR6_BS;
	v->dr7 = DR7_FIXED_1 | DR7_LE;
	vcpu_update_mode(v);
}

/* Takes the SMI and executes so many instructions of the handler. */
static void take_smi(struct guest *g, unsigned instructions)
{
	vcpu_raise_smi(g->v);
	vcpu_run(g->v, 1 + instructions);
}

/* ---- entry -------------------------------------------------------------------------------------------------------------- */

static void assert_handler_state(struct guest *g, uint64_t cr0_before)
{
	const struct vcpu *v = g->v;
	assert_true(v->smm);
	assert_int_equal(v->rip, 0x8000);
	assert_int_equal(v->seg[SEG_CS].selector, SMBASE >> 4);
	assert_int_equal(v->seg[SEG_CS].base, SMBASE);
	for (unsigned n = 0; n < SEG_COUNT; n++) {
		assert_int_equal(v->seg[n].limit, 0xffffffff);
		assert_int_equal(v->seg[n].attr, 0x8093);
		if (n == SEG_CS)
			continue;
		assert_int_equal(v->seg[n].selector, 0);
		assert_int_equal(v->seg[n].base, 0);
	}
	assert_int_equal(vcpu_rflags(v), FLAG_FIXED_1);
	assert_int_equal(v->cr0, cr0_before & ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG));
	assert_int_equal(v->cr4, 0);
	assert_int_equal(v->dr7, 0x400);
	assert_int_equal(v->idtr.limit, 0);
	assert_true(v->nmi_blocked);
	assert_int_equal(v->mode, MODE_REAL);
	assert_int_equal(v->code_size, 2);
	assert_true(mmu_get_regs(v->mmu)->smm);
}

static void area_of_amd64(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	g.v->cr0 |= CR0_TS | CR0_WP;
	vcpu_registers_changed(g.v);
	uint64_t cr0 = g.v->cr0;
	take_smi(&g, 0);
	assert_handler_state(&g, cr0);
	assert_int_equal(g.v->efer, 0);
	assert_int_equal(peek(&g, AREA(0xfff8), 8), 0x1122334401010101); /* RAX */
	assert_int_equal(peek(&g, AREA(0xfff0), 8), 0x1122334402020202); /* RCX */
	assert_int_equal(peek(&g, AREA(0xffe8), 8), 0x1122334403030303); /* RDX */
	assert_int_equal(peek(&g, AREA(0xffe0), 8), 0x1122334404040404); /* RBX */
	assert_int_equal(peek(&g, AREA(0xffd8), 8), STACK);
	assert_int_equal(peek(&g, AREA(0xffc0), 8), 0x1122334408080808); /* RDI */
	assert_int_equal(peek(&g, AREA(0xff80), 8), 0x1122334410101010); /* R15 */
	assert_int_equal(peek(&g, AREA(0xff78), 8), CODE);
	assert_int_equal(peek(&g, AREA(0xff70), 8), FLAG_CF | FLAG_SF | FLAG_DF | FLAG_AC | FLAG_ID | FLAG_FIXED_1);
	assert_int_equal(peek(&g, AREA(0xff68), 8), DR6_FIXED_1 | DR6_BS);
	assert_int_equal(peek(&g, AREA(0xff60), 8), 0x500);
	assert_int_equal(peek(&g, AREA(0xff58), 8), cr0);
	assert_int_equal(peek(&g, AREA(0xff50), 8), TABLES);
	assert_int_equal(peek(&g, AREA(0xff48), 8), CR4_PAE);
	assert_int_equal(peek(&g, AREA(0xff00), 4), SMBASE);
	assert_int_equal(peek(&g, AREA(0xfefc), 4), 0x20064);
	assert_int_equal(peek(&g, AREA(0xfed8), 8), 0);
	assert_int_equal(peek(&g, AREA(0xfed0), 8), EFER_LME | EFER_LMA | EFER_SCE);
	assert_int_equal(peek(&g, AREA(0xfec9), 1), 0);
	assert_int_equal(peek(&g, AREA(0xfe10), 2), CS64);
	assert_int_equal(peek(&g, AREA(0xfe12), 2), 0xa09b);
	assert_int_equal(peek(&g, AREA(0xfe14), 4), 0xffffffff);
	assert_int_equal(peek(&g, AREA(0xfe20), 2), DS0);
	assert_int_equal(peek(&g, AREA(0xfe64), 2), 0xff);
	assert_int_equal(peek(&g, AREA(0xfe68), 8), GDT);
	assert_int_equal(peek(&g, AREA(0xfe84), 2), 0xfff);
	assert_int_equal(peek(&g, AREA(0xfe88), 8), IDT);
	assert_int_equal(peek(&g, AREA(0xfe90), 2), TR);
	assert_int_equal(peek(&g, AREA(0xfe98), 8), TSS);
	guest_stop(&g);
}

static void area_of_p6(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_PROTECTED, "intel,-lm");
	fill_registers(&g);
	uint64_t cr0 = g.v->cr0;
	take_smi(&g, 0);
	assert_handler_state(&g, cr0);
	assert_int_equal(peek(&g, AREA(0xfffc), 4), cr0);
	assert_int_equal(peek(&g, AREA(0xfff8), 4), 0);
	assert_int_equal(peek(&g, AREA(0xfff4), 4), FLAG_CF | FLAG_SF | FLAG_DF | FLAG_AC | FLAG_ID | FLAG_FIXED_1);
	assert_int_equal(peek(&g, AREA(0xfff0), 4), CODE);
	assert_int_equal(peek(&g, AREA(0xffec), 4), 0x08080808); /* EDI */
	assert_int_equal(peek(&g, AREA(0xffe0), 4), STACK);
	assert_int_equal(peek(&g, AREA(0xffdc), 4), 0x04040404); /* EBX */
	assert_int_equal(peek(&g, AREA(0xffd0), 4), 0x01010101); /* EAX */
	assert_int_equal(peek(&g, AREA(0xffcc), 4), DR6_FIXED_1 | DR6_BS);
	assert_int_equal(peek(&g, AREA(0xffc8), 4), 0x500);
	assert_int_equal(peek(&g, AREA(0xffc4), 4), TR);
	assert_int_equal(peek(&g, AREA(0xffac), 4), CS0);
	assert_int_equal(peek(&g, AREA(0xffa8), 4), DS0);
	assert_int_equal(peek(&g, AREA(0xff90), 4), 0xc09b00); /* CS: attributes, limit, base */
	assert_int_equal(peek(&g, AREA(0xff94), 4), 0xffffffff);
	assert_int_equal(peek(&g, AREA(0xff98), 4), 0);
	assert_int_equal(peek(&g, AREA(0xff74), 4), GDT);
	assert_int_equal(peek(&g, AREA(0xff54), 4), 0xfff);
	assert_int_equal(peek(&g, AREA(0xff14), 4), 0);
	assert_int_equal(peek(&g, AREA(0xff02), 2), 0);
	assert_int_equal(peek(&g, AREA(0xfefc), 4), 0x20000);
	assert_int_equal(peek(&g, AREA(0xfef8), 4), SMBASE);
	guest_stop(&g);
}

/* ---- there and back ----------------------------------------------------------------------------------------------------- */

static void set_pae(struct guest *g)
{
	poke_number(g, TABLES + 0x3000, 0xe3, 8); /* 2 MiB at 0 */
	poke_number(g, TABLES + 0x2000, (TABLES + 0x3000) | 1, 8);
	g->v->cr3 = TABLES + 0x2000;
	g->v->cr4 = CR4_PAE;
	g->v->cr0 |= CR0_PG;
	vcpu_registers_changed(g->v);
}

static void there_and_back(const char *model, enum guest_mode mode, bool pae, unsigned cpl)
{
	struct guest g;
	struct snapshot before, after;
	guest_start_model(&g, mode, model);
	if (pae)
		set_pae(&g);
	fill_registers(&g);
	if (mode != GUEST_REAL) {
		set_privilege(&g, cpl);
		segment_set_null(&g.v->seg[SEG_GS], 0);
		g.v->seg[SEG_FS].base = mode == GUEST_LONG ? 0xffff800012345678ull : 0x345678;
		vcpu_update_mode(g.v);
	}
	HANDLER_BYTES(&g, 0x0f, 0xaa);
	take_snapshot(&g, &before);
	take_smi(&g, 0);
	assert_true(g.v->smm);
	vcpu_run(g.v, 1);
	assert_false(g.v->shutdown);
	take_snapshot(&g, &after);
	assert_same(&before, &after);
	assert_false(mmu_get_regs(g.v->mmu)->smm);
	guest_stop(&g);
}

static void every_mode_comes_back(void **state)
{
	static const char *const models[] = {"amd", "intel", "intel,-lm", "amd,-lm"};
	for (unsigned n = 0; n < ARRAY_LEN(models); n++) {
		there_and_back(models[n], GUEST_REAL, false, 0);
		there_and_back(models[n], GUEST_PROTECTED, false, 0);
		there_and_back(models[n], GUEST_PROTECTED, false, 3);
		there_and_back(models[n], GUEST_PROTECTED, true, 0);
		if (n < 2) {
			there_and_back(models[n], GUEST_LONG, false, 0);
			there_and_back(models[n], GUEST_LONG, false, 3);
		}
	}
}

/* What the handler writes into the area is what the program gets. */
static void handler_changes_registers(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	HANDLER_BYTES(&g, 0x0f, 0xaa);
	take_smi(&g, 0);
	poke_number(&g, AREA(0xfff8), 0xfeedfacecafe, 8);
	poke_number(&g, AREA(0xff78), CODE + 0x100, 8);
	poke_number(&g, AREA(0xff00), 0x50001, 4);
	poke_number(&g, AREA(0xfe48), 0x0190000000000000, 8); /* FS.base, not canonical */
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->gpr[REG_RAX], 0xfeedfacecafe);
	assert_int_equal(g.v->rip, CODE + 0x100);
	assert_int_equal(g.v->smbase, 0x50001);
	assert_int_equal(g.v->seg[SEG_FS].base, 0xff90000000000000);
	take_smi(&g, 0);
	assert_int_equal(g.v->seg[SEG_CS].base, 0x50001);
	assert_int_equal(peek(&g, 0x50001 + 0xff00, 4), 0x50001);
	guest_stop(&g);
}

/* ---- what waits --------------------------------------------------------------------------------------------------------- */

static void second_smi_waits(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	HANDLER_BYTES(&g, 0x90, 0x0f, 0xaa);
	take_smi(&g, 0);
	vcpu_raise_smi(g.v);
	vcpu_raise_smi(g.v);
	vcpu_run(g.v, 2);
	assert_false(g.v->smm);
	assert_true(g.v->smi_pending);
	vcpu_run(g.v, 1);
	assert_true(g.v->smm);
	assert_false(g.v->smi_pending);
	assert_int_equal(peek(&g, AREA(0xff78), 8), CODE); /* nothing ran between the two */
	vcpu_run(g.v, 2);
	assert_false(g.v->smm || g.v->smi_pending);
	guest_stop(&g);
}

static void nmi_waits_for_rsm(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	HANDLER_BYTES(&g, 0x90, 0x0f, 0xaa);
	take_smi(&g, 0);
	vcpu_raise_nmi(g.v);
	vcpu_raise_nmi(g.v);
	assert_int_equal(g.v->nmi_pending, 1);
	vcpu_run(g.v, 2);
	assert_false(g.v->smm || g.v->nmi_blocked);
	vcpu_run(g.v, 2);
	assert_vector(&g, VEC_NMI);
	guest_stop(&g);
}

/* IRET in the handler lets NMIs in; where they were blocked before the SMI, they are so again after RSM. */
static void iret_unblocks_nmi(void **state)
{
	for (unsigned blocked = 0; blocked < 2; blocked++) {
		struct guest g;
		guest_start_model(&g, GUEST_LONG, "amd");
		fill_registers(&g);
		g.v->nmi_blocked = blocked;
		/* mov sp, 7000h; push 2; push cs; push 800Ah; iret; rsm */
		HANDLER_BYTES(&g, 0xbc, 0x00, 0x70, 0x6a, 0x02, 0x0e, 0x68, 0x0a, 0x80, 0xcf, 0x0f, 0xaa);
		take_smi(&g, 0);
		assert_int_equal(peek(&g, AREA(0xfeca), 1), blocked);
		vcpu_run(g.v, 5);
		assert_int_equal(g.v->rip, 0x800a);
		assert_true(g.v->smm);
		assert_false(g.v->nmi_blocked);
		vcpu_run(g.v, 1);
		assert_false(g.v->smm);
		assert_int_equal(g.v->nmi_blocked, blocked);
		guest_stop(&g);
	}
}

static void init_waits_for_rsm(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	HANDLER_BYTES(&g, 0x90, 0x0f, 0xaa);
	take_smi(&g, 0);
	poke_number(&g, AREA(0xff00), 0x48000, 4);
	g.v->init_pending = true;
	vcpu_run(g.v, 1);
	assert_true(g.v->smm && g.v->init_pending);
	vcpu_run(g.v, 1);
	assert_false(g.v->smm);
	vcpu_run(g.v, 1);
	assert_false(g.v->init_pending);
	assert_false(g.v->cr0 & CR0_PE);
	assert_int_equal(g.v->smbase, 0x48000); /* INIT keeps it */
	vcpu_reset(g.v, false);
	assert_int_equal(g.v->smbase, 0x30000);
	guest_stop(&g);
}

static void shadow_holds_smi(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	poke(&g, CODE, (const uint8_t[]){0xfb, 0x90, 0x90}, 3); /* sti; nop; nop */
	vcpu_run(g.v, 1);
	take_smi(&g, 0);
	assert_false(g.v->smm);
	assert_int_equal(g.v->rip, CODE + 2);
	vcpu_run(g.v, 1);
	assert_true(g.v->smm);
	assert_int_equal(peek(&g, AREA(0xff78), 8), CODE + 2);
	guest_stop(&g);
}

static void smi_wakes(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	g.v->halted = true;
	assert_false(vcpu_has_work(g.v));
	vcpu_raise_smi(g.v);
	assert_true(vcpu_has_work(g.v));
	g.v->smm = true;
	assert_false(vcpu_has_work(g.v));
	guest_stop(&g);
}

static void halt_is_gone_on_with(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	HANDLER_BYTES(&g, 0x0f, 0xaa);
	poke(&g, CODE, (const uint8_t[]){0xf4, 0x90}, 2);
	assert_int_equal(vcpu_run(g.v, 5), RUN_HALT);
	take_smi(&g, 0);
	assert_false(g.v->halted);
	assert_int_equal(peek(&g, AREA(0xfec9), 1), 1);
	vcpu_run(g.v, 1);
	assert_true(g.v->halted);
	assert_int_equal(g.v->rip, CODE + 1);
	assert_int_equal(vcpu_run(g.v, 5), RUN_HALT);
	take_smi(&g, 0);
	poke_number(&g, AREA(0xfec9), 0, 1);
	vcpu_run(g.v, 2);
	assert_false(g.v->halted);
	assert_int_equal(g.v->rip, CODE + 2);
	guest_stop(&g);
}

/* ---- RSM that is refused ------------------------------------------------------------------------------------------------ */

static void invalid_outside(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0xaa);
	guest_stop(&g);
	guest_start(&g, GUEST_PROTECTED);
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0xaa);
	guest_stop(&g);
}

struct corruption {
	const char *what;
	unsigned offset, bytes;
	uint64_t value;
};

static const struct corruption refused[] = {
	{"reserved bit of CR0", 0xff58, 8, BIT(32) | CR0_PG | CR0_PE},
	{"paging without protection", 0xff58, 8, CR0_PG},
	{"NW without CD", 0xff58, 8, CR0_PG | CR0_PE | CR0_NW},
	{"long mode without paging, LMA set", 0xff58, 8, CR0_PE},
	{"reserved bit of CR4", 0xff48, 8, CR4_PAE | BIT(15)},
	{"upper half of CR4", 0xff48, 8, CR4_PAE | BIT(32)},
	{"long mode without PAE", 0xff48, 8, 0},
	{"CR3 too wide", 0xff50, 8, BIT(40)},
	{"reserved bit of EFER", 0xfed0, 8, EFER_LME | EFER_LMA | BIT(1)},
	{"LMA without LME", 0xfed0, 8, EFER_LMA},
	{"LME and paging without LMA", 0xfed0, 8, EFER_LME},
	{"upper half of DR6", 0xff68, 8, BIT(32)},
	{"upper half of DR7", 0xff60, 8, BIT(40)},
	{"virtual-8086 mode in long mode", 0xff70, 8, FLAG_VM | FLAG_FIXED_1},
	{"64-bit code with D", 0xfe12, 2, 0xe09b},
	{"absent code", 0xfe12, 2, 0xa01b},
};

static void corrupt_areas_shut_down(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(refused); n++) {
		struct guest g;
		struct snapshot before, after;
		guest_start_model(&g, GUEST_LONG, "amd");
		fill_registers(&g);
		HANDLER_BYTES(&g, 0x0f, 0xaa);
		take_smi(&g, 0);
		poke_number(&g, AREA(refused[n].offset), refused[n].value, refused[n].bytes);
		take_snapshot(&g, &before);
		if (vcpu_run(g.v, 1) != RUN_SHUTDOWN && vcpu_run(g.v, 1) != RUN_SHUTDOWN)
			fail_msg("not refused: %s", refused[n].what);
		take_snapshot(&g, &after);
		assert_same(&before, &after);
		assert_true(g.v->smm && mmu_get_regs(g.v->mmu)->smm);
		guest_stop(&g);
	}
}

static void pdptes_are_checked(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_PROTECTED, "intel,-lm");
	set_pae(&g);
	fill_registers(&g);
	HANDLER_BYTES(&g, 0x0f, 0xaa);
	take_smi(&g, 0);
	poke_number(&g, TABLES + 0x2018, 3, 8); /* present with a reserved bit */
	vcpu_run(g.v, 2);
	assert_true(g.v->shutdown && g.v->smm);
	guest_stop(&g);
}

static void area_that_is_no_memory(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	g.v->smbase = RAM - 0x9000; /* the handler lies in RAM, the area does not */
	poke(&g, RAM - 0x1000, (const uint8_t[]){0x0f, 0xaa}, 2);
	take_smi(&g, 0);
	assert_true(g.v->smm);
	vcpu_run(g.v, 2);
	assert_true(g.v->shutdown);
	guest_stop(&g);
}

static void area_wraps_at_4_gib(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	fill_registers(&g);
	g.v->smbase = 0xffff9000;
	take_smi(&g, 0);
	assert_int_equal(peek(&g, 0x8f78, 8), CODE);
	guest_stop(&g);
}

/* ---- hostile areas ------------------------------------------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

/* A few bytes of a good area become anything: RSM loads it or shuts down, and what it loads can run. */
static void any_area_is_survived(void **state)
{
	static const char *const models[] = {"amd", "intel,-lm"};
	uint64_t seed = 1;
	unsigned loaded = 0, refusals = 0;
	for (unsigned round = 0; round < 4000; round++) {
		struct guest g;
		struct snapshot before, after;
		guest_start_model(&g, round & 1 ? GUEST_PROTECTED : GUEST_LONG, models[round & 1]);
		fill_registers(&g);
		HANDLER_BYTES(&g, 0x0f, 0xaa);
		take_smi(&g, 0);
		for (unsigned n = next_random(&seed) % 4 + 1; n > 0; n--)
			poke_number(&g, AREA(SMM_AREA_OFFSET) + next_random(&seed) % SMM_AREA_SIZE, next_random(&seed), 1);
		take_snapshot(&g, &before);
		vcpu_run(g.v, 1);
		take_snapshot(&g, &after);
		if (g.v->shutdown) {
			refusals++;
			assert_same(&before, &after);
		} else {
			loaded++;
			assert_false(g.v->smm);
			vcpu_raise_smi(g.v);
			vcpu_run(g.v, 20);
		}
		guest_stop(&g);
	}
	assert_true(loaded > 100 && refusals > 100);
}

/* ---- one copy ----------------------------------------------------------------------------------------------------------- */

/* For each byte of the area: read once, and what it becomes after that changes nothing. */
static void no_byte_counts_twice(void **state)
{
	for (unsigned byte = 0; byte < SMM_AREA_SIZE; byte++) {
		struct guest g;
		struct snapshot before, after;
		guest_start_model(&g, GUEST_LONG, "amd");
		fill_registers(&g);
		HANDLER_BYTES(&g, 0x0f, 0xaa);
		take_snapshot(&g, &before);
		take_smi(&g, 0);
		uint64_t was = peek(&g, AREA(SMM_AREA_OFFSET) + byte, 1);
		memset(&watch, 0, sizeof(watch));
		watch.flip = byte;
		watch.flip_in = &g.space;
		vcpu_run(g.v, 1);
		for (unsigned n = 0; n < SMM_AREA_SIZE; n++)
			assert_int_equal(watch.reads[n], 1);
		take_snapshot(&g, &after);
		assert_same(&before, &after);
		assert_int_equal(peek(&g, AREA(SMM_AREA_OFFSET) + byte, 1), was ^ 0xff);
		guest_stop(&g);
	}
}

/* ---- memory that only the handler sees ---------------------------------------------------------------------------------- */

static void own_memory(void **state)
{
	struct guest g;
	struct err err;
	static const uint8_t rsm[] = {0x0f, 0xaa};
	guest_start_model(&g, GUEST_LONG, "amd");
	assert_true(mem_slot_add(&g.space, 1, 7, SMBASE, 0x10000, NULL, 0, &err));
	assert_true(mem_write(&g.space, 1, HANDLER_START, rsm, sizeof(rsm)));
	poke_number(&g, HANDLER_START, 0xcccc, 2);
	fill_registers(&g);
	take_smi(&g, 0);
	uint64_t saved;
	assert_true(mem_read(&g.space, 1, AREA(0xff78), &saved, 8));
	assert_int_equal(saved, CODE);
	assert_int_equal(peek(&g, AREA(0xff78), 8), 0);
	vcpu_run(g.v, 1);
	assert_false(g.v->smm);
	/* A load at the same address before and after sees ordinary memory. */
	g.v->gpr[REG_RBX] = HANDLER_START;
	RUN(&g, 1, 0x0f, 0xb7, 0x03); /* movzx eax, word [rbx] */
	assert_int_equal(g.v->gpr[REG_RAX], 0xcccc);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(area_of_amd64), cmocka_unit_test(area_of_p6), cmocka_unit_test(every_mode_comes_back),
		cmocka_unit_test(handler_changes_registers), cmocka_unit_test(second_smi_waits), cmocka_unit_test(nmi_waits_for_rsm),
		cmocka_unit_test(iret_unblocks_nmi), cmocka_unit_test(init_waits_for_rsm), cmocka_unit_test(shadow_holds_smi),
		cmocka_unit_test(smi_wakes), cmocka_unit_test(halt_is_gone_on_with), cmocka_unit_test(invalid_outside),
		cmocka_unit_test(corrupt_areas_shut_down), cmocka_unit_test(pdptes_are_checked), cmocka_unit_test(area_that_is_no_memory),
		cmocka_unit_test(area_wraps_at_4_gib), cmocka_unit_test(any_area_is_survived), cmocka_unit_test(no_byte_counts_twice), cmocka_unit_test(own_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
