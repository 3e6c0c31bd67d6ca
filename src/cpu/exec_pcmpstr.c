/*
 * The string comparisons of SSE4.2: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM. The steps and their names are those of SDM 1, "String and
 * Text Processing Instructions": compare everything with everything, aggregate to one bit for each element of the second operand,
 * apply the polarity, and give the bits out as an index or as a mask.
 */
#include "cpu/flags.h"
#include "cpu/vector.h"

/* The immediate byte. */
#define WORDS 0x01u
#define SIGNED 0x02u
#define AGGREGATION(imm) ((imm) >> 2 & 3)
#define NEGATIVE 0x10u   /* invert the bits ... */
#define MASKED 0x20u     /* ... only those of elements that are part of the string */
#define TOP_OR_WIDE 0x40u /* index of the last bit, not the first; mask of elements, not of bits */

enum { EQUAL_ANY, RANGES, EQUAL_EACH, EQUAL_ORDERED };

struct string {
	int32_t element[16];
	unsigned length; /* elements that are part of it */
};

static unsigned element_count(unsigned imm)
{
	return imm & WORDS ? 8 : 16;
}

static struct string take_elements(const union vec *from, unsigned imm)
{
	struct string string = {.length = element_count(imm)};
	for (unsigned n = 0; n < string.length; n++) {
		if (imm & WORDS)
			string.element[n] = imm & SIGNED ? from->s16[n] : from->u16[n];
		else
			string.element[n] = imm & SIGNED ? from->s8[n] : from->u8[n];
	}
	return string;
}

/* PCMPISTRx: a string ends before its first zero. */
static unsigned implicit_length(const struct string *string)
{
	unsigned length = 0;
	while (length < string->length && string->element[length])
		length++;
	return length;
}

/* PCMPESTRx: the magnitude of a register, at most the number of elements. Outside of 64-bit mode W does not count. */
static unsigned explicit_length(struct vcpu *v, const struct insn *i, unsigned reg, unsigned count)
{
	bool wide = (i->flags & INSN_REX_W) && v->code_size == 8;
	uint64_t value = wide ? v->gpr[reg] : (uint64_t)(int64_t)(int32_t)v->gpr[reg];
	uint64_t magnitude = (int64_t)value < 0 ? 0 - value : value;
	return (unsigned)MIN(magnitude, count);
}

static bool matches_any(const struct string *set, int32_t element)
{
	for (unsigned n = 0; n < set->length; n++)
		if (set->element[n] == element)
			return true;
	return false;
}

/* Pairs of limits; one without its upper limit matches nothing. */
static bool matches_range(const struct string *limits, int32_t element)
{
	for (unsigned n = 0; n + 1 < limits->length; n += 2)
		if (limits->element[n] <= element && element <= limits->element[n + 1])
			return true;
	return false;
}

/* Beyond both ends is equal, beyond one is not. */
static bool matches_each(const struct string *a, const struct string *b, unsigned at)
{
	bool in_a = at < a->length, in_b = at < b->length;
	return in_a && in_b ? a->element[at] == b->element[at] : in_a == in_b;
}

/* Whether `part` is found at a place, or as much of it as the register has room for. */
static bool matches_ordered(const struct string *part, const struct string *whole, unsigned at, unsigned count)
{
	for (unsigned n = 0; n < part->length && at + n < count; n++)
		if (at + n >= whole->length || part->element[n] != whole->element[at + n])
			return false;
	return true;
}

static bool aggregate(const struct string *a, const struct string *b, unsigned at, unsigned imm)
{
	switch (AGGREGATION(imm)) {
	case EQUAL_ANY: return at < b->length && matches_any(a, b->element[at]);
	case RANGES: return at < b->length && matches_range(a, b->element[at]);
	case EQUAL_EACH: return matches_each(a, b, at);
	default: return matches_ordered(a, b, at, element_count(imm));
	}
}

/* IntRes2. */
static unsigned compare(const struct string *a, const struct string *b, unsigned imm)
{
	unsigned bits = 0, count = element_count(imm);
	for (unsigned n = 0; n < count; n++)
		bits |= (unsigned)aggregate(a, b, n, imm) << n;
	if (imm & NEGATIVE)
		bits ^= (1u << (imm & MASKED ? b->length : count)) - 1;
	return bits;
}

static void set_flags(struct vcpu *v, unsigned bits, const struct string *a, const struct string *b, unsigned count)
{
	flags_set_explicit(v, FLAGS_STATUS,
			   (bits ? FLAG_CF : 0) | (bits & 1 ? FLAG_OF : 0) | (b->length < count ? FLAG_ZF : 0) |
				   (a->length < count ? FLAG_SF : 0));
}

static void set_index(struct vcpu *v, unsigned bits, unsigned imm)
{
	unsigned index = element_count(imm);
	if (bits)
		index = (unsigned)(imm & TOP_OR_WIDE ? 31 - __builtin_clz(bits) : __builtin_ctz(bits));
	register_write(v, REG_RCX, 4, index);
}

/* XMM0; the VEX forms clear the rest of YMM0. */
static void set_mask(struct vcpu *v, const struct insn *i, unsigned bits, unsigned imm)
{
	union vec mask = {.u64 = {bits}};
	for (unsigned n = 0; n < 16 && (imm & TOP_OR_WIDE); n++)
		mask.u8[n] = bits >> (imm & WORDS ? n / 2 : n) & 1 ? 0xff : 0;
	__builtin_memcpy(v->fpu->vector[0], &mask, insn_rows[i->row].unit == INSN_UNIT_AVX ? 32 : 16);
}

static bool compare_strings(struct vcpu *v, const struct insn *i, bool has_lengths, bool wants_index)
{
	union vec first, second;
	unsigned imm = (unsigned)i->imm & 0xff, count = element_count(imm);
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &second) || !vector_read(v, i, 0, &first))
		return false;
	struct string a = take_elements(&first, imm), b = take_elements(&second, imm);
	a.length = has_lengths ? explicit_length(v, i, REG_RAX, count) : implicit_length(&a);
	b.length = has_lengths ? explicit_length(v, i, REG_RDX, count) : implicit_length(&b);
	unsigned bits = compare(&a, &b, imm);
	set_flags(v, bits, &a, &b, count);
	if (wants_index)
		set_index(v, bits, imm);
	else
		set_mask(v, i, bits, imm);
	return true;
}

#define COMPARE_STRINGS(op, has_lengths, wants_index)                        \
	HANDLER(exec_##op)                                                   \
	{                                                                    \
		if (!compare_strings(v, i, has_lengths, wants_index))        \
			FAIL(v, i);                                          \
		NEXT(v, i);                                                  \
	}
COMPARE_STRINGS(PCMPESTRI, true, true)
COMPARE_STRINGS(PCMPESTRM, true, false)
COMPARE_STRINGS(PCMPISTRI, false, true)
COMPARE_STRINGS(PCMPISTRM, false, false)
