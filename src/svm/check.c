/*
 * Whether a VMCB may be run: the rules of check.def, asked of the two copies and never of guest memory. The PDPTEs of a guest in PAE paging
 * are read here, once, and used from where they are put. enter.c acts on the answer.
 */
#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "svm/state.h"

#define CS_L 0x200u /* in the VMCB's form */
#define CS_L_AND_D (CS_L | 0x400u)

static bool tlb_control_valid(const struct vcpu *v, unsigned value)
{
	if (value == TLB_CONTROL_ASID || value == TLB_CONTROL_ASID_LOCAL)
		return vcpu_has(v, FEAT_FLUSH_BY_ASID);
	return value == TLB_CONTROL_NONE || value == TLB_CONTROL_ALL;
}

/* The map must end below the end of the physical address space, not with it. */
static bool map_fits(const struct vcpu *v, uint64_t base, uint64_t size)
{
	return base < BIT(v->model.maxphyaddr) - size;
}

static bool pat_valid(uint64_t pat)
{
	for (unsigned n = 0; n < 8; n++, pat >>= 8) {
		uint64_t type = pat & 0xff;
		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

static unsigned event_type(uint64_t event_inj)
{
	return (unsigned)((event_inj & EVENT_TYPE) >> EVENT_TYPE_SHIFT);
}

static bool event_type_valid(uint64_t event_inj)
{
	return event_type(event_inj) <= EVENT_TYPE_SOFT && event_type(event_inj) != 1;
}

/* #DE, #DB, #BP to #DF, #TS to #PF, #MF to #XF, #SX. Vector 2 is an NMI and no exception. */
#define EXCEPTIONS (BITS(19, 16) | BITS(14, 10) | BITS(8, 3) | BITS(1, 0) | BIT(30))

static bool event_vector_valid(uint64_t event_inj)
{
	uint64_t vector = event_inj & EVENT_VECTOR;
	return event_type(event_inj) != EVENT_TYPE_EXCEPTION || (vector < 32 && (EXCEPTIONS >> vector & 1));
}

static bool long_paging(const struct vmcb_save_cached *save)
{
	return (save->efer & EFER_LME) && (save->cr0 & CR0_PG);
}

bool svm_pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LME);
}

bool svm_read_pdptes(struct vcpu *v, uint64_t cr3, uint64_t ret[4])
{
	struct mmu_cpuid facts;
	cpu_model_mmu_facts(&v->model, &facts);
	uint64_t reserved = regime_pdpte_reserved(&facts);
	if (!svm_read(v, (uint32_t)cr3 & ~31u, ret, 4 * sizeof(*ret)))
		return false;
	for (unsigned n = 0; n < 4; n++)
		if ((ret[n] & PTE_P) && (ret[n] & reserved))
			return false;
	return true;
}

/* With nested paging the table is the guest's physical memory, and its entries are read when a walk needs them. */
static bool pdptes_good(struct vcpu *v, const struct vmcb_control_cached *control, const struct vmcb_save_cached *save)
{
	for (unsigned n = 0; n < 4; n++)
		v->nested->pdpte[n] = 0;
	if ((control->nested_ctl & NESTED_CTL_NP) || !svm_pae_paging(save->cr0, save->cr4, save->efer))
		return true;
	return svm_read_pdptes(v, save->cr3, v->nested->pdpte);
}

/* BOUND does not exist there. */
static bool event_possible(const struct vmcb_save_cached *save, uint64_t event_inj)
{
	bool code_64 = long_paging(save) && (save->segments[VMCB_CS].attrib & CS_L);
	return !code_64 || event_type(event_inj) != EVENT_TYPE_EXCEPTION || (event_inj & EVENT_VECTOR) != VEC_BR;
}

enum row {
#define CHECK(id, text, section, refuses, breaks, nearly) ROW_##id,
#include "svm/check.def"
#undef CHECK
	ROW_COUNT,
};

static const struct {
	const char *id, *text, *section;
} rows[] = {
#define CHECK(id, text, section, refuses, breaks, nearly) {#id, text, section},
#include "svm/check.def"
#undef CHECK
};

int svm_check(struct vcpu *v, const struct vmcb_control_cached *c, const struct vmcb_save_cached *s)
{
#define CHECK(id, text, section, refuses, breaks, nearly) \
	if (refuses)                                      \
		return ROW_##id;
#include "svm/check.def"
#undef CHECK
	return -1;
}

unsigned svm_check_count(void)
{
	return ROW_COUNT;
}

const char *svm_check_id(unsigned row)
{
	return rows[row].id;
}

const char *svm_check_text(unsigned row)
{
	return rows[row].text;
}

const char *svm_check_section(unsigned row)
{
	return rows[row].section;
}
