/*
 * SMI and RSM, see smm.h. The state-save area has two layouts: that of AMD64 processors (APM 2, "SMM State-Save Area"), used by every
 * model with long mode, and that of the P6 family (SDM 3, "SMRAM State Save Map") for the others. One table of rows says where a
 * register lies in each.
 *
 * The area belongs to the handler, so RSM believes nothing of it: it is copied once, decoded into struct smm_state, checked as a whole,
 * and only then loaded. What is refused shuts the processor down with its registers as they were. A nested guest that was interrupted
 * is svm/smm.c's: its part is a flag and an address in the area, for which only the AMD64 layout has room; a model without long mode
 * has no SVM.
 */
#include "cpu/smm.h"

#include <string.h>

#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/nested.h"
#include "cpu/system.h"

/* Identifiers of the layouts. SMBASE can be relocated (bit 17); I/O instructions are not restarted (bit 16). */
#define REVISION_RELOCATION 0x20000u
#define REVISION_64 (REVISION_RELOCATION | 0x64)
#define REVISION_32 REVISION_RELOCATION
/* The field that says where the SMI came from: bits 2:0 are 2 for a nested guest. Processors make 6 of it under nested paging. */
#define SVM_STATE_GUEST 2u
#define SEGMENT_ATTR_DEFINED 0xf0ffu
/* Writable data, 4 GiB, as all segments are in the handler; CS is no exception. */
#define HANDLER_SEGMENT_ATTR (SEG_ATTR_G | SEG_ATTR_P | SEG_ATTR_S | SEG_TYPE_WRITABLE | SEG_TYPE_ACCESSED)

struct smm_segment {
	uint64_t selector, attr, limit, base;
};

/* What of a processor goes through the area, each field as wide as any layout has it. */
struct smm_state {
	uint64_t gpr[16], rip, rflags;
	uint64_t cr0, cr3, cr4, efer, dr6, dr7;
	struct smm_segment seg[SEG_ALL_COUNT], gdtr, idtr;
	uint64_t auto_halt, nmi_mask, smbase, revision;
	uint64_t svm_state, svm_vmcb;
};

/* ---- the layouts -------------------------------------------------------------------------------------------------------- */

/* Where a field lies: offset from SMBASE and bytes (0: not there) in either layout. The older one has attributes 8 bits further up. */
struct area_row {
	uint16_t field, offset_64, offset_32;
	uint8_t bytes_64, bytes_32, shift_32;
};

#define ROW_SHIFTED(member, at_64, length_64, at_32, length_32, shift)                                                      \
	{offsetof(struct smm_state, member), at_64, at_32, length_64, length_32, shift}
#define ROW(member, at_64, length_64, at_32, length_32) ROW_SHIFTED(member, at_64, length_64, at_32, length_32, 0)
#define SEGMENT_ROWS(n, at_64, selector_32, at_32)                                                                           \
	ROW(seg[n].selector, at_64, 2, selector_32, 4), ROW_SHIFTED(seg[n].attr, (at_64) + 2, 2, at_32, 4, 8),               \
	ROW(seg[n].limit, (at_64) + 4, 4, (at_32) + 4, 4), ROW(seg[n].base, (at_64) + 8, 8, (at_32) + 8, 4)
#define TABLE_ROWS(member, at_64, at_32)                                                                                     \
	ROW(member.limit, (at_64) + 4, 4, (at_32) + 4, 4), ROW(member.base, (at_64) + 8, 8, (at_32) + 8, 4)

