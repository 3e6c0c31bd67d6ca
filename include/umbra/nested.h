/*
 * Nested guests of a processor, from outside: what a client needs, besides the registers, to move a processor that runs one.
 *
 * Vocabulary: L1 is the guest that made a VMRUN, L2 the nested guest. While L2 runs, the registers of vcpu.h are L2's; L1's wait until the
 * next #VMEXIT. So the state here carries L2's *control* area and L1's *save* area, and L2's own registers travel through the register
 * setters. A machine without nested guests (a model without SVM) has this state too: GIF is set, and there is no guest.
 *
 * Order. Registers may be set before or after the nested state, or both: setting the nested state never touches them, and setting
 * registers never leaves the nested guest. Only when all has been set does the processor have to make sense as a whole.
 *
 * Threads: as for the processor (vcpu.h).
 */
#ifndef UMBRA_NESTED_H
#define UMBRA_NESTED_H

#include <umbra/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct umbra_vcpu;

#define UMBRA_NESTED_GUEST_MODE 1u /* L2 runs; the other fields count */
#define UMBRA_NESTED_GIF 2u        /* the global interrupt flag */

#define UMBRA_VMCB_SIZE 4096

struct umbra_nested {
	uint32_t flags;   /* UMBRA_NESTED_*; others are refused */
	uint32_t zero;    /* must be 0 */
	uint64_t vmcb12;  /* guest-physical address of L1's VMCB, which the next #VMEXIT writes */
	/*
	 * A VMCB in the layout of APM 2, "Layout of VMCB". The control area is L2's, as VMRUN copied it and as it has changed since then
	 * (V_TPR, V_IRQ). The state-save area is L1's: ES, CS, SS, DS, GDTR, IDTR, EFER, CR0, CR3, CR4, RFLAGS, RIP, RSP, RAX, PAT and
	 * branch records. What neither names is zero, and is ignored when it is set.
	 */
	uint8_t vmcb[UMBRA_VMCB_SIZE];
};

/* The state at this boundary. Without guest mode, everything but flags is zero. */
UMBRA_API void umbra_vcpu_get_nested(const struct umbra_vcpu *vcpu, struct umbra_nested *ret_nested);

/*
 * Sets it. A nested guest that runs already is left first, with nothing stored to its VMCB; the processor's registers stay as they are
 * in any case. With UMBRA_NESTED_GUEST_MODE the registers are L2's from now on. Translations are dropped; the filter of PAUSE begins anew.
 *
 * False, and nothing at all has changed, with UMBRA_ERROR_USAGE: between instructions only; flags that do not exist; EFER.SVME clear and
 * anything but UMBRA_NESTED_GIF alone; and with UMBRA_NESTED_GUEST_MODE
 *   - in system-management mode, where no nested guest runs;
 *   - an address of the VMCB that is not that of a page, or beyond the physical address width;
 *   - a control area that VMRUN would refuse (APM 2, "Canonicalization and Consistency Checks"), or an event that is still to be injected;
 *   - L1's registers: paging or protection off, RFLAGS.VM, a CPL but 0, EFER.SVME clear, reserved bits or impossible combinations;
 *   - L2's CR0 with NW and without CD, or, in PAE paging on L1's memory, page-directory pointers that cannot be loaded.
 */
UMBRA_API bool umbra_vcpu_set_nested(struct umbra_vcpu *vcpu, const struct umbra_nested *nested, struct umbra_error *error);

#ifdef __cplusplus
}
#endif

#endif
