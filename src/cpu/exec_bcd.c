/* Decimal adjustment, see exec_alu.c for the manner of these files. None of them exists in 64-bit mode. */
#include "cpu/access.h"
#include "cpu/flags.h"

static uint64_t result_flags(uint8_t result)
{
	return (result ? 0 : FLAG_ZF) | (result & 0x80 ? FLAG_SF : 0) | (__builtin_parity(result) ? 0 : FLAG_PF);
}

/* DAA and DAS: sign is +1 or -1. OF is undefined and cleared. */
static void decimal_adjust(struct vcpu *v, int sign)
{
	uint8_t al = (uint8_t)v->gpr[REG_RAX], old = al;
	bool old_cf = flags_cf(v), cf = false, af = false;
	if ((al & 15) > 9 || flags_af(v)) {
		cf = old_cf || (sign > 0 ? al > 0xf9 : al < 6);
		al = (uint8_t)(al + sign * 6);
		af = true;
	}
	if (old > 0x99 || old_cf) {
		al = (uint8_t)(al + sign * 0x60);
		cf = true;
	} else if (sign > 0) {
		cf = false;
	}
	register_write(v, REG_RAX, 1, al);
	flags_set_explicit(v, FLAGS_STATUS, result_flags(al) | (cf ? FLAG_CF : 0) | (af ? FLAG_AF : 0));
}

HANDLER(exec_DAA)
{
	decimal_adjust(v, 1);
	NEXT(v, i);
}

HANDLER(exec_DAS)
{
	decimal_adjust(v, -1);
	NEXT(v, i);
}

/* AAA and AAS. OF, SF, ZF and PF are undefined; SF, ZF and PF follow AL. */
static void ascii_adjust(struct vcpu *v, int sign)
{
	uint16_t ax = (uint16_t)v->gpr[REG_RAX];
	bool adjust = (ax & 15) > 9 || flags_af(v);
	if (adjust)
		ax = (uint16_t)(ax + sign * 0x106);
	ax &= 0xff0f;
	register_write(v, REG_RAX, 2, ax);
	flags_set_explicit(v, FLAGS_STATUS, result_flags((uint8_t)ax) | (adjust ? FLAG_CF | FLAG_AF : 0));
}

HANDLER(exec_AAA)
{
	ascii_adjust(v, 1);
	NEXT(v, i);
}

HANDLER(exec_AAS)
{
	ascii_adjust(v, -1);
	NEXT(v, i);
}

HANDLER(exec_AAM)
{
	uint8_t al = (uint8_t)v->gpr[REG_RAX], base = (uint8_t)i->imm;
	if (!base) {
		raise_exception(v, VEC_DE);
		FAIL(v, i);
	}
	register_write(v, REG_RAX, 2, (uint64_t)(al / base) << 8 | al % base);
	flags_set_explicit(v, FLAGS_STATUS, result_flags(al % base));
	NEXT(v, i);
}

HANDLER(exec_AAD)
{
	uint8_t al = (uint8_t)v->gpr[REG_RAX], ah = (uint8_t)(v->gpr[REG_RAX] >> 8);
	uint8_t result = (uint8_t)(al + ah * (uint8_t)i->imm);
	register_write(v, REG_RAX, 2, result);
	flags_set_explicit(v, FLAGS_STATUS, result_flags(result));
	NEXT(v, i);
}