static const struct area_row rows[] = {
	SEGMENT_ROWS(SEG_ES, 0xfe00, 0xffa8, 0xff84), SEGMENT_ROWS(SEG_CS, 0xfe10, 0xffac, 0xff90),
	SEGMENT_ROWS(SEG_SS, 0xfe20, 0xffb0, 0xff9c), SEGMENT_ROWS(SEG_DS, 0xfe30, 0xffb4, 0xff2c),
	SEGMENT_ROWS(SEG_FS, 0xfe40, 0xffb8, 0xff38), SEGMENT_ROWS(SEG_GS, 0xfe50, 0xffbc, 0xff44),
	TABLE_ROWS(gdtr, 0xfe60, 0xff6c), SEGMENT_ROWS(SEG_LDTR, 0xfe70, 0xffc0, 0xff78),
	TABLE_ROWS(idtr, 0xfe80, 0xff50), SEGMENT_ROWS(SEG_TR, 0xfe90, 0xffc4, 0xff5c),
	/* FEA0h to FEC8h (FF04h to FF10h): an I/O instruction to be restarted. None ever is, and the fields are zero. */
	ROW(auto_halt, 0xfec9, 1, 0xff02, 2), ROW(nmi_mask, 0xfeca, 1, 0, 0),
	ROW(efer, 0xfed0, 8, 0, 0), ROW(svm_state, 0xfed8, 8, 0, 0), ROW(svm_vmcb, 0xfee0, 8, 0, 0),
	ROW(revision, 0xfefc, 4, 0xfefc, 4), ROW(smbase, 0xff00, 4, 0xfef8, 4),
	ROW(cr4, 0xff48, 8, 0xff14, 4), ROW(cr3, 0xff50, 8, 0xfff8, 4), ROW(cr0, 0xff58, 8, 0xfffc, 4),
	ROW(dr7, 0xff60, 8, 0xffc8, 4), ROW(dr6, 0xff68, 8, 0xffcc, 4),
	ROW(rflags, 0xff70, 8, 0xfff4, 4), ROW(rip, 0xff78, 8, 0xfff0, 4),
	ROW(gpr[REG_R15], 0xff80, 8, 0, 0), ROW(gpr[REG_R14], 0xff88, 8, 0, 0), ROW(gpr[REG_R13], 0xff90, 8, 0, 0),
	ROW(gpr[REG_R12], 0xff98, 8, 0, 0), ROW(gpr[REG_R11], 0xffa0, 8, 0, 0), ROW(gpr[REG_R10], 0xffa8, 8, 0, 0),
	ROW(gpr[REG_R9], 0xffb0, 8, 0, 0), ROW(gpr[REG_R8], 0xffb8, 8, 0, 0),
	ROW(gpr[REG_RDI], 0xffc0, 8, 0xffec, 4), ROW(gpr[REG_RSI], 0xffc8, 8, 0xffe8, 4),
	ROW(gpr[REG_RBP], 0xffd0, 8, 0xffe4, 4), ROW(gpr[REG_RSP], 0xffd8, 8, 0xffe0, 4),
	ROW(gpr[REG_RBX], 0xffe0, 8, 0xffdc, 4), ROW(gpr[REG_RDX], 0xffe8, 8, 0xffd8, 4),
	ROW(gpr[REG_RCX], 0xfff0, 8, 0xffd4, 4), ROW(gpr[REG_RAX], 0xfff8, 8, 0xffd0, 4),
};

static bool layout_is_64(const struct vcpu *v)
{
	return vcpu_has(v, FEAT_LM);
}

/* The place of a row in the model's layout; false if it has none. */
static bool row_place(const struct vcpu *v, const struct area_row *row, unsigned *ret_offset, unsigned *ret_bytes, unsigned *ret_shift)
{
	bool wide = layout_is_64(v);
	*ret_bytes = wide ? row->bytes_64 : row->bytes_32;
	*ret_offset = (wide ? row->offset_64 : row->offset_32) - SMM_AREA_OFFSET;
	*ret_shift = wide ? 0 : row->shift_32;
	return *ret_bytes;
}

static uint64_t *row_field(struct smm_state *state, const struct area_row *row)
{
	return (uint64_t *)(void *)((char *)state + row->field);
}

static void area_encode(const struct vcpu *v, struct smm_state *state, uint8_t area[SMM_AREA_SIZE])
{
	unsigned offset, bytes, shift;
	memset(area, 0, SMM_AREA_SIZE);
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (!row_place(v, &rows[n], &offset, &bytes, &shift))
			continue;
		uint64_t value = *row_field(state, &rows[n]) << shift;
		memcpy(area + offset, &value, bytes);
	}
}

