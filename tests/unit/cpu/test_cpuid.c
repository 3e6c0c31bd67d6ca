/* CPUID and the language of -cpu (cpu/cpuid.c, cpu/model.c). */
#include "guest.h"

static void identifies_itself(void **state)
{
	struct guest g;
	uint32_t r[4];
	guest_start_model(&g, GUEST_LONG, "amd");
	cpuid_query(g.v, 0, 0, r);
	assert_memory_equal(&r[1], "Auth", 4);
	assert_memory_equal(&r[3], "enti", 4);
	assert_memory_equal(&r[2], "cAMD", 4);
	cpuid_query(g.v, 1, 0, r);
	assert_int_equal((r[0] >> 8 & 15) + (r[0] >> 20 & 255), 0x19);
	char brand[49] = "";
	for (unsigned n = 0; n < 3; n++) {
		cpuid_query(g.v, 0x80000002 + n, 0, r);
		memcpy(brand + 16 * n, r, 16);
	}
	assert_string_equal(brand, "umbra virtual amd processor");
	cpuid_query(g.v, 0x40000000, 0, r);
	assert_memory_equal(&r[1], "UmbraUmbraUm", 12);
	cpuid_query(g.v, 0x1234, 0, r);
	assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	guest_stop(&g);
	guest_start(&g, GUEST_LONG);
	cpuid_query(g.v, 0, 0, r);
	assert_memory_equal(&r[1], "Genu", 4);
	assert_memory_equal(&r[3], "ineI", 4);
	assert_memory_equal(&r[2], "ntel", 4);
	uint32_t last[4];
	cpuid_query(g.v, 0x1234, 1, r);
	cpuid_query(g.v, 0xd, 1, last);
	assert_memory_equal(r, last, sizeof(r));
	guest_stop(&g);
}

static void shows_exactly_the_features(void **state)
{
	struct guest g;
	uint32_t r[4];
	guest_start_model(&g, GUEST_LONG, "intel,-smep,+clzero,-pks,maxphyaddr=36,-la57");
	cpuid_query(g.v, 7, 0, r);
	assert_false(r[1] & BIT(7));
	assert_true(r[1] & BIT(20));
	assert_false(r[2] & BIT(31));
	assert_false(r[2] & BIT(4));
	cpuid_query(g.v, 7, 1, r);
	assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	cpuid_query(g.v, 0x80000008, 0, r);
	assert_int_equal(r[0], 48 << 8 | 36);
	assert_int_equal(r[1], 1);
	guest_stop(&g);
}

static void dynamic_bits(void **state)
{
	struct guest g;
	uint32_t r[4];
	guest_start(&g, GUEST_LONG);
	cpuid_query(g.v, 1, 0, r);
	assert_true(r[3] & BIT(9));
	g.apic_base = 0xfee00000;
	cpuid_query(g.v, 1, 0, r);
	assert_false(r[3] & BIT(9));
	g.v->cr4 |= CR4_PKE;
	cpuid_query(g.v, 7, 0, r);
	assert_true(r[2] & BIT(4));
	guest_stop(&g);
}

static void parses(void **state)
{
	struct cpu_model model;
	struct err err;
	struct mmu_cpuid facts;
	assert_true(cpu_model_parse("amd,-pku,la57=off,+fep,phys-bits=52,vendor=GenuineIntel", &model, &err));
	assert_int_equal(model.vendor, VENDOR_INTEL);
	assert_int_equal(model.maxphyaddr, 52);
	assert_int_equal(model.linear_bits, 48);
	assert_true(feature_in(&model.features, FEAT_FEP));
	cpu_model_mmu_facts(&model, &facts);
	assert_false(facts.pku || facts.la57);
	assert_true(facts.nx && facts.gbpages && facts.pcid);
	cpu_model_default(&model);
	assert_string_equal(model.name, "amd");
	assert_int_equal(model.maxphyaddr, CPU_DEFAULT_MAXPHYADDR);
	assert_int_equal(model.linear_bits, 57);
	assert_true(cpu_model_parse("intel,+tsc_deadline", &model, &err));
}

