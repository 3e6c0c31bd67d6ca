/*
 * Compares the x87's transcendental functions of src/fp with the host processor: how many units in the last place the results are
 * apart, and whether the exceptions are the same, over arguments biased to boundaries. Fails if an exception differs or if a
 * result is more than one unit away; both sides promise less than one unit of error.
 *
 *   trans_host [--count N] [--seed S] [--only NAME] [--show N]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fp/fp.h"
#include "fp_options.h"

struct sample {
	f80 a, b; /* ST0 and ST1 */
	uint8_t rounding, masked;
};

struct outcome {
	f80 result;
	uint8_t raised;
	bool out_of_range;
};

struct function {
	const char *name;
	void (*draw)(uint64_t *random, struct sample *s);
	void (*host)(const struct sample *s, struct outcome *o);
	void (*own)(const struct sample *s, struct outcome *o);
};

/* ---- the host -------------------------------------------------------------------------------------------------------------- */

static f80 f80_from_memory(const uint8_t *bytes)
{
	f80 value;

	memcpy(&value.mantissa, bytes, 8);
	memcpy(&value.exponent, bytes + 8, 2);
	return value;
}

/* The instruction does not wait, so what it leaves can be read although an exception is pending. */
#define HOST(name, text)                                                                                           \
	static void host_##name(const struct sample *s, struct outcome *o)                                         \
	{                                                                                                          \
		uint16_t control = (uint16_t)(0x300 | s->rounding << 10 | s->masked), status;                      \
		uint8_t result[16];                                                                                \
                                                                                                                   \
		__asm__ volatile("fninit\n\tfldt %[b]\n\tfldt %[a]\n\tfldcw %[control]\n\t" text                   \
				 "\n\tfnstsw %%ax\n\tfnclex\n\ttest $0x400, %%eax\n\tjnz 1f\n\t" HOST_AFTER_##name \
				 "\n1:\tfstpt %[result]\n\tfninit"                                                 \
				 : "=&a"(status), [result] "=m"(*(f80 *)result)                                    \
				 : [a] "m"(s->a), [b] "m"(s->b), [control] "m"(control)                            \
				 : "st", "st(1)", "st(2)", "st(3)", "cc");                                         \
		o->result = f80_from_memory(result);                                                               \
		o->raised = status & FP_ALL;                                                                       \
		o->out_of_range = status >> 10 & 1;                                                                \
	}
#define HOST_AFTER_f2xm1 ""
#define HOST_AFTER_fyl2x ""
#define HOST_AFTER_fyl2xp1 ""
#define HOST_AFTER_fpatan ""
#define HOST_AFTER_fsin ""
#define HOST_AFTER_fcos ""
/* Drops the 1 that FPTAN pushes. */
#define HOST_AFTER_fptan "fstp %%st(0)"

HOST(f2xm1, "f2xm1")
HOST(fyl2x, "fyl2x")
HOST(fyl2xp1, "fyl2xp1")
HOST(fpatan, "fpatan")
HOST(fsin, "fsin")
HOST(fcos, "fcos")
HOST(fptan, "fptan")

/* ---- ours ------------------------------------------------------------------------------------------------------------------ */

#define OWN(name, call)                                                                              \
	static void own_##name(const struct sample *s, struct outcome *o)                            \
	{                                                                                            \
		struct fp_env env = {.rounding = s->rounding, .masked = s->masked, .precision = 64}; \
                                                                                                     \
		o->out_of_range = false;                                                             \
		o->result = call;                                                                    \
		o->raised = env.raised;                                                              \
	}
OWN(f2xm1, f80_2xm1(&env, s->a))
OWN(fyl2x, f80_yl2x(&env, s->a, s->b))
OWN(fyl2xp1, f80_yl2xp1(&env, s->a, s->b))
OWN(fpatan, f80_atan(&env, s->b, s->a))
OWN(fsin, f80_sin(&env, s->a, &o->out_of_range))
OWN(fcos, f80_cos(&env, s->a, &o->out_of_range))
OWN(fptan, f80_tan(&env, s->a, &o->out_of_range))