/* Fields that the layout does not have stay as they are. */
static void area_decode(const struct vcpu *v, const uint8_t area[SMM_AREA_SIZE], struct smm_state *state)
{
	unsigned offset, bytes, shift;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (!row_place(v, &rows[n], &offset, &bytes, &shift))
			continue;
		uint64_t value = 0;
		memcpy(&value, area + offset, bytes);
		*row_field(state, &rows[n]) = value >> shift;
	}
}

/* Physical addresses from SMBASE wrap at 4 GiB, as the handler's linear ones do. */
static gpa_t area_address(const struct vcpu *v)
{
	return (uint32_t)(v->smbase + SMM_AREA_OFFSET);
}

/* ---- registers to state and back ---------------------------------------------------------------------------------------- */

/* A null segment is one that is not present. */
static void segment_take(const struct segment *from, struct smm_segment *ret)
{
	uint64_t attr = from->unusable ? from->attr & ~SEG_ATTR_P : from->attr;
	*ret = (struct smm_segment){.selector = from->selector, .attr = attr, .limit = from->limit, .base = from->base};
}

static void table_take(const struct table_register *from, struct smm_segment *ret)
{
	*ret = (struct smm_segment){.limit = from->limit, .base = from->base};
}

static void state_take(struct vcpu *v, struct smm_state *ret)
{
	*ret = (struct smm_state){
		.rip = v->rip, .cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .efer = v->efer, .dr6 = v->dr6, .dr7 = v->dr7,
		.auto_halt = v->halted && !v->mwait, .nmi_mask = v->nmi_blocked, .smbase = v->smbase,
		.revision = layout_is_64(v) ? REVISION_64 : REVISION_32,
	};
	flags_materialize(v);
	ret->rflags = v->rflags;
	memcpy(ret->gpr, v->gpr, sizeof(ret->gpr));
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++)
		segment_take(&v->seg[n], &ret->seg[n]);
	table_take(&v->gdtr, &ret->gdtr);
	table_take(&v->idtr, &ret->idtr);
}

/* Bases that long mode extends are canonical in the registers, whatever the area says; the others have 32 bits. */
static uint64_t wide_base(const struct vcpu *v, uint64_t base)
{
	return (uint64_t)sign_extend(base, v->model.linear_bits);
}

static bool has_wide_base(unsigned seg)
{
	return seg == SEG_FS || seg == SEG_GS || seg == SEG_LDTR || seg == SEG_TR;
}

static void segment_apply(const struct vcpu *v, unsigned seg, const struct smm_segment *from, struct segment *ret)
{
	*ret = (struct segment){
		.base = has_wide_base(seg) ? wide_base(v, from->base) : (uint32_t)from->base,
		.limit = (uint32_t)from->limit,
		.selector = (uint16_t)from->selector,
		.attr = (uint16_t)(from->attr & SEGMENT_ATTR_DEFINED),
		.unusable = !(from->attr & SEG_ATTR_P),
	};
}

static void table_apply(const struct vcpu *v, const struct smm_segment *from, struct table_register *ret)
{
	*ret = (struct table_register){.base = wide_base(v, from->base), .limit = (uint16_t)from->limit};
}

/* The processor's registers; the MMU and what is derived are told by the caller. */
static void state_apply(struct vcpu *v, const struct smm_state *state)
{
	memcpy(v->gpr, state->gpr, sizeof(state->gpr));
	v->cr0 = (state->cr0 & CR0_DEFINED) | CR0_ET;
	v->cr3 = state->cr3;
	v->cr4 = state->cr4;
	v->efer = state->efer;
	debug_registers_load(v, state->dr6, state->dr7);
	vcpu_set_rflags(v, state->rflags);
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++)
		segment_apply(v, n, &state->seg[n], &v->seg[n]);
	table_apply(v, &state->gdtr, &v->gdtr);
	table_apply(v, &state->idtr, &v->idtr);
	v->rip = state->rip;
	v->smbase = (uint32_t)state->smbase;
}