static void refuses(void **state)
{
	static const char *const bad[][2] = {
		{"intell", "did you mean 'intel'"}, {"amd,+smpe", "did you mean 'smep'"}, {"amd,smep", "write +smep"},
		{"amd,maxphyaddr=53", "32 to 52"}, {"amd,maxphyaddr=", "32 to 52"}, {"amd,maxphyaddr=4x", "32 to 52"},
		{"amd,vendor=Cyrix", "vendor"}, {"amd,smep=maybe", "on or off"}, {"", "model"}, {"amd,,+smep", "setting"},
		{"amd,+aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no setting"},
	};
	for (unsigned n = 0; n < ARRAY_LEN(bad); n++) {
		struct cpu_model model;
		struct err err = {0};
		if (cpu_model_parse(bad[n][0], &model, &err))
			fail_msg("'%s' is accepted", bad[n][0]);
		assert_int_equal(err.code, ERR_USAGE);
		if (!strstr(err.text, bad[n][1]) && n != 9)
			fail_msg("'%s': %s", bad[n][0], err.text);
	}
}

static void qemu_names(void **state)
{
	struct cpu_model model;
	struct err err;
	assert_true(cpu_model_parse_qemu("qemu64,-pcid,+invpcid,vendor=GenuineIntel", &model, &err));
	assert_int_equal(model.vendor, VENDOR_INTEL);
	assert_false(feature_in(&model.features, FEAT_PCID));
	assert_true(feature_in(&model.features, FEAT_INVPCID));
	assert_true(cpu_model_parse_qemu("IvyBridge,phys-bits=36,host-phys-bits=off", &model, &err));
	assert_int_equal(model.maxphyaddr, 36);
	assert_true(cpu_model_parse_qemu("Opteron_G1,vendor=AuthenticAMD", &model, &err));
	assert_int_equal(model.vendor, VENDOR_AMD);
	assert_true(cpu_model_parse_qemu("max,+svm,-npt,migratable=no,hv_passthrough", &model, &err));
	assert_int_equal(model.vendor, VENDOR_AMD);
	assert_true(cpu_model_parse_qemu("host", &model, &err));
	assert_int_equal(model.vendor, VENDOR_INTEL);
	assert_false(cpu_model_parse_qemu("max,phys-bits=99", &model, &err));
}

static void xsave_leaves(void **state)
{
	struct guest g;
	uint32_t r[4];
	guest_start_model(&g, GUEST_LONG, "amd");
	cpuid_query(g.v, 0xd, 0, r);
	assert_int_equal(r[0], 0x207);
	assert_int_equal(r[1], 576);
	assert_int_equal(r[2], 2696);
	assert_int_equal(r[3], 0);
	g.v->fpu->xcr0 = 7;
	cpuid_query(g.v, 0xd, 0, r);
	assert_int_equal(r[1], 832);
	g.v->fpu->xcr0 = 0x207;
	cpuid_query(g.v, 0xd, 1, r);
	assert_int_equal(r[0], 0xf);
	assert_int_equal(r[1], 840); /* compacted */
	assert_int_equal(r[2] | r[3], 0);
	cpuid_query(g.v, 0xd, 2, r);
	assert_int_equal(r[0], 256);
	assert_int_equal(r[1], 576);
	cpuid_query(g.v, 0xd, 9, r);
	assert_int_equal(r[0], 8);
	assert_int_equal(r[1], 2688);
	for (unsigned n = 3; n < 70; n++) {
		cpuid_query(g.v, 0xd, n, r);
		assert_true(n == 9 || !(r[0] | r[1] | r[2] | r[3]));
	}
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "intel,-xsave,-pku");
	for (unsigned n = 0; n < 10; n++) {
		cpuid_query(g.v, 0xd, n, r);
		assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	}
	guest_stop(&g);
}

