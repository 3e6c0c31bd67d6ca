/*
 * Intercepts of instructions: whether one that the nested guest is about to execute ends in a #VMEXIT instead (APM 2, "Instruction
 * Intercepts"). The processor asks before it executes an instruction whose row in table.def names an intercept; the row's own limits
 * (protected mode, CPL 0) were looked at. An instruction that CPUID does not announce has no row, so it is #UD first.
 *
 * Where the manual puts exceptions before an intercept, they are raised here by the checks that the instruction itself uses
 * (cpu/system.h). Exceptions from memory always come later. What is not intercepted is left to the instruction, checks and all.
 */
#include "cpu/system.h"
#include "svm/state.h"

/* The words of table.def's column `svm`. */
enum column {
	COLUMN_NONE, COLUMN_CR_READ, COLUMN_CR_WRITE, COLUMN_DR_READ, COLUMN_DR_WRITE, COLUMN_IDTR_READ, COLUMN_GDTR_READ,
	COLUMN_LDTR_READ, COLUMN_TR_READ, COLUMN_IDTR_WRITE, COLUMN_GDTR_WRITE, COLUMN_LDTR_WRITE, COLUMN_TR_WRITE, COLUMN_RDTSC,
	COLUMN_RDPMC, COLUMN_PUSHF, COLUMN_POPF, COLUMN_CPUID, COLUMN_RSM, COLUMN_IRET, COLUMN_SWINT, COLUMN_INVD, COLUMN_PAUSE,
	COLUMN_HLT, COLUMN_INVLPG, COLUMN_INVLPGA, COLUMN_IOIO, COLUMN_MSR, COLUMN_VMRUN, COLUMN_VMMCALL, COLUMN_VMLOAD, COLUMN_VMSAVE,
	COLUMN_STGI, COLUMN_CLGI, COLUMN_SKINIT, COLUMN_RDTSCP, COLUMN_ICEBP, COLUMN_WBINVD, COLUMN_MONITOR, COLUMN_MWAIT,
	COLUMN_INVPCID, COLUMN_XSETBV, COLUMN_COUNT
};

#define COLUMN_OF(row, svm, vmx) [ROW_##row] = COLUMN_##svm,
static const uint8_t columns[INSN_ROW_COUNT] = {INSN_FOR_EACH_INTERCEPT(COLUMN_OF)};
#undef COLUMN_OF

/* ---- exits ---------------------------------------------------------------------------------------------------------------------- */

static bool leave(struct vcpu *v, const struct insn *i, uint64_t code, uint64_t info_1, uint64_t info_2)
{
	vmexit(v, code, info_1, info_2);
	v->nested->exit.next_rip = insn_next_rip(v, i);
	return false;
}

/* The intercepts of the three miscellaneous vectors have exit codes in the same order. */
static bool leave_misc(struct vcpu *v, const struct insn *i, unsigned intercept, uint64_t info_1, uint64_t info_2)
{
	return leave(v, i, VMEXIT_INTR + (intercept - INTERCEPT_INTR), info_1, info_2);
}

static bool has_assists(const struct vcpu *v)
{
	return vcpu_has(v, FEAT_DECODE_ASSISTS);
}

/* ---- control and debug registers ------------------------------------------------------------------------------------------------ */

/* APM 2, "MOV CRx/DRx Intercepts": the general register. A flag tells MOV CRn from LMSW, CLTS and SMSW; MOV DRn needs none. */
static uint64_t move_info(const struct vcpu *v, const struct insn *i, uint64_t flag)
{
	return has_assists(v) ? flag | i->rm : 0;
}

static bool cr_read(struct vcpu *v, const struct insn *i)
{
	bool move = insn_rows[i->row].op == OP_MOV_FROM_CR;
	unsigned number = move ? control_register(i) : 0;
	if (!control_register_exists(number) || !intercepts(v, INTERCEPT(VMCB_CR, number)))
		return true;
	if (!move && !umip_permits(v))
		return false;
	return leave(v, i, VMEXIT_CR0_READ + number, move ? move_info(v, i, CR_INFO_MOV) : 0, 0);
}

/* Whether a write of CR0 changes more than TS and MP. */
static bool changes_cr0(const struct vcpu *v, uint64_t value)
{
	uint64_t changed = v->cr0 ^ ((value & CR0_DEFINED) | CR0_ET);
	return changed & ~(CR0_TS | CR0_MP);
}

