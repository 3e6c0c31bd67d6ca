/*
 * Nested guests as the AMD manual has them (APM 2, "Secure Virtual Machine"): the face of this directory. The processor calls in through
 * struct nested_ops (cpu/nested.h).
 */
#ifndef UMBRA_SVM_SVM_H
#define UMBRA_SVM_SVM_H

#include "arch/vmcb.h"
#include "base/pack.h"
#include "cpu/nested.h"

/* Gives a vcpu whose model has SVM its state and functions; does nothing for another one. False without memory. */
bool svm_attach(struct vcpu *v);
/* Whether the invariants of nested state (docs/NESTED.md) are verified after each VMRUN and #VMEXIT; one that does not hold is a bug. */
void svm_set_verify(struct vcpu *v, bool on);
/* Releases them. A vcpu without is fine. */
void svm_detach(struct vcpu *v);

/* ---- from outside (snapshot.c) -------------------------------------------------------------------------------------------------- */

/*
 * What a nested guest adds to a processor's state, after vcpu_state() and for a processor of the same model. Loading fills in the copies
 * and checks them; svm_state_loaded() follows when the whole machine is loaded, and does nothing outside of guest mode.
 */
void svm_state(struct vcpu *v, struct pack *pack);
void svm_state_loaded(struct vcpu *v);

/*
 * The same for a client that moves a processor piece by piece: the control area is the nested guest's, the state-save area holds the
 * registers of L1; those of the nested guest are the processor's. Without guest mode, gif alone counts.
 */
struct svm_image {
	bool guest_mode, gif;
	gpa_t vmcb12_gpa;
	struct vmcb vmcb;
};

/* Between instructions. */
void svm_get_image(const struct vcpu *v, struct svm_image *ret_image);
/*
 * Leaves the nested guest that runs, if one does, and enters the one of the image, if there is one; in either case the processor's
 * registers stay as they are. Constant text if the image is refused, and nothing has changed.
 */
const char *svm_set_image(struct vcpu *v, const struct svm_image *image);

#endif
