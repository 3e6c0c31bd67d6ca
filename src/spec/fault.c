/*
 * Classification of faults by the monitor. Works with fault.h.
 *
 * First the code is cleaned: a #PF has 32 bits, so a set upper half is a warning and dropped; a second-stage code must not carry
 * the synthetic bits, so those are a warning and dropped. Then the access is found private or shared. Then the rules are asked
 * from the top, and the first that applies decides. Bits that no rule names (P, U, I/D, PK, SS, RMP, FINAL, PAGE, SIZEM, VMPL)
 * do not change the class: what they refuse, the walk has refused already.
 */
#include "spec/fault.h"

#include "arch/exception.h"

struct question {
	uint64_t code;
	const struct spec_fault_state *state;
	bool is_private;
};

static bool reserved_and_private(const struct question *q)
{
	return (q->code & PFERR_RSVD) && q->is_private;
}

static bool reserved_current_mmio(const struct question *q)
{
	return (q->code & PFERR_RSVD) && q->state->mmio == SPEC_MMIO_CURRENT;
}

/* The entry with the reserved bit is gone: somebody zapped it. */
static bool reserved_no_mmio(const struct question *q)
{
	return (q->code & PFERR_RSVD) && q->state->mmio == SPEC_MMIO_NONE;
}

static bool walk_refuses(const struct question *q)
{
	return q->state->walk_refuses;
}

static bool attribute_differs(const struct question *q)
{
	return q->state->vm != SPEC_VM_ORDINARY && q->is_private != q->state->private_at_check;
}

static bool private_without_slot(const struct question *q)
{
	return !q->state->has_slot && q->is_private;
}

static bool shared_without_slot(const struct question *q)
{
	return !q->state->has_slot;
}

static bool slot_is_leaving(const struct question *q)
{
	return q->state->slot_is_leaving;
}

static bool write_to_read_only(const struct question *q)
{
	return q->state->slot_is_read_only && (q->code & PFERR_W);
}

/* Emulation needs the data, and private memory does not show it. */
static bool private_write_to_read_only(const struct question *q)
{
	return q->is_private && write_to_read_only(q);
}

static bool is_stale(const struct question *q)
{
	return q->state->stale;
}

static bool always(const struct question *q)
{
	return true;
}

static const struct rule {
	const char *name;
	bool (*applies)(const struct question *q);
	enum spec_fault_class class;
	unsigned warnings;
} rules[] = {
	{ "reserved and private", reserved_and_private, SPEC_CLASS_MEMORY_FAULT_EXIT, 1 },
	{ "reserved, MMIO entry of this generation", reserved_current_mmio, SPEC_CLASS_EMULATE, 0 },
	{ "reserved, no MMIO entry", reserved_no_mmio, SPEC_CLASS_RETRY, 0 },
	/* An MMIO entry of an older generation is no obstacle: the fault goes on as an ordinary one. */
	{ "guest tables refuse", walk_refuses, SPEC_CLASS_INJECT, 0 },
	{ "attribute differs", attribute_differs, SPEC_CLASS_MEMORY_FAULT_EXIT, 0 },
	{ "private, no slot", private_without_slot, SPEC_CLASS_MEMORY_FAULT_EXIT, 0 },
	{ "shared, no slot", shared_without_slot, SPEC_CLASS_EMULATE, 0 },
	{ "slot is leaving", slot_is_leaving, SPEC_CLASS_RETRY, 0 },
	{ "private, write to read-only memory", private_write_to_read_only, SPEC_CLASS_MEMORY_FAULT_EXIT, 0 },
	{ "write to read-only memory", write_to_read_only, SPEC_CLASS_EMULATE, 0 },
	{ "stale", is_stale, SPEC_CLASS_RETRY, 0 },
	{ "otherwise", always, SPEC_CLASS_MAP, 0 },
};

/* Drops what this source cannot have said. */
static uint64_t clean(uint64_t code, enum spec_fault_source source, unsigned *warnings)
{
	uint64_t impossible = source == SPEC_SOURCE_PF ? BITS(63, 32) : PFERR_SYNTHETIC;
	if (code & impossible)
		*warnings += 1;
	return code & ~impossible;
}

/* Only second-stage faults can be private; emulated MMIO of a software-protected machine is shared by definition. */
static bool is_private(uint64_t code, const struct spec_fault_state *state)
{
	if (state->source == SPEC_SOURCE_PF)
		return false;
	if (state->vm == SPEC_VM_SNP)
		return code & PFERR_GUEST_ENC;
	if (state->vm == SPEC_VM_SOFTWARE_PROTECTED)
		return !(code & PFERR_RSVD) && state->private_at_entry;
	return false;
}

struct spec_fault_verdict spec_fault_classify(uint64_t code, const struct spec_fault_state *state)
{
	struct spec_fault_verdict verdict = { .class = SPEC_CLASS_MAP };
	struct question q = { .state = state };

	q.code = clean(code, state->source, &verdict.warnings);
	q.is_private = is_private(q.code, state);
	verdict.code = q.code | (q.is_private ? PFERR_PRIVATE_ACCESS : 0);
	for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
		if (!rules[i].applies(&q))
			continue;
		verdict.class = rules[i].class;
		verdict.warnings += rules[i].warnings;
		verdict.rule = rules[i].name;
		break;
	}
	return verdict;
}