static bool mov_to_cr(struct vcpu *v, const struct insn *i)
{
	unsigned number = control_register(i);
	uint64_t value = register_read(v, i->rm, v->mode == MODE_LONG ? 8 : 4);
	if (!control_register_exists(number))
		return true;
	bool all = intercepts(v, INTERCEPT(VMCB_CR, 16 + number));
	if (!all && !(number == 0 && intercepts(v, INTERCEPT_CR0_SELECTIVE) && changes_cr0(v, value)))
		return true;
	if (!control_register_permits(v, number, value))
		return false;
	return leave(v, i, all ? VMEXIT_CR0_WRITE + number : VMEXIT_CR0_SEL_WRITE, move_info(v, i, CR_INFO_MOV), 0);
}

/* LMSW meets the selective intercept whatever it writes, CLTS never. */
static bool cr_write(struct vcpu *v, const struct insn *i)
{
	if (insn_rows[i->row].op == OP_MOV_TO_CR)
		return mov_to_cr(v, i);
	if (intercepts(v, INTERCEPT(VMCB_CR, 16)))
		return leave(v, i, VMEXIT_CR0_WRITE, 0, 0);
	if (insn_rows[i->row].op == OP_LMSW && intercepts(v, INTERCEPT_CR0_SELECTIVE))
		return leave(v, i, VMEXIT_CR0_SEL_WRITE, 0, 0);
	return true;
}

static bool dr_access(struct vcpu *v, const struct insn *i, bool write)
{
	unsigned aliased;
	if (i->reg > 7 || !intercepts(v, INTERCEPT(VMCB_DR, (write ? 16 : 0) + i->reg)))
		return true;
	if (!debug_register_permitted(v, i, write, &aliased))
		return false;
	return leave(v, i, (write ? VMEXIT_DR0_WRITE : VMEXIT_DR0_READ) + i->reg, move_info(v, i, 0), 0);
}

static bool dr_read(struct vcpu *v, const struct insn *i)
{
	return dr_access(v, i, false);
}

static bool dr_write(struct vcpu *v, const struct insn *i)
{
	return dr_access(v, i, true);
}

/* ---- permission maps ------------------------------------------------------------------------------------------------------------ */

/* `count` bits from `bit` of a map in L1's memory; a map that is not memory permits nothing. */
static bool map_forbids(struct vcpu *v, gpa_t map, uint32_t bit, unsigned count)
{
	uint8_t bytes[2] = {0xff, 0xff};
	unsigned length = bit % 8 + count > 8 ? 2 : 1;
	if (!svm_read(v, (map & PAGE_MASK) + bit / 8, bytes, length))
		return true;
	return (bytes[0] | bytes[1] << 8) >> bit % 8 & ((1u << count) - 1);
}

static uint64_t port_info(const struct vcpu *v, const struct insn *i, bool in, bool string)
{
	uint64_t info = (uint64_t)(in ? IOIO_IN : 0) | BIT(IOIO_SIZE_SHIFT + (unsigned)__builtin_ctz(port_size(i))) |
			BIT(IOIO_ADDRESS_SHIFT + (unsigned)__builtin_ctz(i->addrsize) - 1);
	if (!string)
		return info;
	info |= IOIO_STRING | (i->flags & (INSN_REP | INSN_REPNE) ? IOIO_REP : 0);
	return info | (has_assists(v) ? (uint64_t)(in ? SEG_ES : i->seg) << IOIO_SEGMENT_SHIFT : 0);
}

/* APM 2, "I/O Permissions Map". The checks of IOPL and of the bitmap in the TSS come first, all other exceptions later. */
static bool ioio(struct vcpu *v, const struct insn *i)
{
	unsigned op = insn_rows[i->row].op, size = port_size(i);
	bool string = op == OP_INS || op == OP_OUTS, in = op == OP_IN || op == OP_INS;
	uint16_t port = string ? (uint16_t)v->gpr[REG_RDX] : port_operand(v, i);
	if (!intercepts(v, INTERCEPT_IOIO) || !map_forbids(v, nested_control(v)->iopm_base_pa, port, size))
		return true;
	if (!io_permitted(v, port, size))
		return false;
	uint64_t info = port_info(v, i, in, string) | (uint64_t)port << IOIO_PORT_SHIFT;
	return leave_misc(v, i, INTERCEPT_IOIO, info, insn_next_rip(v, i));
}