/* The MMU follows v's registers, outside of any nested guest. */
static void tell_mmu(struct vcpu *v, const uint64_t pdpte[4])
{
	struct mmu_regs regs = {
		.cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .efer = v->efer, .pkru = v->pkru, .pkrs = v->pkrs, .smm = v->smm,
	};
	if (pdpte)
		memcpy(regs.pdpte, pdpte, sizeof(regs.pdpte));
	mmu_switch(v->mmu, &regs, NULL);
	vcpu_update_mode(v);
	fpu_update_units(v);
}

/* ---- SMI ---------------------------------------------------------------------------------------------------------------- */

/*
 * APM 2, "SMM Operating-Environment"; SDM 3, "Initial SMM Execution Environment". That IDTR is emptied is in neither, and what
 * processors do: an exception before the handler has loaded its own table shuts down.
 */
static void enter_environment(struct vcpu *v)
{
	for (unsigned n = 0; n < SEG_COUNT; n++)
		v->seg[n] = (struct segment){.limit = 0xffffffffu, .attr = HANDLER_SEGMENT_ATTR};
	v->seg[SEG_CS].selector = (uint16_t)(v->smbase >> 4);
	v->seg[SEG_CS].base = v->smbase;
	v->idtr = (struct table_register){0};
	v->rip = SMM_ENTRY_OFFSET;
	vcpu_set_rflags(v, 0);
	v->dr7 = DR7_FIXED_1;
	v->cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
	v->cr4 = 0;
	if (vcpu_has(v, FEAT_LM))
		v->efer = 0;
}

/* SMI, NMI and INIT wait; an IRET lets NMIs in again (SDM 3, "NMI Handling While in SMM"). */
static void enter_blocking(struct vcpu *v)
{
	v->smm_nmi_blocked = v->nmi_blocked;
	v->nmi_blocked = true;
	v->gif = true;
	v->halted = v->mwait = v->monitor_armed = false;
}

void smm_enter(struct vcpu *v)
{
	uint8_t area[SMM_AREA_SIZE];
	struct smm_state state;
	bool in_guest = v->guest_mode;
	state_take(v, &state);
	if (in_guest) {
		v->nested_ops->smm_enter(v, &state.svm_vmcb, &in_guest);
		state.svm_state = in_guest ? SVM_STATE_GUEST : 0;
		if (v->shutdown) /* L1 has no registers to be left to */
			return;
	}
	area_encode(v, &state, area);
	TRACE(v->trace, TRACE_INT, SMI, state.rip, v->smbase, state.svm_state, 0);
	v->smi_pending = false;
	v->smm = true;
	mem_write(v->space, vcpu_address_space(v), area_address(v), area, sizeof(area)); /* where there is no RAM, it is lost */
	enter_environment(v);
	enter_blocking(v);
	tell_mmu(v, NULL);
}

/* ---- RSM ---------------------------------------------------------------------------------------------------------------- */

bool smm_registers_valid(const struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	bool long_mode = (efer & EFER_LME) && (cr0 & CR0_PG);
	if (cr0 >> 32 || ((cr0 & CR0_PG) && !(cr0 & CR0_PE)) || ((cr0 & CR0_NW) && !(cr0 & CR0_CD)))
		return false;
	if ((cr4 & ~vcpu_cr4_bits(v)) || (efer & ~vcpu_efer_bits(v)) || cr3 >> v->model.maxphyaddr)
		return false;
	if (long_mode != !!(efer & EFER_LMA) || (long_mode && !(cr4 & CR4_PAE)))
		return false;
	return long_mode || !(cr4 & CR4_PCIDE);
}

bool smm_read_pdptes(const struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer, uint64_t ret[4])
{
	struct mmu_cpuid facts;
	memset(ret, 0, 4 * sizeof(*ret));
	if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || (efer & EFER_LMA))
		return true;
	if (!mem_read(v->space, 0, cr3 & BITS(31, 5), ret, 4 * sizeof(*ret)))
		return false;
	cpu_model_mmu_facts(&v->model, &facts);
	for (unsigned n = 0; n < 4; n++)
		if ((ret[n] & PTE_P) && (ret[n] & regime_pdpte_reserved(&facts)))
			return false;
	return true;
}

