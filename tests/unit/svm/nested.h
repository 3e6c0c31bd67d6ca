/*
 * The machine of ../cpu/fixture.h with nested guests: a processor in long mode with EFER.SVME set, and a good VMCB in its memory whose
 * guest has the same registers as the host but its own code, without nested paging. Works with svm/.
 */
#ifndef UMBRA_TEST_SVM_NESTED_H
#define UMBRA_TEST_SVM_NESTED_H

#include "fixture.h"
#include "svm/state.h"

#define NESTED_VMCB 0x100000u
#define NESTED_HSAVE 0x101000u
#define NESTED_CODE 0x110000u  /* of the guest; filled with HLT */
#define NESTED_STACK 0x118000u
#define NESTED_PDPTES 0x120000u
#define NESTED_MEMORY 0x140000u /* free */

/* text: a model as -cpu takes it. */
struct fixture *nested_create(const char *text);
void nested_destroy(struct fixture *f);
/* The machine and its VMCB as after nested_create(). */
void nested_rewind(struct fixture *f);
/* The VMCB in guest memory: the fixture's RAM is the guest's. */
struct vmcb *nested_vmcb(struct fixture *f);
/* Executes VMRUN of that VMCB at FIXTURE_CODE. */
void nested_vmrun(struct fixture *f);
/* Leaves the guest with this exit code. */
void nested_exit(struct fixture *f, uint64_t code);
/* What a guest reads at NESTED_MEMORY before it halts, which leaves it. */
uint64_t nested_read(struct fixture *f);
/* Maps the linear page at NESTED_MEMORY to this page of RAM, with no word to any TLB. */
void nested_remap(struct fixture *f, uint64_t gpa);
/* A digest of all registers of the processor but RIP, the flags of its events and the number of instructions. */
uint64_t nested_register_digest(const struct vcpu *v);
/* Runs one instruction, made of these bytes, at FIXTURE_CODE; true if it raised the vector. */
bool nested_faults(struct fixture *f, const void *bytes, size_t length, unsigned vector);
#define NESTED_FAULTS(f, vector, ...) nested_faults(f, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), vector)

#endif
