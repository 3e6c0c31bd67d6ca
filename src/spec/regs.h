/*
 * The registers on which paging depends, as one plain snapshot, and the first questions that one asks of it. Everything in
 * spec/ takes such a snapshot and works the answer out again from the manuals each time: no cache, no precomputed masks.
 * Shares nothing with mmu/, so that the two can be compared.
 */
#ifndef UMBRA_SPEC_REGS_H
#define UMBRA_SPEC_REGS_H

#include "arch/cpuid.h"
#include "arch/cr.h"
#include "base/bits.h"

struct spec_regs {
	uint64_t cr0, cr3, cr4, efer; /* efer.LMA tells whether 4-level or 5-level paging is on, as on the processor */
	uint32_t pkru, pkrs;
	bool rflags_ac;
	bool gmet;           /* a hypervisor's, for its nested tables: see nested.c */
	unsigned cpl;        /* used by spec_access_from_cpl only */
	unsigned maxphyaddr; /* 32 to 52 */
	bool feat_nx, feat_pdpe1gb, feat_pse36;
	enum vendor vendor;
	uint64_t pdpte[4]; /* the PAE PDPTE registers, loaded by spec_load_pdptes */
};

enum spec_paging { SPEC_PAGING_OFF, SPEC_PAGING_32BIT, SPEC_PAGING_PAE, SPEC_PAGING_4LEVEL, SPEC_PAGING_5LEVEL };

/* SDM 3, "Four Paging Modes" and "Paging-Mode Enabling". */
static inline enum spec_paging spec_paging_of(const struct spec_regs *regs)
{
	if (!(regs->cr0 & CR0_PG))
		return SPEC_PAGING_OFF;
	if (!(regs->cr4 & CR4_PAE))
		return SPEC_PAGING_32BIT;
	if (!(regs->efer & EFER_LMA))
		return SPEC_PAGING_PAE;
	return regs->cr4 & CR4_LA57 ? SPEC_PAGING_5LEVEL : SPEC_PAGING_4LEVEL;
}

/* Whether bit 63 of an 8-byte entry means execute-disable; otherwise it is reserved. */
static inline bool spec_nx_enabled(const struct spec_regs *regs)
{
	return regs->feat_nx && (regs->efer & EFER_NX);
}

/* The current process-context identifier: 0 while CR4.PCIDE is clear (SDM 3, "Process-Context Identifiers (PCIDs)"). */
static inline unsigned spec_pcid_of(const struct spec_regs *regs)
{
	return regs->cr4 & CR4_PCIDE ? (unsigned)(regs->cr3 & CR3_PCID_MASK) : 0;
}

#endif