/* ---- arguments ------------------------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *random)
{
	uint64_t z = *random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t draw_mantissa(uint64_t *random)
{
	uint64_t kind = next_random(random) % 8, value = next_random(random), count = next_random(random) % 64;

	if (kind == 0)
		value = 0; /* a power of two */
	else if (kind == 1)
		value = value >> count; /* near and above one */
	else if (kind == 2)
		value = ~(value >> count); /* near and below one */
	else if (kind == 3)
		value = value << count; /* few bits */
	return value | 1ull << 63;
}

/* Any normal number with an exponent from low to high. */
static f80 draw_number(uint64_t *random, int low, int high)
{
	uint64_t bits = next_random(random);
	unsigned exponent = 0x3fffu + (unsigned)(low + (int)(bits % (uint64_t)(high - low + 1)));

	return (f80){draw_mantissa(random), (uint16_t)(exponent | bits >> 63 << 15)};
}

/* Zeros, denormals, infinities, NaNs, the ends of the range, what is not supported. */
static f80 draw_edge(uint64_t *random)
{
	static const f80 edges[] = {
		{0, 0},
		{1, 0},
		{1ull << 62, 0},
		{~0ull >> 1, 0},
		{1ull << 63, 0},
		{1ull << 63, 1},
		{~0ull, 0x7ffe},
		{1ull << 63, 0x3fff},
		{1ull << 63, 0x7fff},
		{3ull << 62, 0x7fff},
		{3ull << 62 | 12345, 0x7fff},
		{1ull << 63 | 99, 0x7fff},
		{77, 0x3fff},
		{0, 0x7fff},
		{1ull << 63, 0x3ffe},
		{1ull << 63, 0x4000},
		{1ull << 63, 0x403e},
		{~0ull, 0x403d},
		{1ull << 63, 0x7ffe},
	};
	f80 value = edges[next_random(random) % (sizeof(edges) / sizeof(edges[0]))];

	value.exponent |= (uint16_t)(next_random(random) >> 63 << 15);
	if (next_random(random) % 4 == 0 && !(value.exponent & 0x7fff))
		value.mantissa = next_random(random) >> (1 + next_random(random) % 63);
	return value;
}

static f80 draw_any(uint64_t *random)
{
	if (next_random(random) % 4 == 0)
		return draw_edge(random);
	return next_random(random) % 2 ? draw_number(random, -70, 70) : draw_number(random, -0x3ffe, 0x3fff);
}

static void draw_environment(uint64_t *random, struct sample *s)
{
	uint64_t bits = next_random(random);

	s->rounding = bits & 4 ? bits & 3 : FP_NEAREST;
	s->masked = bits & 0x70 ? FP_ALL : bits >> 8 & FP_ALL;
	s->b = (f80){0, 0};
}

static void draw_power(uint64_t *random, struct sample *s)
{
	draw_environment(random, s);
	if (next_random(random) % 32 == 0)
		s->a = draw_any(random);
	else
		s->a = next_random(random) % 4 ? draw_number(random, -8, -1) : draw_number(random, -80, -1);
}

static void draw_logarithm(uint64_t *random, struct sample *s)
{
	draw_environment(random, s);
	s->a = next_random(random) % 4 ? draw_number(random, -4, 4) : draw_any(random);
	s->b = next_random(random) % 4 ? draw_number(random, -4, 4) : draw_any(random);
	if (next_random(random) % 16)
		s->a.exponent &= 0x7fff;
}

/* Within the range that is defined: below 1 - sqrt(1/2). */
static void draw_logarithm_plus_one(uint64_t *random, struct sample *s)
{
	draw_environment(random, s);
	s->a = draw_number(random, next_random(random) % 4 ? -8 : -80, -3);
	if (next_random(random) % 16 == 0)
		s->a = (f80){next_random(random) % 0x15f619980c4336f7 + (1ull << 63),
			     (uint16_t)(0x3ffd | next_random(random) << 15)};
	if (next_random(random) % 32 == 0)
		s->a = draw_edge(random);
	s->b = next_random(random) % 4 ? draw_number(random, -4, 4) : draw_any(random);
}

static void draw_point(uint64_t *random, struct sample *s)
{
	draw_environment(random, s);
	if (next_random(random) % 8 == 0) {
		s->a = draw_any(random);
		s->b = draw_any(random);
		return;
	}
	s->a = draw_number(random, -4, 4);
	s->b = next_random(random) % 4 ? draw_number(random, -8, 8) : draw_number(random, -70, 70);
}

