/* Gates of the x87, MMX, SSE and AVX, pending x87 exceptions, and the guest's MXCSR in the host's; see fpu.h. */
#include "cpu/fpu.h"
#include "cpu/nested.h"

static bool sse_is_on(const struct vcpu *v)
{
	return !(v->cr0 & CR0_EM) && (v->cr4 & CR4_OSFXSR);
}

static bool avx_is_on(const struct vcpu *v)
{
	const uint64_t both = XFEATURE_SSE | XFEATURE_AVX;
	return (v->cr4 & CR4_OSXSAVE) && (v->fpu->xcr0 & both) == both;
}

/* Whether the host's instructions may not stand in for the guest's: they would not fault, or are those of another processor. */
static bool host_fp_is_blocked(const struct vcpu *v)
{
#if defined(__x86_64__)
	return (v->fpu->mxcsr & MXCSR_MASKS) != MXCSR_MASKS;
#else
	return true;
#endif
}

void fpu_update_units(struct vcpu *v)
{
	bool switched = v->cr0 & CR0_TS, emulated = v->cr0 & CR0_EM, pending = v->fpu->fsw & FSW_ES;
	v->unit_blocked = (uint8_t)((switched || emulated || pending ? UNIT_BLOCKED_X87 | UNIT_BLOCKED_MMX : 0) |
				    (switched || !sse_is_on(v) ? UNIT_BLOCKED_SSE : 0) |
				    (switched || !avx_is_on(v) ? UNIT_BLOCKED_AVX : 0) |
				    (host_fp_is_blocked(v) ? UNIT_BLOCKED_HOST_FP : 0));
}

/* FERR#. IGNNE# is only held while it is up. */
static void set_error_line(struct vcpu *v, bool raised)
{
	v->fpu_error_line = raised;
	v->fpu_error_ignored = false;
	if (v->ops->fpu_error)
		v->ops->fpu_error(v->machine, v->index, raised);
}

void vcpu_ignore_fpu_error(struct vcpu *v)
{
	v->fpu_error_ignored = v->fpu_error_line;
}

void fpu_update_pending(struct vcpu *v)
{
	struct fpu_state *fpu = v->fpu;
	bool pending = fpu->fsw & ~fpu->fcw & FSW_EXCEPTIONS;
	fpu->fsw = (uint16_t)((fpu->fsw & ~(FSW_ES | FSW_B)) | (pending ? FSW_ES | FSW_B : 0));
	if (!pending && v->fpu_error_line)
		set_error_line(v, false);
	fpu_update_units(v);
}

bool fpu_check_no_wait(struct vcpu *v)
{
	return !(v->cr0 & (CR0_EM | CR0_TS)) || raise_exception(v, VEC_NM);
}

bool fpu_check_pending(struct vcpu *v)
{
	if (!(v->fpu->fsw & FSW_ES))
		return true;
	if ((v->cr0 & CR0_NE) || v->forced)
		return raise_exception(v, VEC_MF);
	if (v->fpu_error_ignored)
		return true;
	if (v->guest_mode && v->nested_ops->ferr_freeze(v))
		return false;
	if (!v->fpu_error_line)
		set_error_line(v, true);
	v->halted = true;
	v->status = ST_STOP;
	return false;
}

static bool check_x87(struct vcpu *v)
{
	return fpu_check_no_wait(v) && fpu_check_pending(v);
}

/* What is left to look at when the unit itself is on. */
static bool check_switched(struct vcpu *v)
{
	return !(v->cr0 & CR0_TS) || raise_exception(v, VEC_NM);
}

static bool check_mmx(struct vcpu *v)
{
	if (v->cr0 & CR0_EM)
		return raise_ud(v);
	return check_switched(v) && check_x87(v);
}

bool fpu_check_unit(struct vcpu *v, const struct insn *i)
{
	switch (insn_rows[i->row].unit) {
	case INSN_UNIT_X87: return LIKELY(!(v->unit_blocked & UNIT_BLOCKED_X87)) || check_x87(v);
	case INSN_UNIT_MMX: return LIKELY(!(v->unit_blocked & UNIT_BLOCKED_MMX)) || check_mmx(v);
	case INSN_UNIT_SSE: return LIKELY(!(v->unit_blocked & UNIT_BLOCKED_SSE)) || (sse_is_on(v) ? check_switched(v) : raise_ud(v));
	case INSN_UNIT_AVX: return LIKELY(!(v->unit_blocked & UNIT_BLOCKED_AVX)) || (avx_is_on(v) ? check_switched(v) : raise_ud(v));
	default: return true;
	}
}

/* ---- MXCSR --------------------------------------------------------------------------------------------------------------- */

/*
 * v->fpu->mxcsr always has the guest's control bits and the flags that were set by plain handlers; while v runs, those of fast
 * handlers are in the host's MXCSR. Flags are sticky, so a fold need not clear the host's: they are in both places until the guest
 * clears both.
 */
#if defined(__x86_64__)
static void host_mxcsr_set(uint32_t value)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory");
}

static uint32_t host_mxcsr_get(void)
{
	uint32_t value;
	__asm__ volatile("stmxcsr %0" : "=m"(value) : : "memory");
	return value;
}

/*
 * Fast handlers and fpu_host.c count on an x87 as FNINIT leaves it. That of a client may have another precision, or exceptions
 * unmasked, which the guest's numbers would raise in the client.
 */
static void host_x87_borrow(struct vcpu *v)
{
	__asm__ volatile("fnstenv %0\n\tfnclex\n\tfldcw %1" : "=m"(v->host_x87) : "m"((const uint16_t){FCW_INITIAL}));
}

static void host_x87_return(const struct vcpu *v)
{
	__asm__ volatile("fldenv %0" : : "m"(v->host_x87));
}
#else
static void host_mxcsr_set(uint32_t value) { (void)value; }
static uint32_t host_mxcsr_get(void) { return 0; }
static void host_x87_borrow(struct vcpu *v) { (void)v; }
static void host_x87_return(const struct vcpu *v) { (void)v; }
#endif

static void put_into_host(const struct vcpu *v)
{
	host_mxcsr_set((v->fpu->mxcsr & ~MXCSR_EXCEPTIONS) | MXCSR_MASKS);
}

uint32_t mxcsr_read(const struct vcpu *v)
{
	return v->fpu->mxcsr | (v->mxcsr_in_host ? host_mxcsr_get() & MXCSR_EXCEPTIONS : 0);
}

void mxcsr_write(struct vcpu *v, uint32_t value)
{
	v->fpu->mxcsr = value;
	fpu_update_units(v);
	if (v->mxcsr_in_host)
		put_into_host(v);
}

void mxcsr_enter(struct vcpu *v)
{
	v->host_mxcsr = host_mxcsr_get();
	v->mxcsr_in_host = true;
	fpu_update_units(v);
	put_into_host(v);
	host_x87_borrow(v);
}

void mxcsr_leave(struct vcpu *v)
{
	v->fpu->mxcsr = mxcsr_read(v);
	v->mxcsr_in_host = false;
	host_mxcsr_set(v->host_mxcsr);
	host_x87_return(v);
}