/* APM 2, "MSR Intercepts": two bits each, for reads and writes, in three ranges; what is in none of them is intercepted. */
static bool msr(struct vcpu *v, const struct insn *i)
{
	static const uint32_t ranges[] = {0, 0xc0000000u, 0xc0010000u};
	const uint32_t range_length = 0x2000;
	uint32_t number = (uint32_t)v->gpr[REG_RCX];
	bool write = insn_rows[i->row].op == OP_WRMSR, forbidden = true;
	if (!intercepts(v, INTERCEPT_MSR))
		return true;
	for (uint32_t n = 0; n < ARRAY_LEN(ranges); n++)
		if (number - ranges[n] < range_length)
			forbidden = map_forbids(v, nested_control(v)->msrpm_base_pa,
						2 * (n * range_length + number - ranges[n]) + write, 1);
	return !forbidden || leave_misc(v, i, INTERCEPT_MSR, write, 0);
}

/* ---- instructions with more to tell, or with more than one intercept ------------------------------------------------------------ */

static bool software_interrupt(struct vcpu *v, const struct insn *i)
{
	if (!intercepts(v, INTERCEPT_SWINT))
		return true;
	return leave_misc(v, i, INTERCEPT_SWINT, has_assists(v) ? i->imm & 0xff : 0, 0);
}

static uint64_t linear_operand(const struct vcpu *v, const struct insn *i)
{
	uint64_t offset = operand_offset(v, i);
	if (v->mode == MODE_LONG)
		return offset + (i->seg == SEG_FS || i->seg == SEG_GS ? v->seg[i->seg].base : 0);
	return (uint32_t)(offset + v->seg[i->seg].base);
}

static bool invlpg(struct vcpu *v, const struct insn *i)
{
	return !intercepts(v, INTERCEPT_INVLPG) || leave_misc(v, i, INTERCEPT_INVLPG, has_assists(v) ? linear_operand(v, i) : 0, 0);
}

/* APM 2, "INVPCID Intercept": the address of the descriptor and the type, with or without decode assists. */
static bool invpcid(struct vcpu *v, const struct insn *i)
{
	uint64_t type = register_read(v, i->reg, v->mode == MODE_LONG ? 8 : 4);
	return !intercepts(v, INTERCEPT_INVPCID) || leave_misc(v, i, INTERCEPT_INVPCID, linear_operand(v, i), type);
}

static bool svm_permitted(struct vcpu *v)
{
	if (!(v->efer & EFER_SVME))
		return raise_ud(v);
	return !v->cpl || raise_gp(v, 0);
}

/* Where L1 gave the guest virtual VMLOAD and VMSAVE in a mode that has none, they leave it. */
static bool leaves_for_state(struct vcpu *v, const struct insn *i, unsigned intercept)
{
	if (!intercepts(v, intercept) && svm_vmload_way(v) != VMLOAD_EXITS)
		return true;
	return svm_permitted(v) && leave_misc(v, i, intercept, 0, 0);
}

static bool vmload(struct vcpu *v, const struct insn *i)
{
	return leaves_for_state(v, i, INTERCEPT_VMLOAD);
}

static bool vmsave(struct vcpu *v, const struct insn *i)
{
	return leaves_for_state(v, i, INTERCEPT_VMSAVE);
}

/* The conditional intercept is looked at first. */
static bool mwait(struct vcpu *v, const struct insn *i)
{
	bool armed = intercepts(v, INTERCEPT_MWAIT_ARMED) && v->monitor_armed;
	if (!armed && !intercepts(v, INTERCEPT_MWAIT))
		return true;
	return mwait_permitted(v) && leave_misc(v, i, armed ? INTERCEPT_MWAIT_ARMED : INTERCEPT_MWAIT, 0, 0);
}

/*
 * APM 2, "Pause Intercept Filtering": so many PAUSEs are let through, counted from VMRUN or, with a threshold, from one that follows its
 * predecessor after more ticks than that.
 */
static bool pause_is_let_through(struct vcpu *v)
{
	const struct vmcb_control_cached *control = nested_control(v);
	struct nested *n = v->nested;
	if (!vcpu_has(v, FEAT_PAUSE_FILTER) || !control->pause_filter_count)
		return false;
	uint64_t now = clock_now(v->clock), since = now - n->pause_last;
	n->pause_last = now;
	if (vcpu_has(v, FEAT_PAUSE_THRESHOLD) && control->pause_filter_threshold && since > control->pause_filter_threshold) {
		n->pause_count = control->pause_filter_count;
		return true;
	}
	if (!n->pause_count)
		return false;
	n->pause_count--;
	return true;
}

