/* CPU models and the text that names them, see cpuid.h. */
#include "cpu/cpuid.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct named_model {
	const char *name;
	enum vendor vendor;
	unsigned family, model, stepping;
	const char *brand;
	char letter; /* in the models column of feature.def */
};

static const struct named_model models[] = {
	{"amd", VENDOR_AMD, 0x19, 0x01, 1, "umbra virtual amd processor", 'A'},
	{"intel", VENDOR_INTEL, 6, 0x6a, 6, "umbra virtual intel processor", 'I'},
};

struct named_feature {
	const char *name;
	const char *models;
	enum feature feature;
};

static const struct named_feature features[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit, models) {name, #models, FEAT_##id},
#include "arch/feature.def"
#undef FEATURE
};

const char *cpu_model_name(unsigned index)
{
	return index < ARRAY_LEN(models) ? models[index].name : NULL;
}

const char *cpu_feature_name(unsigned index)
{
	return index < ARRAY_LEN(features) ? features[index].name : NULL;
}

void cpu_model_mmu_facts(const struct cpu_model *model, struct mmu_cpuid *ret)
{
	const struct feature_set *set = &model->features;
	*ret = (struct mmu_cpuid){
		.maxphyaddr = model->maxphyaddr,
		.nx = feature_in(set, FEAT_NX),
		.gbpages = feature_in(set, FEAT_PDPE1GB),
		.pse36 = feature_in(set, FEAT_PSE36),
		.la57 = feature_in(set, FEAT_LA57),
		.pku = feature_in(set, FEAT_PKU),
		.pks = feature_in(set, FEAT_PKS),
		.pcid = feature_in(set, FEAT_PCID),
		.vendor = model->vendor,
	};
}

static void model_from_name(const struct named_model *named, struct cpu_model *ret)
{
	*ret = (struct cpu_model){
		.vendor = named->vendor,
		.family = named->family,
		.model = named->model,
		.stepping = named->stepping,
		.maxphyaddr = CPU_DEFAULT_MAXPHYADDR,
		.tsc_hz = CLOCK_HZ,
	};
	memcpy(ret->name, named->name, strlen(named->name));
	memcpy(ret->brand, named->brand, strlen(named->brand));
	for (size_t n = 0; n < ARRAY_LEN(features); n++)
		feature_set_to(&ret->features, features[n].feature, strchr(features[n].models, named->letter));
}

/*
 * Which feature is nothing without which: the instructions of the first work on state, or are encoded in a way, that the second brings.
 * Sorted so that one pass from the top finds everything.
 */
static const struct {
	uint8_t feature, needs;
} dependencies[] = {
	{FEAT_MMX, FEAT_FPU}, {FEAT_FXSR, FEAT_FPU}, {FEAT_MMXEXT, FEAT_MMX}, {FEAT_SSE, FEAT_FXSR}, {FEAT_SSE2, FEAT_SSE},
	{FEAT_MOVNTI, FEAT_SSE2}, {FEAT_SSE3, FEAT_SSE2}, {FEAT_SSSE3, FEAT_SSE3},
	{FEAT_SSE41, FEAT_SSSE3}, {FEAT_SSE42, FEAT_SSE41}, {FEAT_CRC32, FEAT_SSE42}, {FEAT_PCLMULQDQ, FEAT_SSE2},
	{FEAT_AES, FEAT_SSE2}, {FEAT_SHA, FEAT_SSE2}, {FEAT_GFNI, FEAT_SSE2}, {FEAT_XSAVE, FEAT_FXSR}, {FEAT_XSAVEOPT, FEAT_XSAVE},
	{FEAT_XSAVEC, FEAT_XSAVE}, {FEAT_XGETBV1, FEAT_XSAVE}, {FEAT_XSAVES, FEAT_XSAVEC}, {FEAT_AVX, FEAT_XSAVE},
	{FEAT_AVX, FEAT_SSE42}, {FEAT_F16C, FEAT_AVX}, {FEAT_FMA, FEAT_AVX}, {FEAT_AVX2, FEAT_AVX}, {FEAT_VAES, FEAT_AVX},
	{FEAT_VAES, FEAT_AES}, {FEAT_VPCLMULQDQ, FEAT_AVX}, {FEAT_VPCLMULQDQ, FEAT_PCLMULQDQ}, {FEAT_KVM, FEAT_HYPERVISOR},
	{FEAT_SVM, FEAT_LM},
	{FEAT_NPT, FEAT_SVM}, {FEAT_LBRV, FEAT_SVM}, {FEAT_SVM_LOCK, FEAT_SVM}, {FEAT_NRIPS, FEAT_SVM}, {FEAT_TSC_RATIO, FEAT_SVM},
	{FEAT_VMCB_CLEAN, FEAT_SVM}, {FEAT_FLUSH_BY_ASID, FEAT_SVM}, {FEAT_DECODE_ASSISTS, FEAT_SVM}, {FEAT_PAUSE_FILTER, FEAT_SVM},
	{FEAT_PAUSE_THRESHOLD, FEAT_PAUSE_FILTER}, {FEAT_VIRTUAL_VMLOAD, FEAT_NPT}, {FEAT_VGIF, FEAT_SVM}, {FEAT_VNMI, FEAT_SVM},
	{FEAT_GMET, FEAT_NPT},
};