/* Virtual-8086 mode is one of legacy protected mode, and a code segment is there and of one size. */
static bool state_valid(const struct vcpu *v, const struct smm_state *state)
{
	bool long_mode = state->efer & EFER_LMA, code_64 = state->seg[SEG_CS].attr & SEG_ATTR_L;
	if (!smm_registers_valid(v, state->cr0, state->cr3, state->cr4, state->efer) || state->dr6 >> 32 || state->dr7 >> 32)
		return false;
	if ((state->rflags & FLAG_VM) && (long_mode || !(state->cr0 & CR0_PE)))
		return false;
	if (!(state->seg[SEG_CS].attr & SEG_ATTR_P))
		return false;
	return !(long_mode && code_64 && (state->seg[SEG_CS].attr & SEG_ATTR_D));
}

static bool state_has_guest(const struct vcpu *v, const struct smm_state *state)
{
	return v->nested_ops && (state->svm_state & SVM_STATE_GUEST);
}

/* Into the nested guest. Where VMRUN finds an event to inject, it has been delivered on return, or has led out again. */
static bool guest_return(struct vcpu *v, const struct smm_state *before, const struct smm_state *after)
{
	if (v->nested_ops->smm_leave(v, after->svm_vmcb, true)) {
		v->halted = v->guest_mode && v->rip == after->rip && (after->auto_halt & 1);
		return true;
	}
	v->smm = true;
	state_apply(v, before);
	tell_mmu(v, NULL);
	return false;
}

/*
 * Loads a state that has been checked, as far as it can be before a nested guest's own. False: the nested guest cannot go on, and
 * everything is as it was. A HLT is executed again, which is to go on waiting.
 */
static bool state_return(struct vcpu *v, const struct smm_state *before, const struct smm_state *after, const uint64_t pdpte[4])
{
	bool nmi_blocked = v->nmi_blocked;
	v->smm = false;
	v->nmi_blocked = v->smm_nmi_blocked;
	state_apply(v, after);
	if (state_has_guest(v, after)) {
		if (guest_return(v, before, after))
			return true;
		v->nmi_blocked = nmi_blocked;
		return false;
	}
	tell_mmu(v, pdpte);
	v->rip = mask_rip(v, v->rip);
	v->halted = after->auto_halt & 1;
	return true;
}

/* What the area held must not be mixed with what the TLB knows of other tables: everything cached is dropped. */
static bool smm_leave(struct vcpu *v)
{
	uint8_t area[SMM_AREA_SIZE];
	struct smm_state before, after;
	uint64_t pdpte[4] = {0};
	if (!mem_read(v->space, vcpu_address_space(v), area_address(v), area, sizeof(area)))
		return false;
	state_take(v, &before);
	after = before;
	area_decode(v, area, &after);
	if (!state_valid(v, &after))
		return false;
	if (!state_has_guest(v, &after) && !smm_read_pdptes(v, after.cr0, after.cr3, after.cr4, after.efer, pdpte))
		return false;
	if (!state_return(v, &before, &after, pdpte))
		return false;
	mmu_flush_all(v->mmu);
	v->nmi_blocked = v->smm_nmi_blocked;
	v->smm_nmi_blocked = false;
	v->halted = after.auto_halt & 1; /* HLT is executed again: no more than going on to wait */
	TRACE(v->trace, TRACE_INT, RSM, v->rip, v->smbase, after.svm_state, 0);
	return true;
}

HANDLER(exec_RSM)
{
	if (!v->smm) {
		raise_ud(v);
		FAIL(v, i);
	}
	v->rip = insn_rip(i);
	if (!smm_leave(v)) {
		TRACE(v->trace, TRACE_RESET, RSM_FAILED, insn_rip(i), v->smbase, 0, 0);
		v->fault_chain_length = 0;
		v->shutdown = true;
		v->status = ST_SHUTDOWN;
		FAIL(v, i);
	}
	return engine_stop(v, i, v->rip);
}