/* What needs a feature goes with it, and stays gone when it is asked for alone. */
static void dependent_features(void **state)
{
	static const struct {
		const char *model;
		enum feature gone[12], kept[4];
	} cases[] = {
		{"amd,-xsave", {FEAT_XSAVE, FEAT_AVX, FEAT_AVX2, FEAT_F16C, FEAT_FMA, FEAT_VAES, FEAT_VPCLMULQDQ, FEAT_XSAVEOPT, FEAT_XSAVEC,
				FEAT_XSAVES, FEAT_XGETBV1}, {FEAT_SSE42, FEAT_AES, FEAT_BMI2}},
		{"intel,-sse", {FEAT_SSE, FEAT_SSE2, FEAT_SSE3, FEAT_SSSE3, FEAT_SSE41, FEAT_SSE42, FEAT_AVX, FEAT_AVX2, FEAT_AES, FEAT_SHA,
				FEAT_GFNI, FEAT_MOVNTI}, {FEAT_MMX, FEAT_FXSR, FEAT_XSAVE}},
		{"intel,-fpu", {FEAT_MMX, FEAT_FXSR, FEAT_SSE, FEAT_XSAVE, FEAT_AVX}, {FEAT_POPCNT}},
		{"amd,-avx,+avx2", {FEAT_AVX, FEAT_AVX2}, {FEAT_XSAVE}},
		{"amd,-aes", {FEAT_AES, FEAT_VAES}, {FEAT_AVX2, FEAT_VPCLMULQDQ}},
		{"amd,-hypervisor,+kvm", {FEAT_KVM}, {FEAT_AVX}},
	};
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		struct cpu_model model;
		struct err err;
		assert_true(cpu_model_parse(cases[n].model, &model, &err));
		for (unsigned k = 0; k < ARRAY_LEN(cases[n].gone) && cases[n].gone[k]; k++)
			if (feature_in(&model.features, cases[n].gone[k]))
				fail_msg("%s keeps feature %u", cases[n].model, k);
		for (unsigned k = 0; k < ARRAY_LEN(cases[n].kept) && cases[n].kept[k]; k++)
			assert_true(feature_in(&model.features, cases[n].kept[k]));
	}
}

static void topology_and_caches(void **state)
{
	struct guest g;
	uint32_t r[4];
	guest_start_model(&g, GUEST_LONG, "amd");
	cpuid_query(g.v, 0x80000000, 0, r);
	assert_int_equal(r[0], 0x80000021);
	cpuid_query(g.v, 0x8000001d, 2, r);
	assert_int_equal(((r[1] & 0xfff) + 1) * ((r[1] >> 22) + 1) * (r[2] + 1), 1 << 20);
	cpuid_query(g.v, 0x8000001d, 3, r);
	assert_int_equal(r[0], 0);
	cpuid_query(g.v, 0x80000001, 0, r);
	assert_true((r[3] & 1) && (r[3] & BIT(23)) && (r[3] & BIT(24))); /* FPU, MMX, FXSR are repeated; SSE is not */
	assert_false(r[3] & BIT(25));
	guest_stop(&g);
	guest_start(&g, GUEST_LONG);
	cpuid_query(g.v, 0x80000000, 0, r);
	assert_int_equal(r[0], 0x80000008);
	cpuid_query(g.v, 4, 2, r);
	assert_int_equal(((r[1] & 0xfff) + 1) * ((r[1] >> 22) + 1) * (r[2] + 1), 1 << 20);
	cpuid_query(g.v, 0xb, 0, r);
	assert_int_equal(r[2], 1 << 8);
	cpuid_query(g.v, 0xb, 1, r);
	assert_int_equal(r[2], 2 << 8 | 1);
	cpuid_query(g.v, 0xb, 2, r);
	assert_int_equal(r[2], 2);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identifies_itself), cmocka_unit_test(shows_exactly_the_features), cmocka_unit_test(dynamic_bits),
		cmocka_unit_test(parses), cmocka_unit_test(refuses), cmocka_unit_test(qemu_names), cmocka_unit_test(xsave_leaves),
		cmocka_unit_test(dependent_features), cmocka_unit_test(topology_and_caches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
