/* The guests of toctou_guests.h: what each adds to the VMCB of nested_rewind(). */
#include "toctou_guests.h"

#include "arch/msr.h"
#include "arch/pte.h"

#define NESTED_TABLES 0x150000u /* three pages: the first 2 MiB, one to one */
#define UNMAPPED 0x200000u      /* by the nested tables */
#define VMMCALL 0x0f, 0x01, 0xd9
#define AT(offset) 0x04, 0x25, (offset), 0, NESTED_MEMORY >> 16, 0 /* ModRM and SIB of an absolute address, register 0 */

void toctou_intercept(struct fixture *f, unsigned number)
{
	nested_vmcb(f)->control.intercepts[number / 32] |= 1u << number % 32;
}

/* Looks at all that VMRUN gave it, and leaves by VMMCALL. */
static void curious(struct fixture *f)
{
	toctou_intercept(f, INTERCEPT_VMMCALL);
	TOCTOU_CODE(f, 0x48, 0x89, AT(0),                                   /* mov %rax, memory */
	     0x50, 0x5b,                                             /* push %rax; pop %rbx */
	     0x9c, 0x5d,                                             /* pushf; pop %rbp */
	     0x0f, 0x20, 0xde, 0x0f, 0x20, 0xe7,                     /* mov %cr3, %rsi; mov %cr4, %rdi */
	     0x41, 0x0f, 0x20, 0xc0, 0x41, 0x0f, 0x20, 0xd1,         /* mov %cr0, %r8; mov %cr2, %r9 */
	     0x41, 0x0f, 0x21, 0xf2, 0x41, 0x0f, 0x21, 0xfb,         /* mov %dr6, %r10; mov %dr7, %r11 */
	     0x41, 0x8c, 0xd4, 0x41, 0x8c, 0xdd, 0x41, 0x8c, 0xc6, 0x41, 0x8c, 0xcf, /* SS, DS, ES, CS to r12 to r15 */
	     0x0f, 0x01, AT(0x20), 0x0f, 0x01, 0x0c, 0x25, 0x30, 0, NESTED_MEMORY >> 16, 0,      /* sgdt, sidt */
	     0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x48, 0x89, AT(0x40), /* EFER */
	     0xb9, 0x77, 2, 0, 0, 0x0f, 0x32, 0x48, 0x89, AT(0x48),  /* PAT */
	     0x0f, 0x31, 0x48, 0x89, AT(0x50),                       /* TSC */
	     VMMCALL);
	nested_vmcb(f)->control.tsc_offset = 0x123456789abc;
	nested_vmcb(f)->save.rflags |= FLAG_CF | FLAG_ZF;
	nested_vmcb(f)->save.dr7 |= 0x55;
}

static void with_nested_tables(struct fixture *f)
{
	const uint64_t flags = PTE_P | PTE_W | PTE_U;
	fixture_store(f, NESTED_TABLES, 8, (NESTED_TABLES + 0x1000) | flags);
	fixture_store(f, NESTED_TABLES + 0x1000, 8, (NESTED_TABLES + 0x2000) | flags);
	fixture_store(f, NESTED_TABLES + 0x2000, 8, PTE_PS | flags);
	nested_vmcb(f)->control.nested_ctl = NESTED_CTL_NP;
	nested_vmcb(f)->control.nested_cr3 = NESTED_TABLES;
}

static void curious_npt(struct fixture *f)
{
	curious(f);
	with_nested_tables(f);
	nested_vmcb(f)->save.g_pat = 0x0606060606060006;
}

static void flushing(struct fixture *f)
{
	curious_npt(f);
	nested_vmcb(f)->control.tlb_control = TLB_CONTROL_ALL;
}