/* What follows from the features: without one, those that need it are gone too. */
static void model_finish(struct cpu_model *model)
{
	if (model->vendor != VENDOR_AMD)
		feature_set_to(&model->features, FEAT_SVM, false);
	for (size_t n = 0; n < ARRAY_LEN(dependencies); n++)
		if (!feature_in(&model->features, dependencies[n].needs))
			feature_set_to(&model->features, dependencies[n].feature, false);
	model->linear_bits = feature_in(&model->features, FEAT_LA57) ? 57 : 48;
}

void cpu_model_default(struct cpu_model *ret)
{
	model_from_name(&models[0], ret);
	model_finish(ret);
}

/* ---- names -------------------------------------------------------------------------------------------------------------- */

#define WORD_MAX 40

/* One comma-separated word, in lower case, with dashes for underscores. */
struct word {
	char text[WORD_MAX + 1];
	const char *raw; /* in the text, not terminated */
	size_t length;
};

static const char *next_word(const char *text, struct word *ret)
{
	size_t length = strcspn(text, ",");
	ret->raw = text;
	ret->length = length;
	size_t kept = MIN(length, (size_t)WORD_MAX);
	for (size_t n = 0; n < kept; n++)
		ret->text[n] = text[n] == '_' ? '-' : (char)tolower((unsigned char)text[n]);
	ret->text[kept] = 0;
	return text[length] ? text + length + 1 : text + length;
}

/* Edit distance with swapped neighbours as one edit, for texts up to WORD_MAX; longer ones are cut. */
static unsigned distance(const char *a, const char *b)
{
	unsigned table[WORD_MAX + 1][WORD_MAX + 1];
	unsigned height = (unsigned)MIN(strlen(a), (size_t)WORD_MAX), width = (unsigned)MIN(strlen(b), (size_t)WORD_MAX);
	for (unsigned y = 0; y <= height; y++) {
		for (unsigned x = 0; x <= width; x++) {
			if (!y || !x) {
				table[y][x] = y + x;
				continue;
			}
			unsigned least = MIN(table[y - 1][x], table[y][x - 1]) + 1;
			least = MIN(least, table[y - 1][x - 1] + (a[y - 1] != b[x - 1]));
			if (y > 1 && x > 1 && a[y - 1] == b[x - 2] && a[y - 2] == b[x - 1])
				least = MIN(least, table[y - 2][x - 2] + 1);
			table[y][x] = least;
		}
	}
	return table[height][width];
}

static const char *nearest(const char *word, const char *(*name)(unsigned))
{
	const char *best = name(0);
	for (unsigned n = 1; name(n); n++)
		if (distance(word, name(n)) < distance(word, best))
			best = name(n);
	return best;
}

static bool find_feature(const char *word, enum feature *ret)
{
	for (size_t n = 0; n < ARRAY_LEN(features); n++) {
		if (!strcmp(features[n].name, word)) {
			*ret = features[n].feature;
			return true;
		}
	}
	return false;
}

static const struct named_model *find_model(const char *word)
{
	for (size_t n = 0; n < ARRAY_LEN(models); n++)
		if (!strcmp(models[n].name, word))
			return &models[n];
	return NULL;
}

/* ---- settings ----------------------------------------------------------------------------------------------------------- */

static bool set_width(struct cpu_model *model, const char *value, struct err *err)
{
	char *end;
	unsigned long bits = strtoul(value, &end, 10);
	if (!isdigit((unsigned char)*value) || *end || bits < 32 || bits > 52)
		return err_set(err, ERR_USAGE, "cpu: '%s' is no physical address width; use a number from 32 to 52", value);
	model->maxphyaddr = (unsigned)bits;
	return true;
}

static bool set_vendor(struct cpu_model *model, const char *value, struct err *err)
{
	if (!strcmp(value, "genuineintel") || !strcmp(value, "intel"))
		model->vendor = VENDOR_INTEL;
	else if (!strcmp(value, "authenticamd") || !strcmp(value, "amd"))
		model->vendor = VENDOR_AMD;
	else
		return err_set(err, ERR_USAGE, "cpu: vendor '%s' is unknown; use GenuineIntel or AuthenticAMD", value);
	return true;
}

