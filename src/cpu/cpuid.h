/*
 * CPU models: fixed lists of features, the same on every host; CPUID; and the language of -cpu.
 *
 * A model text is NAME[,+feature|-feature|feature=on|off|maxphyaddr=N|phys-bits=N|vendor=GenuineIntel|AuthenticAMD]... The names are
 * `amd` and `intel`. Dashes and underscores in feature names are the same.
 */
#ifndef UMBRA_CPU_CPUID_H
#define UMBRA_CPU_CPUID_H

#include "base/err.h"
#include "base/strbuf.h"
#include "cpu/vcpu.h"

/* Physical address width of a model that does not say maxphyaddr=. */
#define CPU_DEFAULT_MAXPHYADDR 40

/* CPUID as the instruction answers it now: EAX, EBX, ECX, EDX. */
void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);

/* The model `amd`. */
void cpu_model_default(struct cpu_model *ret);
/* False with *err set: an unknown name (the nearest is named), or a value out of range. */
bool cpu_model_parse(const char *text, struct cpu_model *ret, struct err *err);
/* The same for QEMU's names and spellings: unknown models become `intel` or `amd`, unknown features are ignored. */
bool cpu_model_parse_qemu(const char *text, struct cpu_model *ret, struct err *err);

/* Appends the text from which cpu_model_parse() makes this very model: every feature is named, so that it holds in later versions, too. */
void cpu_model_text(const struct cpu_model *model, struct strbuf *out);

/* Names for a listing: index from 0; NULL after the last. */
const char *cpu_model_name(unsigned index);
const char *cpu_feature_name(unsigned index);

/* What of a model bears on page walks. */
void cpu_model_mmu_facts(const struct cpu_model *model, struct mmu_cpuid *ret);

#endif
