/*
 * The state behind nested guests: cached copies of vmcb12, the host's registers, and the exit under way. Shared by the files of this
 * directory and seen by nobody else (svm.h is the face).
 *
 * The rule of this directory: vmcb12 is read from guest memory once per VMRUN, as a whole, into a buffer on the stack (vmcb12.c); the two
 * structs below are filled from the buffer; checks and use look at the structs. Guest memory is touched again only by #VMEXIT, which
 * writes. The control copy is valid while a nested guest runs and during VMRUN, the save copy during VMRUN and RSM; outside of that
 * they are filled with poison, and asking for them is a bug (nested_control(), nested_save()).
 */
#ifndef UMBRA_SVM_STATE_H
#define UMBRA_SVM_STATE_H

#include "arch/vmcb.h"
#include "base/bug.h"
#include "cpu/engine.h"
#include "cpu/nested.h"
#include "svm/svm.h"

/* What is validated or used of the control area. Unsupported bits are cleared when it is filled. */
struct vmcb_control_cached {
	uint32_t intercepts[VMCB_VECTOR_COUNT];
	uint16_t pause_filter_threshold, pause_filter_count;
	uint64_t iopm_base_pa, msrpm_base_pa;
	uint64_t tsc_offset;
	uint32_t asid;
	uint8_t tlb_control;
	uint64_t int_ctl, interrupt_shadow;
	uint64_t nested_ctl, nested_cr3;
	uint64_t event_inj;
	uint64_t virt_ext;
	uint32_t clean;
	uint64_t next_rip; /* input: where a software interrupt that is injected returns to */
};

/* The whole state-save area, as far as VMRUN loads it. */
struct vmcb_save_cached {
	struct vmcb_segment segments[VMCB_SEGMENT_COUNT]; /* FS, GS, LDTR and TR are VMLOAD's and not used by VMRUN */
	uint8_t cpl;
	uint64_t efer, cr4, cr3, cr0, dr7, dr6, rflags, rip, rsp, rax, cr2, g_pat;
	uint64_t dbgctl, br_from, br_to, last_excp_from, last_excp_to;
};

/* What VMRUN saves of the host and #VMEXIT loads (APM 2, "Saving Host State"): L1's registers while L2 runs. */
struct svm_host {
	struct segment es, cs, ss, ds;
	struct table_register gdtr, idtr;
	uint64_t efer, cr0, cr4, cr3, rflags, rip, rsp, rax, pat;
	uint64_t dbgctl, br_from, br_to, last_excp_from, last_excp_to; /* with LBR virtualization */
};

struct vmexit_record {
	bool pending;
	uint64_t code, info_1, info_2;
	uint8_t insn_length, insn_bytes[15]; /* decode assists */
	uint64_t next_rip;                   /* 0: none is reported */
};

/* Points where another processor could act, for tests: each is called, if set, with `opaque`. */
struct svm_hooks {
	void (*copied)(void *opaque);                              /* vmcb12 has just been copied; nothing has been checked yet */
	void (*guest_read)(void *opaque, gpa_t gpa, size_t length); /* before each read of guest memory by this directory */
	void *opaque;
};

struct nested {
	struct vmcb_control_cached control;
	struct vmcb_save_cached save;
	bool control_valid, save_valid;
	gpa_t vmcb12_gpa; /* while in guest mode */
	struct svm_host host;
	uint64_t pdpte[4];     /* of a nested guest in PAE paging without nested paging: as svm_check() read and checked them */
	struct vmexit_record exit;
	uint16_t pause_count;   /* left, of the pause filter */
	uint64_t pause_last;    /* TSC of the last PAUSE */
	struct svm_hooks hooks;
	bool verify; /* invariants are verified after each VMRUN and #VMEXIT */
};

static inline struct vmcb_control_cached *nested_control(struct vcpu *v)
{
	BUG_ON(!v->nested->control_valid);
	return &v->nested->control;
}

static inline struct vmcb_save_cached *nested_save(struct vcpu *v)
{
	BUG_ON(!v->nested->save_valid);
	return &v->nested->save;
}

