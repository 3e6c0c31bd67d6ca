/*
 * The written specification of what the monitor does with a fault that reaches it: for each error code, source and state of the
 * address, one class. The rules stand in one table in fault.c, in the order in which they are asked.
 */
#ifndef UMBRA_SPEC_FAULT_H
#define UMBRA_SPEC_FAULT_H

#include "base/types.h"

enum spec_fault_source {
	SPEC_SOURCE_PF,  /* a #PF on shadow tables: the architectural code has 32 bits */
	SPEC_SOURCE_NPF, /* a fault of the second stage: 64 bits, of which the synthetic ones cannot come from hardware */
};

enum spec_vm_kind {
	SPEC_VM_ORDINARY,
	SPEC_VM_SNP,                /* a second-stage access is private when its code has ENC */
	SPEC_VM_SOFTWARE_PROTECTED, /* ... when the gfn's attribute says so */
};

enum spec_mmio_entry { SPEC_MMIO_NONE, SPEC_MMIO_CURRENT, SPEC_MMIO_STALE };

/* Everything but the code that the answer depends on. */
struct spec_fault_state {
	enum spec_fault_source source;
	enum spec_vm_kind vm;
	enum spec_mmio_entry mmio; /* what stands in the monitor's tables for the address: an MMIO entry, and of which generation */
	bool walk_refuses;         /* the tables of the guest (or of L1) refuse the access; false where the monitor walks none */
	bool private_at_entry;     /* the gfn's attribute when the fault came in */
	bool private_at_check;     /* ... after the invalidation sequence was read */
	bool has_slot;
	bool slot_is_leaving;      /* the slot is being deleted or moved */
	bool slot_is_read_only;
	bool stale;                /* at installation: root obsolete, or the gfn was invalidated since the sequence was read */
};

enum spec_fault_class {
	SPEC_CLASS_MAP,
	SPEC_CLASS_EMULATE, /* MMIO, or a write to read-only memory */
	SPEC_CLASS_RETRY,   /* change nothing, let the access happen again */
	SPEC_CLASS_MEMORY_FAULT_EXIT,
	SPEC_CLASS_INJECT,
};

struct spec_fault_verdict {
	enum spec_fault_class class;
	unsigned warnings; /* how many times the monitor has to complain: impossible bits, reserved with private */
	uint64_t code;     /* after stripping, and with PFERR_PRIVATE_ACCESS where the access is private */
	const char *rule;  /* name of the rule that decided */
};

/* Total: every code and every state has an answer. */
struct spec_fault_verdict spec_fault_classify(uint64_t code, const struct spec_fault_state *state);

#endif
