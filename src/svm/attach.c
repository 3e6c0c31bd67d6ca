/* Gives processors the state and the functions of nested guests, and takes them away: the face of this directory, see svm.h. */
#include "base/alloc.h"
#include "svm/state.h"

static const struct nested_ops operations = {
	.instruction = svm_instruction,
	.execute = svm_execute,
	.exception = svm_exception,
	.shutdown = svm_shutdown,
	.task_switch = svm_task_switch,
	.stage2_fault = svm_stage2_fault,
	.arriving = svm_arriving,
	.virtual_event = svm_virtual_event,
	.has_work = svm_has_work,
	.virtual_nmi = svm_virtual_nmi,
	.virtual_tpr = svm_virtual_tpr,
	.ferr_freeze = svm_ferr_freeze,
	.exit = svm_leave,
	.smm_enter = svm_smm_enter,
	.smm_leave = svm_smm_leave,
	.reset = svm_reset,
	.registers = svm_registers_changed,
};

bool svm_attach(struct vcpu *v)
{
	if (!vcpu_has(v, FEAT_SVM) || v->nested)
		return true;
	v->nested = mem_zalloc(1, sizeof(*v->nested));
	if (!v->nested)
		return false;
	v->nested_ops = &operations;
	svm_reset(v, false);
	return true;
}

void svm_set_verify(struct vcpu *v, bool on)
{
	if (v->nested)
		v->nested->verify = on;
}

void svm_detach(struct vcpu *v)
{
	if (!v || !v->nested)
		return;
	mem_free(v->nested);
	v->nested = NULL;
	v->nested_ops = NULL;
}