static void pae(struct fixture *f)
{
	struct vmcb *vmcb = nested_vmcb(f);
	for (unsigned n = 0; n < 4; n++)
		fixture_store(f, NESTED_PDPTES + 8 * n, 8, (FIXTURE_TABLES + 0x1000 * (n + 1)) | PTE_P);
	vmcb->save.efer &= ~(EFER_LME | EFER_LMA);
	vmcb->save.cr3 = NESTED_PDPTES;
	vmcb->save.segments[VMCB_CS].attrib = 0xc9b;
	TOCTOU_CODE(f, 0x89, 0x05, 0, 0, NESTED_MEMORY >> 16, 0, 0x8b, 0x1d, 0, 0, NESTED_CODE >> 16, 0, 0x0f, 0xa2); /* store, load, cpuid */
	toctou_intercept(f, INTERCEPT_CPUID);
}

static void pae_npt(struct fixture *f)
{
	pae(f);
	with_nested_tables(f);
}

static void nested_fault(struct fixture *f)
{
	with_nested_tables(f);
	TOCTOU_CODE(f, 0x48, 0x89, 0x04, 0x25, 0x08, 0, UNMAPPED >> 16, 0);
}

static void nested_table_fault(struct fixture *f)
{
	with_nested_tables(f);
	nested_vmcb(f)->save.cr3 = UNMAPPED + 0x3000;
}

static void page_fault(struct fixture *f)
{
	toctou_intercept(f, INTERCEPT(VMCB_EXCEPTION, VEC_PF));
	fixture_store(f, FIXTURE_TABLES + 0x5000 + 8 * (NESTED_MEMORY >> PAGE_SHIFT), 8, 0);
	TOCTOU_CODE(f, 0x48, 0xff, AT(0x10));
}

static void branches(struct fixture *f)
{
	curious(f);
	nested_vmcb(f)->control.virt_ext = VIRT_EXT_LBR;
	nested_vmcb(f)->save.dbgctl = DEBUGCTL_LBR;
	nested_vmcb(f)->save.br_from = 0x1111;
	TOCTOU_CODE(f, 0xeb, 2, 0xf4, 0xf4, VMMCALL);
}

static void quiet_branches(struct fixture *f)
{
	branches(f);
	nested_vmcb(f)->save.dbgctl = 0;
	nested_vmcb(f)->save.br_to = 0x2222;
	nested_vmcb(f)->save.last_excp_from = 0x3333;
	nested_vmcb(f)->save.last_excp_to = 0x4444;
}

static uint64_t injection(enum vmcb_event_type type, unsigned vector)
{
	return EVENT_VALID | (uint64_t)type << EVENT_TYPE_SHIFT | vector;
}

void toctou_exception(struct fixture *f)
{
	nested_vmcb(f)->control.event_inj = injection(EVENT_TYPE_EXCEPTION, VEC_GP) | EVENT_ERROR_VALID | 0x1234ull << EVENT_ERROR_SHIFT;
	toctou_intercept(f, INTERCEPT_HLT);
}

static void injected_int_n(struct fixture *f)
{
	nested_vmcb(f)->control.event_inj = injection(EVENT_TYPE_SOFT, 0x80);
	nested_vmcb(f)->control.next_rip = NESTED_CODE + 0x77;
	toctou_intercept(f, INTERCEPT_HLT);
}

static void injected_nmi(struct fixture *f)
{
	nested_vmcb(f)->control.event_inj = injection(EVENT_TYPE_NMI, VEC_NMI);
	toctou_intercept(f, INTERCEPT_HLT);
}

void toctou_cut_off(struct fixture *f)
{
	nested_vmcb(f)->control.event_inj = injection(EVENT_TYPE_INTR, 0x30);
	nested_vmcb(f)->save.segments[VMCB_IDTR].limit = 0;
	toctou_intercept(f, INTERCEPT(VMCB_EXCEPTION, VEC_GP));
}

static void virtual_interrupt(struct fixture *f)
{
	nested_vmcb(f)->control.int_ctl = VINTR_IRQ | VINTR_MASKING | 3 | 5ull << VINTR_PRIORITY_SHIFT | 0x51ull << VINTR_VECTOR_SHIFT;
	nested_vmcb(f)->save.rflags |= FLAG_IF;
	toctou_intercept(f, INTERCEPT_HLT);
}