static bool set_feature(struct cpu_model *model, const char *name, bool on, bool lenient, struct err *err)
{
	enum feature feature;
	if (find_feature(name, &feature)) {
		feature_set_to(&model->features, feature, on);
		return true;
	}
	return lenient ||
	       err_set(err, ERR_USAGE, "cpu: feature '%s' is unknown; did you mean '%s'?", name, nearest(name, cpu_feature_name));
}

static bool apply_assignment(struct cpu_model *model, const char *key, const char *value, bool lenient, struct err *err)
{
	if (!strcmp(key, "maxphyaddr") || !strcmp(key, "phys-bits"))
		return set_width(model, value, err);
	if (!strcmp(key, "vendor"))
		return set_vendor(model, value, err);
	if (!strcmp(value, "on") || !strcmp(value, "off"))
		return set_feature(model, key, !strcmp(value, "on"), lenient, err);
	return lenient || err_set(err, ERR_USAGE, "cpu: '%s=%s': the value must be on or off", key, value);
}

/* QEMU's spelling of features that have another name here. */
static const char *from_qemu(const char *name)
{
	static const char *const pairs[][2] = {{"lzcnt", "abm"}, {"clfsh", "clflush"}, {"page1gb", "pdpe1gb"}};
	for (size_t n = 0; n < ARRAY_LEN(pairs); n++)
		if (!strcmp(pairs[n][0], name))
			return pairs[n][1];
	return name;
}

static bool apply_word(struct cpu_model *model, struct word *word, bool qemu, struct err *err)
{
	if (word->length > WORD_MAX)
		return qemu || err_set(err, ERR_USAGE, "cpu: '%.*s...' is no setting", WORD_MAX, word->raw);
	char *text = word->text;
	if (*text == '+' || *text == '-')
		return set_feature(model, qemu ? from_qemu(text + 1) : text + 1, *text == '+', qemu, err);
	char *equals = strchr(text, '=');
	if (equals) {
		*equals = 0;
		return apply_assignment(model, qemu ? from_qemu(text) : text, equals + 1, qemu, err);
	}
	return qemu ? set_feature(model, from_qemu(text), true, true, err) :
		      err_set(err, ERR_USAGE, "cpu: '%s': write +%s or -%s", text, text, text);
}

static bool apply_words(const char *text, struct cpu_model *model, bool qemu, struct err *err)
{
	while (*text) {
		struct word word;
		text = next_word(text, &word);
		if (!apply_word(model, &word, qemu, err))
			return false;
	}
	model_finish(model);
	return true;
}

bool cpu_model_parse(const char *text, struct cpu_model *ret, struct err *err)
{
	struct word word;
	struct cpu_model model;
	text = next_word(text, &word);
	const struct named_model *named = find_model(word.text);
	if (!named)
		return err_set(err, ERR_USAGE, "cpu: model '%s' is unknown; did you mean '%s'?", word.text,
			       nearest(word.text, cpu_model_name));
	model_from_name(named, &model);
	if (!apply_words(text, &model, false, err))
		return false;
	*ret = model;
	return true;
}

void cpu_model_text(const struct cpu_model *model, struct strbuf *out)
{
	strbuf_addf(out, "%s,vendor=%s,maxphyaddr=%u", model->name, model->vendor == VENDOR_AMD ? "amd" : "intel", model->maxphyaddr);
	for (size_t n = 0; n < ARRAY_LEN(features); n++)
		strbuf_addf(out, ",%c%s", feature_in(&model->features, features[n].feature) ? '+' : '-', features[n].name);
}

/* ---- QEMU --------------------------------------------------------------------------------------------------------------- */

/* Whether a QEMU text means an AMD processor: by its model, by its vendor, or because it asks for SVM. */
static bool qemu_means_amd(const char *text)
{
	static const char *const prefixes[] = {"opteron", "epyc", "phenom", "athlon", "amd", "dhyana"};
	struct word word;
	text = next_word(text, &word);
	bool amd = false;
	for (size_t n = 0; n < ARRAY_LEN(prefixes); n++)
		amd |= !strncmp(word.text, prefixes[n], strlen(prefixes[n]));
	while (*text) {
		text = next_word(text, &word);
		if (!strcmp(word.text, "vendor=authenticamd") || !strcmp(word.text, "+svm") || !strcmp(word.text, "svm=on") ||
		    !strcmp(word.text, "svm"))
			amd = true;
		else if (!strcmp(word.text, "vendor=genuineintel"))
			amd = false;
	}
	return amd;
}

bool cpu_model_parse_qemu(const char *text, struct cpu_model *ret, struct err *err)
{
	struct word word;
	struct cpu_model model;
	model_from_name(find_model(qemu_means_amd(text) ? "amd" : "intel"), &model);
	text = next_word(text, &word);
	if (!apply_words(text, &model, true, err))
		return false;
	*ret = model;
	return true;
}