static void draw_angle(uint64_t *random, struct sample *s)
{
	draw_environment(random, s);
	s->a = next_random(random) % 2 ? draw_number(random, -5, 6) : draw_number(random, -70, 62);
	if (next_random(random) % 32 == 0)
		s->a = draw_any(random);
}

/* ---- comparison ------------------------------------------------------------------------------------------------------------ */

static const struct function functions[] = {
	{"f2xm1", draw_power, host_f2xm1, own_f2xm1},
	{"fyl2x", draw_logarithm, host_fyl2x, own_fyl2x},
	{"fyl2xp1", draw_logarithm_plus_one, host_fyl2xp1, own_fyl2xp1},
	{"fpatan", draw_point, host_fpatan, own_fpatan},
	{"fsin", draw_angle, host_fsin, own_fsin},
	{"fcos", draw_angle, host_fcos, own_fcos},
	{"fptan", draw_angle, host_fptan, own_fptan},
};

/* In units of the last place, as far as that has a meaning: 0 to 5, and 6 for all beyond and for different signs or kinds. */
static unsigned distance(f80 a, f80 b)
{
	unsigned __int128 x = (unsigned __int128)(a.exponent & 0x7fff) << 63, y = (unsigned __int128)(b.exponent & 0x7fff) << 63;

	if (a.exponent == b.exponent && a.mantissa == b.mantissa)
		return 0;
	if ((a.exponent ^ b.exponent) >> 15 || f80_classify(a) == F80_NAN || f80_classify(b) == F80_NAN)
		return 6;
	x += a.mantissa & ~(1ull << 63);
	y += b.mantissa & ~(1ull << 63);
	x = x > y ? x - y : y - x;
	return x < 6 ? (unsigned)x : 6;
}

static void print_sample(const struct function *function, const struct sample *s, const struct outcome *host,
			 const struct outcome *own)
{
	printf("%s ST0 %04x.%016llx ST1 %04x.%016llx RC %u masked %02x: host %04x.%016llx raised %02x, own %04x.%016llx raised "
	       "%02x\n",
	       function->name, s->a.exponent, (unsigned long long)s->a.mantissa, s->b.exponent, (unsigned long long)s->b.mantissa,
	       s->rounding, s->masked, host->result.exponent, (unsigned long long)host->result.mantissa, host->raised,
	       own->result.exponent, (unsigned long long)own->result.mantissa, own->raised);
}

/* Histogram of distances; returns the number of differences that are none of rounding. */
static uint64_t compare_function(const struct function *function, const struct options *options, uint64_t random)
{
	uint64_t at_distance[7] = {0}, differences = 0;

	for (uint64_t n = 0; n < options->count; n++) {
		struct outcome host, own;
		struct sample s;
		unsigned units;

		function->draw(&random, &s);
		function->host(&s, &host);
		function->own(&s, &own);
		/* After an unmasked invalid, denormal or divide there is no result. */
		units = host.raised & ~s.masked & (FP_INVALID | FP_DENORMAL | FP_DIVIDE) ? 0 : distance(host.result, own.result);
		at_distance[units]++;
		if ((units > 1 || host.raised != own.raised || host.out_of_range != own.out_of_range) &&
		    differences++ < options->show)
			print_sample(function, &s, &host, &own);
	}
	printf("%-8s %10llu compared: %llu equal, %llu one unit apart; %llu different\n", function->name,
	       (unsigned long long)options->count, (unsigned long long)at_distance[0], (unsigned long long)at_distance[1],
	       (unsigned long long)differences);
	fflush(stdout);
	return differences;
}

int main(int argc, char **argv)
{
	struct options options = parse_options(argc, argv, 100000);
	uint64_t differences = 0;

	for (unsigned i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (!options.only || !strcmp(options.only, functions[i].name))
			differences += compare_function(&functions[i], &options, options.seed * 1000 + i);
	printf("seed %llu: %llu differences\n", (unsigned long long)options.seed, (unsigned long long)differences);
	return differences ? 1 : 0;
}
