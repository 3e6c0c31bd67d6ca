/*
 * Control registers, descriptor table registers, and what else steers translation: each write is validated here in full, told to the
 * MMU, and ends the block. (SDM 3, "Control Registers"; SDM 2, "MOV - Move to/from Control Registers")
 */
#include "cpu/flags.h"
#include "cpu/fpu.h"
#include "cpu/nested.h"
#include "cpu/system.h"

/* ---- CR0 ---------------------------------------------------------------------------------------------------------------- */

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static bool load_pdptes(struct vcpu *v)
{
	return mmu_load_pdptes(v->mmu, v->cr3) || raise_gp(v, 0);
}

/* Intel's processors refuse 64-bit mode with such a task register; AMD's do not look, and a guest of KVM starts with one. */
static bool refuses_tss(const struct vcpu *v)
{
	return v->model.vendor == VENDOR_INTEL && (v->seg[SEG_TR].attr & (SEG_ATTR_TYPE & ~2u)) == SYS_TSS16_AVAILABLE;
}

/* Paging goes on: IA-32e mode has its conditions. */
static bool paging_may_start(struct vcpu *v)
{
	if (!(v->efer & EFER_LME))
		return true;
	if (!(v->cr4 & CR4_PAE) || (v->seg[SEG_CS].attr & SEG_ATTR_L) || refuses_tss(v))
		return raise_gp(v, 0);
	return true;
}

static bool paging_may_end(struct vcpu *v)
{
	return !((v->cr4 & CR4_PCIDE) || v->mode == MODE_LONG) || raise_gp(v, 0);
}

static bool cr0_check(struct vcpu *v, uint64_t value)
{
	if (value >> 32)
		return raise_gp(v, 0);
	if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
		return raise_gp(v, 0);
	if (!((v->cr0 ^ value) & CR0_PG))
		return true;
	return value & CR0_PG ? paging_may_start(v) : paging_may_end(v);
}

/* PAE paging has its table of four. */
static bool cr0_reach(struct vcpu *v, uint64_t value)
{
	bool reload = (v->cr0 ^ value) & (CR0_PG | CR0_CD | CR0_NW);
	return !(reload && (value & CR0_PG) && (v->cr4 & CR4_PAE) && !(v->efer & EFER_LME)) || load_pdptes(v);
}

static void set_efer_lma(struct vcpu *v, bool on)
{
	v->efer = on ? v->efer | EFER_LMA : v->efer & ~EFER_LMA;
	mmu_write_efer(v->mmu, v->efer);
}

static bool cr0_write(struct vcpu *v, uint64_t value)
{
	if (!cr0_check(v, value))
		return false;
	value = (value & CR0_DEFINED) | CR0_ET;
	if (!cr0_reach(v, value))
		return false;
	TRACE(v->trace, TRACE_ROLE, CR_WRITE, 0, v->cr0, value, v->rip);
	bool switched = ((v->cr0 ^ value) & CR0_PG) && (v->efer & EFER_LME);
	v->cr0 = value;
	if (switched && (value & CR0_PG))
		set_efer_lma(v, true);
	mmu_write_cr0(v->mmu, value);
	if (switched && !(value & CR0_PG))
		set_efer_lma(v, false);
	fpu_update_units(v);
	return true;
}

/* ---- CR3, CR4, CR8 ------------------------------------------------------------------------------------------------------ */

static uint64_t cr3_no_flush(const struct vcpu *v)
{
	return v->cr4 & CR4_PCIDE ? CR3_NO_FLUSH : 0;
}

static bool cr3_check(struct vcpu *v, uint64_t value)
{
	return !(v->mode == MODE_LONG && (value & ~cr3_no_flush(v)) >> v->model.maxphyaddr) || raise_gp(v, 0);
}

static bool cr3_write(struct vcpu *v, uint64_t value)
{
	bool no_flush = value & cr3_no_flush(v);
	if (!cr3_check(v, value))
		return false;
	value &= ~cr3_no_flush(v);
	if (pae_paging(v->cr0, v->cr4, v->efer) && !mmu_load_pdptes(v->mmu, value))
		return raise_gp(v, 0);
	TRACE(v->trace, TRACE_ROLE, CR_WRITE, 3, v->cr3, value, v->rip);
	v->cr3 = value;
	mmu_write_cr3(v->mmu, value, no_flush);
	return true;
}