static bool pause(struct vcpu *v, const struct insn *i)
{
	return !intercepts(v, INTERCEPT_PAUSE) || pause_is_let_through(v) || leave_misc(v, i, INTERCEPT_PAUSE, 0, 0);
}

/* ---- the table ------------------------------------------------------------------------------------------------------------------ */

/* Either `decide` does everything, or one intercept with its exit code, no further information, and the checks that come before it. */
struct rule {
	bool (*decide)(struct vcpu *v, const struct insn *i);
	unsigned intercept;
	bool (*permitted)(struct vcpu *v);
};

static const struct rule rules[COLUMN_COUNT] = {
	[COLUMN_CR_READ] = {cr_read},
	[COLUMN_CR_WRITE] = {cr_write},
	[COLUMN_DR_READ] = {dr_read},
	[COLUMN_DR_WRITE] = {dr_write},
	[COLUMN_IDTR_READ] = {NULL, INTERCEPT_IDTR_READ, umip_permits},
	[COLUMN_GDTR_READ] = {NULL, INTERCEPT_GDTR_READ, umip_permits},
	[COLUMN_LDTR_READ] = {NULL, INTERCEPT_LDTR_READ, umip_permits},
	[COLUMN_TR_READ] = {NULL, INTERCEPT_TR_READ, umip_permits},
	[COLUMN_IDTR_WRITE] = {NULL, INTERCEPT_IDTR_WRITE},
	[COLUMN_GDTR_WRITE] = {NULL, INTERCEPT_GDTR_WRITE},
	[COLUMN_LDTR_WRITE] = {NULL, INTERCEPT_LDTR_WRITE},
	[COLUMN_TR_WRITE] = {NULL, INTERCEPT_TR_WRITE},
	[COLUMN_RDTSC] = {NULL, INTERCEPT_RDTSC, tsc_permitted},
	[COLUMN_RDPMC] = {NULL, INTERCEPT_RDPMC, rdpmc_permitted},
	[COLUMN_PUSHF] = {NULL, INTERCEPT_PUSHF}, /* this and the next four before any exception */
	[COLUMN_POPF] = {NULL, INTERCEPT_POPF},
	[COLUMN_IRET] = {NULL, INTERCEPT_IRET},
	[COLUMN_RSM] = {NULL, INTERCEPT_RSM},
	[COLUMN_SWINT] = {software_interrupt},
	[COLUMN_CPUID] = {NULL, INTERCEPT_CPUID},
	[COLUMN_INVD] = {NULL, INTERCEPT_INVD},
	[COLUMN_PAUSE] = {pause},
	[COLUMN_HLT] = {NULL, INTERCEPT_HLT},
	[COLUMN_INVLPG] = {invlpg},
	[COLUMN_INVLPGA] = {NULL, INTERCEPT_INVLPGA, svm_permitted},
	[COLUMN_IOIO] = {ioio},
	[COLUMN_MSR] = {msr},
	[COLUMN_VMRUN] = {NULL, INTERCEPT_VMRUN, svm_permitted},
	[COLUMN_VMMCALL] = {NULL, INTERCEPT_VMMCALL},
	[COLUMN_VMLOAD] = {vmload},
	[COLUMN_VMSAVE] = {vmsave},
	[COLUMN_STGI] = {NULL, INTERCEPT_STGI, svm_permitted},
	[COLUMN_CLGI] = {NULL, INTERCEPT_CLGI, svm_permitted},
	[COLUMN_SKINIT] = {NULL, INTERCEPT_SKINIT, svm_permitted},
	[COLUMN_RDTSCP] = {NULL, INTERCEPT_RDTSCP, tsc_permitted},
	[COLUMN_ICEBP] = {NULL, INTERCEPT_ICEBP},
	[COLUMN_WBINVD] = {NULL, INTERCEPT_WBINVD},
	[COLUMN_MONITOR] = {NULL, INTERCEPT_MONITOR, monitor_permitted},
	[COLUMN_MWAIT] = {mwait},
	[COLUMN_INVPCID] = {invpcid},
	[COLUMN_XSETBV] = {NULL, INTERCEPT_XSETBV, xsave_enabled}, /* before #GP, of which CPL is a cause */
};

bool svm_instruction(struct vcpu *v, const struct insn *i)
{
	const struct rule *rule = &rules[columns[i->row]];
	if (rule->decide)
		return rule->decide(v, i);
	if (!rule->intercept || !intercepts(v, rule->intercept))
		return true;
	if (rule->permitted && !rule->permitted(v))
		return false;
	return leave_misc(v, i, rule->intercept, 0, 0);
}
