/*
 * Faults of the nested tables as #VMEXIT (APM 2, "Nested versus Guest Page Faults, Fault Ordering"), and the instruction bytes that a
 * data fault brings along (APM 2, "Decode Assists"). The MMU finds the fault and encodes it; the processor brings it here.
 */
#include <string.h>

#include "insn/decode.h"
#include "svm/state.h"

void svm_stage2_fault(struct vcpu *v, const struct mmu_guest_fault *fault)
{
	vmexit(v, VMEXIT_NPF, fault->code & ~PFERR_SYNTHETIC & ~PFERR_IMPLICIT_ACCESS, fault->gpa);
}

/* Up to `room` bytes of code at a linear address, within its page. Returns how many could be had. */
static unsigned read_code(struct vcpu *v, uint64_t linear, unsigned room, uint8_t *ret)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	if (v->code_size == 8 && !is_canonical(linear, vcpu_linear_bits(v)))
		return 0;
	unsigned length = (unsigned)MIN((uint64_t)room, PAGE_SIZE - (linear & PAGE_OFFSET_MASK));
	const uint8_t *host = tlb_fetch_hit(&v->hot, linear); /* the instruction was fetched a moment ago */
	if (host) {
		memcpy(ret, host, length);
		return length;
	}
	if (!mmu_translate(v->mmu, linear, PFERR_FETCH | (v->cpl == 3 ? PFERR_U : 0), &translation, &fault) || !translation.host)
		return 0;
	memcpy(ret, translation.host, length);
	return length;
}

/* How many bytes from rip the code segment lets through. */
static unsigned room_in_segment(const struct vcpu *v)
{
	uint64_t limit = v->seg[SEG_CS].limit;
	if (v->code_size == 8)
		return INSN_MAX_LENGTH;
	return v->rip > limit ? 0 : (unsigned)MIN((uint64_t)INSN_MAX_LENGTH, limit - v->rip + 1);
}

void svm_record_bytes(struct vcpu *v)
{
	struct vmexit_record *exit = &v->nested->exit;
	uint64_t linear = v->code_size == 8 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);
	unsigned room = room_in_segment(v);
	if (!vcpu_has(v, FEAT_DECODE_ASSISTS) || !room)
		return;
	unsigned length = read_code(v, linear, room, exit->insn_bytes);
	if (length && length < room) {
		uint64_t next = v->code_size == 8 ? linear + length : (uint32_t)(linear + length);
		length += read_code(v, next, room - length, exit->insn_bytes + length);
	}
	exit->insn_length = (uint8_t)length;
}

void svm_leave(struct vcpu *v, const struct event *delivering)
{
	const struct vmexit_record *exit = &v->nested->exit;
	if (exit->code == VMEXIT_NPF && !delivering && !(exit->info_1 & PFERR_FETCH))
		svm_record_bytes(v);
	if (delivering && delivering->kind == EVENT_NMI) /* a virtual NMI that was cut off blocks none (APM 2, "NMI Virtualization") */
		svm_virtual_nmi(v, false);
	svm_exit(v, delivering);
}