struct cr4_bits {
	uint64_t bits;
	enum feature feature;
};

/* MOV CR4 sets a bit only if the feature behind it is announced. */
static const struct cr4_bits cr4_features[] = {
	{CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC}, {CR4_DE, FEAT_DE}, {CR4_PSE, FEAT_PSE}, {CR4_PAE, FEAT_PAE},
	{CR4_MCE, FEAT_MCE}, {CR4_PGE, FEAT_PGE}, {CR4_PCE, FEAT_NONE}, {CR4_OSFXSR, FEAT_FXSR},
	{CR4_OSXMMEXCPT, FEAT_SSE}, {CR4_OSXSAVE, FEAT_XSAVE}, {CR4_UMIP, FEAT_UMIP},
	{CR4_LA57, FEAT_LA57}, {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PCIDE, FEAT_PCID}, {CR4_SMEP, FEAT_SMEP},
	{CR4_SMAP, FEAT_SMAP}, {CR4_PKE, FEAT_PKU}, {CR4_PKS, FEAT_PKS},
};

uint64_t vcpu_cr4_bits(const struct vcpu *v)
{
	uint64_t bits = 0;
	for (size_t n = 0; n < ARRAY_LEN(cr4_features); n++)
		bits |= vcpu_has(v, cr4_features[n].feature) ? cr4_features[n].bits : 0;
	return bits;
}

static bool cr4_check(struct vcpu *v, uint64_t value)
{
	uint64_t changed = v->cr4 ^ value;
	if (value & ~vcpu_cr4_bits(v))
		return raise_gp(v, 0);
	if ((v->efer & EFER_LMA) && (!(value & CR4_PAE) || (changed & CR4_LA57)))
		return raise_gp(v, 0);
	if ((changed & value & CR4_PCIDE) && (!(v->efer & EFER_LMA) || (v->cr3 & CR3_PCID_MASK)))
		return raise_gp(v, 0);
	return true;
}

static bool cr4_reach(struct vcpu *v, uint64_t value)
{
	bool reload = (v->cr4 ^ value) & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP);
	return !(reload && pae_paging(v->cr0, value, v->efer)) || load_pdptes(v);
}

static bool cr4_write(struct vcpu *v, uint64_t value)
{
	if (!cr4_check(v, value) || !cr4_reach(v, value))
		return false;
	TRACE(v->trace, TRACE_ROLE, CR_WRITE, 4, v->cr4, value, v->rip);
	v->cr4 = value;
	mmu_write_cr4(v->mmu, value);
	fpu_update_units(v);
	return true;
}

static bool cr8_check(struct vcpu *v, uint64_t value)
{
	return !(value & ~0xfull) || raise_gp(v, 0);
}

/* A nested guest may have a TPR of its own. */
static bool cr8_write(struct vcpu *v, uint64_t value)
{
	if (!cr8_check(v, value))
		return false;
	if (v->guest_mode && v->nested_ops->virtual_tpr(v, true, &value))
		return true;
	if (v->ops->cr8_write)
		v->ops->cr8_write(v->machine, v->index, value);
	return true;
}

static uint64_t cr8_read(struct vcpu *v)
{
	uint64_t value;
	if (v->guest_mode && v->nested_ops->virtual_tpr(v, false, &value))
		return value;
	return v->ops->cr8_read ? v->ops->cr8_read(v->machine, v->index) : 0;
}

/* ---- MOV CR, LMSW, SMSW, CLTS ------------------------------------------------------------------------------------------- */

unsigned control_register(const struct insn *i)
{
	return i->reg == 0 && (i->flags & INSN_LOCK) ? 8 : i->reg; /* AMD's other name for CR8 */
}

bool control_register_exists(unsigned number)
{
	return number == 0 || (number >= 2 && number <= 4) || number == 8;
}

bool control_register_permits(struct vcpu *v, unsigned number, uint64_t value)
{
	switch (number) {
	case 0: return cr0_check(v, value);
	case 3: return cr3_check(v, value);
	case 4: return cr4_check(v, value);
	case 8: return cr8_check(v, value);
	default: return true;
	}
}