static inline bool intercepts(struct vcpu *v, unsigned intercept)
{
	return nested_control(v)->intercepts[intercept / 32] >> intercept % 32 & 1;
}

/* Records an exit and makes the engine leave: for `return vmexit(v, ...)` where false means that the instruction does not happen. */
static inline bool vmexit(struct vcpu *v, uint64_t code, uint64_t info_1, uint64_t info_2)
{
	v->nested->exit = (struct vmexit_record){.pending = true, .code = code, .info_1 = info_1, .info_2 = info_2};
	v->status = ST_VMEXIT;
	return false;
}

/* ---- vmcb12.c: the only reader and writer of VMCBs in guest memory -------------------------------------------------------------- */

/* Reads length bytes at gpa in one go, telling the hook. False if it is not all memory. */
bool svm_read(struct vcpu *v, gpa_t gpa, void *buffer, size_t length);
bool svm_write(struct vcpu *v, gpa_t gpa, const void *buffer, size_t length);
void svm_fill_control(struct vcpu *v, const struct vmcb_control *from);
void svm_fill_save(struct vcpu *v, const struct vmcb_save *from);
void svm_poison_control(struct vcpu *v);
void svm_poison_save(struct vcpu *v);
/* Copies vmcb12, all of it in one read, into both caches. False, with both of them poison, if it is not memory. */
bool svm_copy(struct vcpu *v, gpa_t vmcb12_gpa);
/*
 * What #VMEXIT writes into the VMCB at gpa, from the processor's registers, the control copy and v->nested->exit. A refused VMRUN writes
 * the exit alone. False, with nothing written, if there is no memory that takes it.
 */
bool svm_store_exit(struct vcpu *v, gpa_t vmcb12_gpa, uint64_t exit_int_info);
bool svm_store_refusal(struct vcpu *v, gpa_t vmcb12_gpa);
/* The VMCB's form of a segment register; an unusable one (null) is one that is not present. CS and TR are never unusable. */
void svm_segment_load(struct segment *to, const struct vmcb_segment *from);
void svm_segment_store(struct vmcb_segment *to, const struct segment *from);
/* VMLOAD and VMSAVE at the page at gpa. False, with nothing changed, if it is not memory. */
bool svm_vmload(struct vcpu *v, gpa_t gpa);
bool svm_vmsave(struct vcpu *v, gpa_t gpa);

/* ---- verify.c ------------------------------------------------------------------------------------------------------------------- */

/* The first invariant of nested state that does not hold, as text, after a VMRUN (refused tells how it ended) or #VMEXIT; NULL: none. */
const char *svm_broken(const struct vcpu *v, bool refused);
/* Makes it a bug. */
void svm_verify_now(struct vcpu *v, bool refused);
static inline void svm_verify(struct vcpu *v, bool refused)
{
	if (UNLIKELY(v->nested->verify) && !v->shutdown)
		svm_verify_now(v, refused);
}

/* ---- check.c -------------------------------------------------------------------------------------------------------------------- */

/*
 * One row a rule: id, text, title of the manual's section (check.def). Number of the first row that refuses, or -1. Host state is looked at
 * in v->nested->host; PDPTEs are read into v->nested->pdpte.
 */
int svm_check(struct vcpu *v, const struct vmcb_control_cached *control, const struct vmcb_save_cached *save);
unsigned svm_check_count(void);
const char *svm_check_id(unsigned row);
const char *svm_check_text(unsigned row);
const char *svm_check_section(unsigned row);
/* The four PDPTEs at cr3 in the memory of L1. False if there is no memory, or a reserved bit is set in one that is present. */
bool svm_read_pdptes(struct vcpu *v, uint64_t cr3, uint64_t ret[4]);
/* Whether these registers mean PAE paging, for which PDPTEs are held in registers. */
bool svm_pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer);

/* ---- enter.c, exit.c ------------------------------------------------------------------------------------------------------------ */

