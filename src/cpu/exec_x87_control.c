/*
 * x87 control: initialization, control and status words, environment and state images, FWAIT (SDM 1, "x87 FPU Control Instructions"; SDM 1,
 * figures "x87 FPU State Image in Memory"). The images that FXSAVE and XSAVE make are not here.
 */
#include "cpu/x87.h"

#include <string.h>

#define IMAGE_MAX 108

static void set_control_word(struct vcpu *v, uint16_t word)
{
	v->fpu->fcw = (word & FCW_WRITABLE) | FCW_FIXED_1; /* bit 6 reads as 1 whatever is written */
	fpu_update_pending(v);
}

HANDLER(exec_FWAIT)
{
	if ((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) {
		raise_exception(v, VEC_NM);
		FAIL(v, i);
	}
	if (!fpu_check_pending(v))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FNOP)
{
	if (!fpu_check_unit(v, i))
		FAIL(v, i);
	x87_record(v, i);
	NEXT(v, i);
}

HANDLER(exec_FNNOTHING)
{
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FNINIT)
{
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	x87_initialize(v->fpu);
	fpu_update_pending(v);
	NEXT(v, i);
}

HANDLER(exec_FNCLEX)
{
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	v->fpu->fsw &= (uint16_t)~(FSW_EXCEPTIONS | FSW_SF);
	fpu_update_pending(v);
	NEXT(v, i);
}

static unsigned store_word(struct vcpu *v, const struct insn *i, uint16_t word)
{
	if (!(i->flags & INSN_MEM))
		register_write(v, REG_RAX, 2, word);
	else if (!operand_write(v, i, 2, word))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FNSTSW)
{
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	return store_word(v, i, v->fpu->fsw);
}

HANDLER(exec_FNSTCW)
{
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	return store_word(v, i, v->fpu->fcw);
}

HANDLER(exec_FLDCW)
{
	uint64_t word;
	if (!fpu_check_unit(v, i) || !operand_read(v, i, 2, &word))
		FAIL(v, i);
	set_control_word(v, (uint16_t)word);
	NEXT(v, i);
}

/* ---- the environment -------------------------------------------------------------------------------------------------------- */

static bool is_wide(const struct insn *i)
{
	return i->opsize != 2;
}

static unsigned environment_size(const struct insn *i)
{
	return is_wide(i) ? 28 : 14;
}

static void put16(uint8_t *image, unsigned offset, unsigned value)
{
	memcpy(image + offset, &(uint16_t){(uint16_t)value}, 2);
}

static void put32(uint8_t *image, unsigned offset, uint64_t value)
{
	memcpy(image + offset, &(uint32_t){(uint32_t)value}, 4);
}

static unsigned get16(const uint8_t *image, unsigned offset)
{
	uint16_t value;
	memcpy(&value, image + offset, 2);
	return value;
}

static uint32_t get32(const uint8_t *image, unsigned offset)
{
	uint32_t value;
	memcpy(&value, image + offset, 4);
	return value;
}

/*
 * In real and virtual-8086 mode the image has linear addresses of 20 (16-bit form) or 32 bits and the opcode, in protected mode selectors
 * and offsets, and the opcode only in the 32-bit form:
 *
 *	bytes of 16-bit form    0    2    4     6          8                       10         12
 *	protected               FCW  FSW  tags  FIP        FCS                     FDP        FDS
 *	real                    FCW  FSW  tags  FIP 15:0   FIP 19:16, 0, FOP       FDP 15:0   FDP 19:16, 0
 *
 *	bytes of 32-bit form    0    4    8     12         16                      20         24
 *	protected               FCW  FSW  tags  FIP        FOP, FCS                FDP        FDS
 *	real                    FCW  FSW  tags  FIP 15:0   0, FIP 31:16, 0, FOP    FDP 15:0   0, FDP 31:16, 0
 *
 * Reserved halves are ones behind words, zeros inside the real-mode fields.
 */
#define RESERVED 0xffff0000u

static void make_environment16(const struct vcpu *v, uint8_t *image)
{
	const struct fpu_state *fpu = v->fpu;
	put16(image, 0, fpu->fcw);
	put16(image, 2, fpu->fsw);
	put16(image, 4, x87_full_tags(fpu));
	if (in_protected_mode(v)) {
		put16(image, 6, (uint16_t)fpu->fip);
		put16(image, 8, fpu->fcs);
		put16(image, 10, (uint16_t)fpu->fdp);
		put16(image, 12, fpu->fds);
		return;
	}
	uint32_t ip = (uint32_t)fpu->fip + ((uint32_t)fpu->fcs << 4), dp = (uint32_t)fpu->fdp + ((uint32_t)fpu->fds << 4);
	put16(image, 6, ip & 0xffff);
	put16(image, 8, (ip >> 16 & 0xf) << 12 | fpu->fop);
	put16(image, 10, dp & 0xffff);
	put16(image, 12, (dp >> 16 & 0xf) << 12);
}

static void make_environment32(const struct vcpu *v, uint8_t *image)
{
	const struct fpu_state *fpu = v->fpu;
	put32(image, 0, RESERVED | fpu->fcw);
	put32(image, 4, RESERVED | fpu->fsw);
	put32(image, 8, RESERVED | x87_full_tags(fpu));
	if (in_protected_mode(v)) {
		put32(image, 12, fpu->fip);
		put32(image, 16, (uint32_t)fpu->fop << 16 | fpu->fcs);
		put32(image, 20, fpu->fdp);
		put32(image, 24, RESERVED | fpu->fds);
		return;
	}
	uint32_t ip = (uint32_t)fpu->fip + ((uint32_t)fpu->fcs << 4), dp = (uint32_t)fpu->fdp + ((uint32_t)fpu->fds << 4);
	put32(image, 12, RESERVED | (ip & 0xffff));
	put32(image, 16, (ip >> 16) << 12 | fpu->fop);
	put32(image, 20, RESERVED | (dp & 0xffff));
	put32(image, 24, (dp >> 16) << 12);
}

static void make_environment(const struct vcpu *v, const struct insn *i, uint8_t *image)
{
	if (is_wide(i))
		make_environment32(v, image);
	else
		make_environment16(v, image);
}

/* A linear address of a real-mode image has no selector any more: it becomes an offset from zero. */
static void take_pointers16(struct fpu_state *fpu, const uint8_t *image, bool protected)
{
	unsigned code = get16(image, 8), data = get16(image, 12);
	fpu->fip = get16(image, 6);
	fpu->fdp = get16(image, 10);
	fpu->fcs = protected ? (uint16_t)code : 0;
	fpu->fds = protected ? (uint16_t)data : 0;
	fpu->fop = protected ? 0 : code & 0x7ff;
	if (!protected) {
		fpu->fip |= (uint64_t)(code >> 12) << 16;
		fpu->fdp |= (uint64_t)(data >> 12) << 16;
	}
}

static void take_pointers32(struct fpu_state *fpu, const uint8_t *image, bool protected)
{
	uint32_t code = get32(image, 16), data = get32(image, 24);
	fpu->fop = (protected ? code >> 16 : code) & 0x7ff;
	fpu->fcs = protected ? (uint16_t)code : 0;
	fpu->fds = protected ? (uint16_t)data : 0;
	fpu->fip = protected ? get32(image, 12) : get16(image, 12) | (code >> 12 & 0xffff) << 16;
	fpu->fdp = protected ? get32(image, 20) : get16(image, 20) | (data >> 12 & 0xffff) << 16;
}

/* Of the tag word only "empty" is taken; the rest is found in the registers when it is asked for. ES follows from exceptions and masks. */
static void take_environment(struct vcpu *v, const struct insn *i, const uint8_t *image)
{
	struct fpu_state *fpu = v->fpu;
	unsigned word = is_wide(i) ? 4 : 2, tags = get16(image, 2 * word);
	fpu->fsw = (uint16_t)get16(image, word);
	fpu->ftw = 0;
	for (unsigned n = 0; n < 8; n++)
		fpu->ftw |= (uint8_t)(((tags >> 2 * n & 3) != 3) << n);
	if (is_wide(i))
		take_pointers32(fpu, image, in_protected_mode(v));
	else
		take_pointers16(fpu, image, in_protected_mode(v));
	set_control_word(v, (uint16_t)get16(image, 0));
}

HANDLER(exec_FNSTENV)
{
	uint8_t image[IMAGE_MAX];
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	make_environment(v, i, image);
	if (!operand_write_wide(v, i, environment_size(i), 1, image))
		FAIL(v, i);
	set_control_word(v, v->fpu->fcw | FCW_MASKS);
	NEXT(v, i);
}

HANDLER(exec_FLDENV)
{
	uint8_t image[IMAGE_MAX];
	if (!fpu_check_unit(v, i) || !operand_read_wide(v, i, environment_size(i), 1, image))
		FAIL(v, i);
	take_environment(v, i, image);
	NEXT(v, i);
}

/* ---- the whole state: the environment, then ST0 to ST7 of ten bytes each ------------------------------------------------------ */

HANDLER(exec_FNSAVE)
{
	uint8_t image[IMAGE_MAX];
	unsigned size = environment_size(i);
	if (!fpu_check_no_wait(v))
		FAIL(v, i);
	make_environment(v, i, image);
	for (unsigned n = 0; n < 8; n++, size += 10) {
		f80 value = x87_get(v->fpu, n);
		memcpy(image + size, &value.mantissa, 8);
		memcpy(image + size + 8, &value.exponent, 2);
	}
	if (!operand_write_wide(v, i, size, 1, image))
		FAIL(v, i);
	x87_initialize(v->fpu);
	fpu_update_pending(v);
	NEXT(v, i);
}

HANDLER(exec_FRSTOR)
{
	uint8_t image[IMAGE_MAX];
	unsigned size = environment_size(i);
	if (!fpu_check_unit(v, i) || !operand_read_wide(v, i, size + 80, 1, image))
		FAIL(v, i);
	take_environment(v, i, image);
	for (unsigned n = 0; n < 8; n++, size += 10) {
		f80 *value = &v->fpu->st[x87_index(v->fpu, n)];
		memcpy(&value->mantissa, image + size, 8);
		memcpy(&value->exponent, image + size + 8, 2);
	}
	NEXT(v, i);
}