static bool cpl0_required(struct vcpu *v)
{
	return !v->cpl || raise_gp(v, 0);
}

HANDLER(exec_MOV_FROM_CR)
{
	unsigned number = control_register(i);
	uint64_t value;
	if (!control_register_exists(number)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!cpl0_required(v))
		FAIL(v, i);
	v->current = i;
	switch (number) {
	case 0: value = v->cr0; break;
	case 2: value = v->cr2; break;
	case 3: value = v->cr3; break;
	case 4: value = v->cr4; break;
	default: value = cr8_read(v); break;
	}
	register_write(v, i->rm, v->mode == MODE_LONG ? 8 : 4, value);
	NEXT(v, i);
}

static bool control_register_write(struct vcpu *v, unsigned number, uint64_t value)
{
	switch (number) {
	case 0: return cr0_write(v, value);
	case 2: v->cr2 = value; return true;
	case 3: return cr3_write(v, value);
	case 4: return cr4_write(v, value);
	default: return cr8_write(v, value);
	}
}

HANDLER(exec_MOV_TO_CR)
{
	unsigned number = control_register(i);
	if (!control_register_exists(number)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!cpl0_required(v))
		FAIL(v, i);
	v->current = i;
	v->rip = insn_rip(i);
	/* The address of the next instruction is counted in the mode that this one ran in. */
	uint64_t next = insn_next_rip(v, i);
	if (!control_register_write(v, number, register_read(v, i->rm, v->mode == MODE_LONG ? 8 : 4)))
		FAIL(v, i);
	vcpu_update_mode(v);
	return engine_stop(v, i, next);
}

HANDLER(exec_SMSW)
{
	if (!umip_permits(v))
		FAIL(v, i);
	if (i->flags & INSN_MEM) {
		if (!operand_write(v, i, 2, v->cr0))
			FAIL(v, i);
	} else {
		register_write(v, i->rm, i->opsize, v->cr0);
	}
	NEXT(v, i);
}

HANDLER(exec_LMSW)
{
	uint64_t value;
	if (!cpl0_required(v) || !rm_read(v, i, 2, &value))
		FAIL(v, i);
	uint64_t mask = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
	v->rip = insn_rip(i);
	uint64_t next = insn_next_rip(v, i);
	if (!cr0_write(v, (v->cr0 & ~(mask & ~CR0_PE)) | (value & mask))) /* PE can be set but not cleared */
		FAIL(v, i);
	vcpu_update_mode(v);
	return engine_stop(v, i, next);
}

HANDLER(exec_CLTS)
{
	if (!cpl0_required(v))
		FAIL(v, i);
	v->cr0 &= ~CR0_TS;
	mmu_write_cr0(v->mmu, v->cr0);
	fpu_update_units(v);
	STOP(v, i);
}

/* ---- GDTR and IDTR ------------------------------------------------------------------------------------------------------ */

static unsigned store_table(struct vcpu *v, const struct insn *i, const struct table_register *table)
{
	uint8_t bytes[10];
	unsigned length = v->mode == MODE_LONG ? 10 : 6;
	uint64_t linear;
	if (!umip_permits(v))
		FAIL(v, i);
	for (unsigned n = 0; n < length; n++)
		bytes[n] = (uint8_t)(n < 2 ? (uint64_t)table->limit >> 8 * n : table->base >> 8 * (n - 2));
	if (!segment_linear(v, (enum seg)i->seg, operand_offset(v, i), length, PFERR_W, &linear) ||
	    !privilege_write(v, linear, bytes, length, v->cpl == 3))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_SGDT) { return store_table(v, i, &v->gdtr); }
HANDLER(exec_SIDT) { return store_table(v, i, &v->idtr); }

