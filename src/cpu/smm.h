/*
 * System-management mode: a system-management interrupt puts the processor's state into SMRAM and starts the handler there, and RSM
 * brings it back (smm.c). While v->smm is set, memory is address space 1, where the machine may have slots that nobody else sees.
 * (APM 2, "System-Management Mode"; SDM 3, "System Management Mode")
 */
#ifndef UMBRA_CPU_SMM_H
#define UMBRA_CPU_SMM_H

#include "cpu/vcpu.h"

#define SMM_BASE_RESET 0x30000u /* SMBASE after RESET */
#define SMM_ENTRY_OFFSET 0x8000u /* from SMBASE to the handler's first instruction */
#define SMM_AREA_OFFSET 0xfe00u  /* from SMBASE to the state-save area, which ends with the 64 KiB */
#define SMM_AREA_SIZE 0x200u

/*
 * Takes the pending SMI, outside of SMM and at an instruction boundary without an interrupt shadow, which the state-save area has no room
 * for. run.c has asked whether GIF or an intercept of L1 is in the way.
 */
void smm_enter(struct vcpu *v);
/* Whether a pending SMI would be taken at the next boundary, or wakes a processor that waits. */
static inline bool smm_smi_waits(const struct vcpu *v)
{
	return v->smi_pending && !v->smm && v->gif;
}

/*
 * Whether control registers may be loaded together from outside of the processor: no reserved bit, no combination that MOV and WRMSR
 * could never make. Page-directory pointers are not looked at.
 */
bool smm_registers_valid(const struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);
/*
 * The four pointers that PAE paging would load from cr3, read once, of the address space outside of SMM. False: no memory, or one is
 * not permitted. Without PAE paging under these registers all are zero.
 */
bool smm_read_pdptes(const struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer, uint64_t ret[4]);

#endif