static void interrupt_window(struct fixture *f)
{
	virtual_interrupt(f);
	nested_vmcb(f)->control.interrupt_shadow = VMCB_SHADOW;
	TOCTOU_CODE(f, 0x90, 0x90);
	toctou_intercept(f, INTERCEPT_VINTR);
}

static void physical_interrupt(struct fixture *f)
{
	nested_vmcb(f)->save.rflags |= FLAG_IF;
	f->interrupts = 1;
	toctou_intercept(f, INTERCEPT_INTR);
}

static void virtual_nmi(struct fixture *f)
{
	nested_vmcb(f)->control.int_ctl = VINTR_GIF_ENABLE | VINTR_GIF | VINTR_NMI_ENABLE | VINTR_NMI_PENDING;
	toctou_intercept(f, INTERCEPT_NMI);
	toctou_intercept(f, INTERCEPT_HLT);
}

void toctou_port(struct fixture *f)
{
	fixture_store(f, TOCTOU_IO_MAP + 8, 1, 2);
	nested_vmcb(f)->control.iopm_base_pa = TOCTOU_IO_MAP;
	TOCTOU_CODE(f, 0xe4, 0x40, 0xe6, 0x41); /* in $40, %al; out %al, $41 */
	toctou_intercept(f, INTERCEPT_IOIO);
	toctou_intercept(f, INTERCEPT_HLT);
}

void toctou_register(struct fixture *f)
{
	fixture_store(f, TOCTOU_MSR_MAP + 0x800 + 0x81 / 4, 1, 8); /* writes of STAR */
	nested_vmcb(f)->control.msrpm_base_pa = TOCTOU_MSR_MAP;
	TOCTOU_CODE(f, 0xb9, 0x81, 0, 0, 0xc0, 0x0f, 0x32, 0x0f, 0x30);
	toctou_intercept(f, INTERCEPT_MSR);
	toctou_intercept(f, INTERCEPT_HLT);
}

static void pauses(struct fixture *f)
{
	nested_vmcb(f)->control.pause_filter_count = 2;
	TOCTOU_CODE(f, 0xf3, 0x90, 0xf3, 0x90, 0xf3, 0x90, 0xf3, 0x90, VMMCALL);
	toctou_intercept(f, INTERCEPT_PAUSE);
	toctou_intercept(f, INTERCEPT_VMMCALL);
}

static void slow_pauses(struct fixture *f)
{
	pauses(f);
	nested_vmcb(f)->control.pause_filter_threshold = 1;
	TOCTOU_CODE(f, 0x90, 0x90, 0xf3, 0x90, 0x90, 0x90, 0xf3, 0x90, 0x90, 0x90, 0xf3, 0x90, 0x90, 0x90, 0xf3, 0x90, VMMCALL);
}

static void triple_fault(struct fixture *f)
{
	nested_vmcb(f)->save.segments[VMCB_IDTR].limit = 0;
	TOCTOU_CODE(f, 0x0f, 0x0b);
	toctou_intercept(f, INTERCEPT_SHUTDOWN);
}

static void protected_mode(struct fixture *f)
{
	struct vmcb_save *save = &nested_vmcb(f)->save;
	save->efer &= ~(EFER_LME | EFER_LMA);
	save->cr0 &= ~CR0_PG;
	save->segments[VMCB_CS].attrib = 0xc9b;
	toctou_intercept(f, INTERCEPT_SWINT);
	TOCTOU_CODE(f, 0x60, 0x1e, 0x07, 0xcd, 0x21); /* pusha; push %ds; pop %es; int $0x21 */
}

static void task_switch(struct fixture *f)
{
	protected_mode(f);
	fixture_store(f, 0x1048, 8, 0x000089f000000067); /* a TSS that is free */
	toctou_intercept(f, INTERCEPT_TASK_SWITCH);
	TOCTOU_CODE(f, 0xea, 0, 0, 0, 0, 0x48, 0);
}