static unsigned load_table(struct vcpu *v, const struct insn *i, struct table_register *table)
{
	uint64_t limit, base, offset = operand_offset(v, i);
	unsigned size = v->mode == MODE_LONG ? 8 : 4;
	if (!cpl0_required(v) || !memory_read(v, i, (enum seg)i->seg, offset, 2, &limit) ||
	    !memory_read(v, i, (enum seg)i->seg, (offset + 2) & size_mask(i->addrsize), size, &base))
		FAIL(v, i);
	if (size == 8 && !is_canonical(base, v->model.linear_bits)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (size == 4 && i->opsize == 2)
		base &= 0xffffff;
	table->limit = (uint16_t)limit;
	table->base = base;
	NEXT(v, i);
}

HANDLER(exec_LGDT) { return load_table(v, i, &v->gdtr); }
HANDLER(exec_LIDT) { return load_table(v, i, &v->idtr); }

/* ---- caches and translations -------------------------------------------------------------------------------------------- */

HANDLER(exec_INVLPG)
{
	if (!cpl0_required(v))
		FAIL(v, i);
	uint64_t offset = operand_offset(v, i);
	if (v->mode == MODE_LONG)
		offset += i->seg == SEG_FS || i->seg == SEG_GS ? v->seg[i->seg].base : 0;
	else
		offset = (uint32_t)(offset + v->seg[i->seg].base);
	if (is_canonical(offset, vcpu_linear_bits(v))) /* otherwise nothing can be cached for it */
		mmu_invlpg(v->mmu, offset);
	STOP(v, i);
}

/* SDM 2, "INVPCID": PCIDs other than 0 exist only under CR4.PCIDE. */
static bool invpcid_check(struct vcpu *v, uint64_t type, uint64_t pcid, uint64_t address)
{
	if (pcid >> 12)
		return raise_gp(v, 0);
	bool names_pcid = type == INVPCID_ADDRESS || type == INVPCID_SINGLE;
	if (names_pcid && pcid && !(v->cr4 & CR4_PCIDE))
		return raise_gp(v, 0);
	if (type == INVPCID_ADDRESS && !is_canonical(address, v->model.linear_bits))
		return raise_gp(v, 0);
	return true;
}

HANDLER(exec_INVPCID)
{
	uint64_t pcid, address, offset = operand_offset(v, i);
	uint64_t type = register_read(v, i->reg, v->mode == MODE_LONG ? 8 : 4);
	if (!cpl0_required(v))
		FAIL(v, i);
	if (type > INVPCID_ALL) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (!memory_read(v, i, (enum seg)i->seg, offset, 8, &pcid) ||
	    !memory_read(v, i, (enum seg)i->seg, (offset + 8) & size_mask(i->addrsize), 8, &address) ||
	    !invpcid_check(v, type, pcid, address))
		FAIL(v, i);
	mmu_invpcid(v->mmu, (enum invpcid_type)type, (unsigned)pcid, address);
	STOP(v, i);
}

/* No caches to write back or to lose. */
static unsigned cache_instruction(struct vcpu *v, const struct insn *i)
{
	if (!cpl0_required(v))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_INVD) { return cache_instruction(v, i); }
HANDLER(exec_WBINVD) { return cache_instruction(v, i); }

static unsigned set_ac(struct vcpu *v, const struct insn *i, bool on)
{
	if (v->cpl) {
		raise_ud(v);
		FAIL(v, i);
	}
	v->rflags = on ? v->rflags | FLAG_AC : v->rflags & ~FLAG_AC;
	mmu_select_class(&v->hot, false, on);
	NEXT(v, i);
}

HANDLER(exec_CLAC) { return set_ac(v, i, false); }
HANDLER(exec_STAC) { return set_ac(v, i, true); }

/* ---- protection keys ---------------------------------------------------------------------------------------------------- */

static bool pkru_check(struct vcpu *v, bool write)
{
	if (!(v->cr4 & CR4_PKE))
		return raise_ud(v);
	bool bad = (uint32_t)v->gpr[REG_RCX] || (write && (uint32_t)v->gpr[REG_RDX]);
	return !bad || raise_gp(v, 0);
}

HANDLER(exec_RDPKRU)
{
	if (!pkru_check(v, false))
		FAIL(v, i);
	v->gpr[REG_RAX] = v->pkru;
	v->gpr[REG_RDX] = 0;
	NEXT(v, i);
}

HANDLER(exec_WRPKRU)
{
	if (!pkru_check(v, true))
		FAIL(v, i);
	v->pkru = (uint32_t)v->gpr[REG_RAX];
	mmu_write_pkru(v->mmu, v->pkru);
	NEXT(v, i);
}
