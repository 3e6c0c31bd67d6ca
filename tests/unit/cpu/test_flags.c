/* The lazy flags of flags.h against a model that adds bit by bit: every pair of bytes, and random wider operands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cpu/flags.h"

/* The slow, obvious model: a full adder; subtraction adds the complement and turns the carries around. */
struct sum {
	uint64_t result;
	uint64_t flags;
};

static uint64_t result_flags(uint64_t result, unsigned width)
{
	unsigned ones = 0;
	for (unsigned n = 0; n < 8; n++)
		ones += result >> n & 1;
	return (result == 0 ? FLAG_ZF : 0) | (result >> (width - 1) & 1 ? FLAG_SF : 0) | (ones % 2 ? 0 : FLAG_PF);
}

static struct sum model_add(uint64_t a, uint64_t b, unsigned carry, unsigned width)
{
	struct sum sum = {0, 0};
	unsigned into_top = 0;
	for (unsigned n = 0; n < width; n++) {
		unsigned total = (a >> n & 1) + (b >> n & 1) + carry;
		into_top = carry;
		sum.result |= (uint64_t)(total & 1) << n;
		carry = total >> 1;
		if (n == 3 && carry)
			sum.flags |= FLAG_AF;
	}
	sum.flags |= result_flags(sum.result, width) | (carry ? FLAG_CF : 0) | (carry != into_top ? FLAG_OF : 0);
	return sum;
}

static struct sum model_sub(uint64_t a, uint64_t b, unsigned borrow, unsigned width)
{
	struct sum sum = model_add(a, ~b, !borrow, width);
	sum.flags ^= FLAG_CF | FLAG_AF;
	return sum;
}

/* SDM 1, "EFLAGS Condition Codes". */
static bool model_condition(uint64_t flags, unsigned cc)
{
	bool cf = flags & FLAG_CF, zf = flags & FLAG_ZF, sf = flags & FLAG_SF, of = flags & FLAG_OF, pf = flags & FLAG_PF;
	const bool holds[16] = {of, !of, cf, !cf, zf, !zf, cf || zf, !cf && !zf, sf, !sf, pf, !pf, sf != of, sf == of, zf || sf != of,
				!zf && sf == of};
	return holds[cc];
}

static void check(struct vcpu *v, uint64_t expected)
{
	assert_int_equal(flags_status(v), expected);
	for (unsigned cc = 0; cc < 16; cc++)
		assert_int_equal(flags_condition(v, cc), model_condition(expected, cc));
	struct vcpu *copy = v;
	copy->rflags |= FLAG_DF;
	flags_materialize(copy);
	assert_int_equal(copy->rflags & FLAGS_STATUS, expected);
	assert_true(copy->rflags & FLAG_DF);
	for (unsigned cc = 0; cc < 16; cc++)
		assert_int_equal(flags_condition(copy, cc), model_condition(expected, cc));
}

static void check_pair(struct vcpu *v, uint64_t a, uint64_t b, unsigned width)
{
	int64_t x = sign_extend(a, width), y = sign_extend(b, width);
	for (unsigned carry = 0; carry < 2; carry++) {
		struct sum sum = model_add(a, b, carry, width), difference = model_sub(a, b, carry, width);
		flags_set_lazy(v, FLAGS_ADD, sign_extend(sum.result, width), x, y);
		check(v, sum.flags);
		flags_set_lazy(v, FLAGS_SUB, sign_extend(difference.result, width), x, y);
		check(v, difference.flags);
		/* INC and DEC keep the carry that was there. */
		struct sum up = model_add(a, 1, 0, width), down = model_sub(a, 1, 0, width);
		v->flag_carry = carry;
		flags_set_lazy(v, FLAGS_INC, sign_extend(up.result, width), x, 1);
		check(v, (up.flags & ~FLAG_CF) | (carry ? FLAG_CF : 0));
		v->flag_carry = carry;
		flags_set_lazy(v, FLAGS_DEC, sign_extend(down.result, width), x, 1);
		check(v, (down.flags & ~FLAG_CF) | (carry ? FLAG_CF : 0));
	}
	flags_set_logic(v, x & y);
	check(v, result_flags(a & b & (width == 64 ? ~0ull : BIT(width) - 1), width));
}

static void test_all_bytes(void **state)
{
	for (unsigned a = 0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			check_pair(*state, a, b, 8);
}

static void test_wider(void **state)
{
	uint64_t random = 1;
	for (unsigned n = 0; n < 60000; n++) {
		unsigned width = 16u << n % 3;
		uint64_t mask = width == 64 ? ~0ull : BIT(width) - 1;
		uint64_t a = hash_mix(random++), b = hash_mix(random++);
		a = n % 5 == 0 ? BIT(width - 1) - (a & 1) : n % 5 == 1 ? 0 - (a & 3) : a;
		b = n % 7 == 0 ? BIT(width - 1) - (b & 1) : n % 7 == 1 ? a : b;
		check_pair(*state, a & mask, b & mask, width);
	}
}

static void test_partial_change(void **state)
{
	struct vcpu *v = *state;
	flags_set_lazy(v, FLAGS_SUB, -1, 0, 1); /* CF SF PF AF */
	flags_set_explicit(v, FLAG_CF | FLAG_ZF, FLAG_ZF | FLAG_OF);
	assert_int_equal(flags_status(v), FLAG_ZF | FLAG_SF | FLAG_PF | FLAG_AF);
}

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct vcpu));
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_bytes),
		cmocka_unit_test(test_wider),
		cmocka_unit_test(test_partial_change),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