static void real_mode(struct fixture *f)
{
	struct vmcb_save *save = &nested_vmcb(f)->save;
	protected_mode(f);
	save->cr0 &= ~CR0_PE;
	save->segments[VMCB_CS] = (struct vmcb_segment){.selector = 0x1000, .attrib = 0x9b, .limit = 0xffff, .base = NESTED_CODE};
	save->rip = 0;
	TOCTOU_CODE(f, 0x8c, 0xc8, 0x50, 0xe8, 1, 0, 0xf4, 0xf4); /* mov %cs, %ax; push %ax; call */
	toctou_intercept(f, INTERCEPT_HLT);
}

static void state_moves(struct fixture *f)
{
	with_nested_tables(f);
	nested_vmcb(f)->control.virt_ext = VIRT_EXT_VMLOAD_VMSAVE;
	nested_vmcb(f)->save.rax = TOCTOU_STATE_PAGE;
	TOCTOU_CODE(f, 0x0f, 0x01, 0xda, 0x0f, 0x01, 0xdb, VMMCALL);
	toctou_intercept(f, INTERCEPT_VMMCALL);
}

static void no_address_space(struct fixture *f)
{
	curious(f);
	nested_vmcb(f)->control.asid = 0;
}

static void no_cache_modes(struct fixture *f)
{
	curious_npt(f);
	nested_vmcb(f)->save.cr0 |= CR0_NW;
}

static void bad_pointers(struct fixture *f)
{
	pae(f);
	fixture_store(f, NESTED_PDPTES + 16, 8, (FIXTURE_TABLES + 0x3000) | PTE_P | PTE_W);
}

const struct toctou_guest toctou_guests[] = {
	{"state", curious, VMEXIT_VMMCALL},
	{"state, NPT", curious_npt, VMEXIT_VMMCALL},
	{"flush, NPT", flushing, VMEXIT_VMMCALL},
	{"PAE", pae, VMEXIT_CPUID},
	{"PAE, NPT", pae_npt, VMEXIT_CPUID},
	{"#NPF", nested_fault, VMEXIT_NPF},
	{"#NPF of a table", nested_table_fault, VMEXIT_NPF},
	{"#PF", page_fault, VMEXIT_EXCP0 + VEC_PF},
	{"branch records", branches, VMEXIT_VMMCALL},
	{"branch records, off", quiet_branches, VMEXIT_VMMCALL},
	{"injected exception", toctou_exception, VMEXIT_HLT},
	{"injected INT n", injected_int_n, VMEXIT_HLT},
	{"injected NMI", injected_nmi, VMEXIT_HLT},
	{"injection cut off", toctou_cut_off, VMEXIT_EXCP0 + VEC_GP},
	{"virtual interrupt", virtual_interrupt, VMEXIT_HLT},
	{"interrupt window", interrupt_window, VMEXIT_VINTR},
	{"interrupt", physical_interrupt, VMEXIT_INTR},
	{"virtual NMI", virtual_nmi, VMEXIT_HLT},
	{"port", toctou_port, VMEXIT_IOIO},
	{"MSR", toctou_register, VMEXIT_MSR},
	{"PAUSE", pauses, VMEXIT_PAUSE},
	{"PAUSE, threshold", slow_pauses, VMEXIT_VMMCALL},
	{"shutdown", triple_fault, VMEXIT_SHUTDOWN},
	{"protected mode", protected_mode, VMEXIT_SWINT},
	{"task switch", task_switch, VMEXIT_TASK_SWITCH},
	{"real mode", real_mode, VMEXIT_HLT},
	{"VMLOAD and VMSAVE, NPT", state_moves, VMEXIT_VMMCALL},
	{"refused: ASID", no_address_space, VMEXIT_INVALID},
	{"refused: CR0", no_cache_modes, VMEXIT_INVALID},
	{"refused: PDPTE", bad_pointers, VMEXIT_INVALID},
};
const unsigned toctou_guest_count = ARRAY_LEN(toctou_guests);