/*
 * VMRUN of the VMCB at gpa, after the instruction's own checks and svm_copy(), and with host state to be saved; v->rip is already the next
 * one's. A VMCB that svm_check() refuses ends as #VMEXIT(VMEXIT_INVALID).
 */
void svm_enter(struct vcpu *v, gpa_t vmcb12_gpa);
/* #VMEXIT: stores the guest's state into vmcb12, loads the host's. The exit is v->nested->exit. */
void svm_exit(struct vcpu *v, const struct event *delivering);

/*
 * The parts of them, which SMI and RSM use too. svm_load_guest() takes the processor from L1 into L2, from both caches, which svm_check()
 * has found good, and v->nested->pdpte; the save copy is poison afterwards.
 */
void svm_save_host(struct vcpu *v);
void svm_load_guest(struct vcpu *v, gpa_t vmcb12_gpa);
/* The MMU as the processor's registers, the control copy and the PDPTEs say. No flush is ordered. */
void svm_switch_mmu(struct vcpu *v);
/* Out of guest mode, with L1's registers from v->nested->host; the control copy becomes poison. False: L1's state is illegal (shutdown). */
bool svm_load_host(struct vcpu *v);
/* In guest mode, the guest's registers were set from outside. (snapshot.c) */
void svm_registers_changed(struct vcpu *v);
/* Out of guest mode with nothing stored or loaded: INIT, RESET, a register setter. */
void svm_reset(struct vcpu *v, bool init);
/* L1 cannot go on. */
void svm_triple_fault(struct vcpu *v);

/* ---- intercept.c, event.c, npt.c: functions of struct nested_ops ------------------------------------------------------------------ */

bool svm_instruction(struct vcpu *v, const struct insn *i);
bool svm_exception(struct vcpu *v, const struct event *event, const struct event *delivering);
bool svm_shutdown(struct vcpu *v);
bool svm_task_switch(struct vcpu *v, const struct nested_task_switch *task);
void svm_stage2_fault(struct vcpu *v, const struct mmu_guest_fault *fault);
enum nested_verdict svm_arriving(struct vcpu *v, enum arrival arrival);
enum nested_verdict svm_virtual_event(struct vcpu *v, struct event *ret, bool *ret_take);
bool svm_has_work(const struct vcpu *v);
bool svm_virtual_nmi(struct vcpu *v, bool blocked);
bool svm_virtual_tpr(struct vcpu *v, bool write, uint64_t *value);
bool svm_ferr_freeze(struct vcpu *v);
/* nested_ops->exit: adds what only the exit itself can find out, and calls svm_exit(). */
void svm_leave(struct vcpu *v, const struct event *delivering);
/* Puts the bytes of the instruction at v->rip into the exit's record. */
void svm_record_bytes(struct vcpu *v);
/*
 * The last step of svm_enter(): delivers EVENTINJ of the control copy in the guest, which may leave it again (v->guest_mode is clear
 * then). Also starts what counts from VMRUN on.
 */
void svm_inject(struct vcpu *v);
/* The event as EXITINTINFO has it. */
uint64_t svm_event_info(const struct event *event);

/* ---- exec.c ----------------------------------------------------------------------------------------------------------------------- */

unsigned svm_execute(struct vcpu *v, const struct insn *i);
/*
 * What rAX of VMLOAD and VMSAVE means in a nested guest that executes them unintercepted (APM 2, "VMSAVE and VMLOAD Virtualization"):
 * an address of L1's memory; with virtualization one of the guest's, or nothing unless L1 is in 64-bit mode and nested paging on.
 */
enum vmload_way { VMLOAD_PHYSICAL, VMLOAD_VIRTUAL, VMLOAD_EXITS };
enum vmload_way svm_vmload_way(struct vcpu *v);

/* ---- smm.c ------------------------------------------------------------------------------------------------------------------------ */

void svm_smm_enter(struct vcpu *v, uint64_t *ret_vmcb_gpa, bool *ret_in_guest);
bool svm_smm_leave(struct vcpu *v, uint64_t vmcb_gpa, bool in_guest);

#endif
