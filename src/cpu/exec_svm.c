/*
 * The instructions of the secure virtual machine (APM 2, "SVM Instruction Set"): a face only. What they do belongs to the layer of nested
 * guests, which the processor reaches through struct nested_ops; without that layer they are invalid opcodes. VMMCALL is in exec_sys.c.
 */
#include "cpu/nested.h"
#include "cpu/system.h"

static unsigned execute(struct vcpu *v, const struct insn *i)
{
	if (v->nested_ops)
		return v->nested_ops->execute(v, i);
	raise_ud(v);
	FAIL(v, i);
}

HANDLER(exec_VMRUN) { return execute(v, i); }
HANDLER(exec_VMLOAD) { return execute(v, i); }
HANDLER(exec_VMSAVE) { return execute(v, i); }
HANDLER(exec_STGI) { return execute(v, i); }
HANDLER(exec_CLGI) { return execute(v, i); }
HANDLER(exec_INVLPGA) { return execute(v, i); }
