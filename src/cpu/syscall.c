/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT: system calls that read no descriptor. Where the vendors differ:
 *   SYSCALL, SYSRET outside 64-bit mode   Intel: #UD             AMD: work, also without long mode
 *   SYSENTER, SYSEXIT in long mode        Intel: work            AMD: #UD
 *   SYSRET to a non-canonical RCX         Intel: #GP at CPL 0    AMD: the fetch faults at CPL 3
 */
#include "cpu/system.h"

static void load_flat(struct vcpu *v, uint16_t cs, uint16_t ss, unsigned cpl, bool long_code)
{
	uint16_t dpl = (uint16_t)(cpl << SEG_ATTR_DPL_SHIFT);
	segment_set_flat(&v->seg[SEG_CS], (uint16_t)((cs & ~3u) | cpl), (uint16_t)((long_code ? FLAT_CODE64 : FLAT_CODE32) | dpl));
	segment_set_flat(&v->seg[SEG_SS], (uint16_t)((ss & ~3u) | cpl), (uint16_t)(FLAT_DATA | dpl));
}

/*
 * Whether a single-step trap follows depends on TF at the end of these instructions, not at their beginning. (APM 2,
 * "Single-Step Trap Exception"; the engine leaves the trap to them.)
 */
static unsigned leave(struct vcpu *v, const struct insn *i, uint64_t rip)
{
	if (v->rflags & FLAG_TF)
		v->pending_dr6 |= DR6_BS;
	vcpu_update_mode(v);
	return engine_stop(v, i, rip);
}

static bool syscall_exists(const struct vcpu *v)
{
	return (v->efer & EFER_SCE) && (v->mode == MODE_LONG || (v->model.vendor == VENDOR_AMD && in_protected_mode(v)));
}

HANDLER(exec_SYSCALL)
{
	if (!syscall_exists(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	uint16_t selector = (uint16_t)(v->star >> 32);
	uint64_t next = insn_next_rip(v, i), rip;
	flags_materialize(v);
	if (v->efer & EFER_LMA) {
		v->gpr[REG_RCX] = next;
		v->gpr[REG_R11] = v->rflags & ~FLAG_RF;
		rip = v->mode == MODE_LONG ? v->lstar : v->cstar;
		v->rflags = (v->rflags & ~(v->sfmask | FLAG_RF)) | FLAG_FIXED_1;
	} else {
		v->gpr[REG_RCX] = (uint32_t)next;
		rip = (uint32_t)v->star;
		v->rflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
	}
	load_flat(v, selector, (uint16_t)(selector + 8), 0, v->efer & EFER_LMA);
	return leave(v, i, rip);
}

HANDLER(exec_SYSRET)
{
	bool wide = i->opsize == 8;
	if (!syscall_exists(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (v->cpl || (wide && v->model.vendor == VENDOR_INTEL && !is_canonical(v->gpr[REG_RCX], vcpu_linear_bits(v)))) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	uint16_t selector = (uint16_t)(v->star >> 48);
	uint64_t rip = wide ? v->gpr[REG_RCX] : (uint32_t)v->gpr[REG_RCX];
	flags_materialize(v);
	if (v->efer & EFER_LMA)
		v->rflags = (v->gpr[REG_R11] & FLAGS_DEFINED & ~(FLAG_RF | FLAG_VM)) | FLAG_FIXED_1;
	else
		v->rflags |= FLAG_IF;
	load_flat(v, (uint16_t)(selector + (wide ? 16 : 0)), (uint16_t)(selector + 8), 3, wide);
	return leave(v, i, rip);
}

static bool sysenter_exists(const struct vcpu *v)
{
	return !(v->model.vendor == VENDOR_AMD && (v->efer & EFER_LMA));
}

HANDLER(exec_SYSENTER)
{
	if (!sysenter_exists(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!(v->cr0 & CR0_PE) || selector_is_null((uint16_t)v->sysenter_cs)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	uint16_t selector = (uint16_t)v->sysenter_cs & 0xfffc;
	bool wide = v->efer & EFER_LMA;
	flags_materialize(v);
	v->rflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
	v->gpr[REG_RSP] = wide ? v->sysenter_esp : (uint32_t)v->sysenter_esp;
	load_flat(v, selector, (uint16_t)(selector + 8), 0, wide);
	vcpu_update_mode(v);
	return engine_stop(v, i, wide ? v->sysenter_eip : (uint32_t)v->sysenter_eip);
}

HANDLER(exec_SYSEXIT)
{
	bool wide = i->opsize == 8;
	unsigned bits = vcpu_linear_bits(v);
	if (!sysenter_exists(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	bool bad_target = wide && (!is_canonical(v->gpr[REG_RCX], bits) || !is_canonical(v->gpr[REG_RDX], bits));
	if (!in_protected_mode(v) || v->cpl || selector_is_null((uint16_t)v->sysenter_cs) || bad_target) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	uint16_t selector = (uint16_t)((v->sysenter_cs & 0xfffc) + (wide ? 32 : 16));
	uint64_t rip = wide ? v->gpr[REG_RDX] : (uint32_t)v->gpr[REG_RDX];
	v->gpr[REG_RSP] = wide ? v->gpr[REG_RCX] : (uint32_t)v->gpr[REG_RCX];
	load_flat(v, selector, (uint16_t)(selector + 8), 3, wide);
	vcpu_update_mode(v);
	return engine_stop(v, i, rip);
}
