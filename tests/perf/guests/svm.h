/*
 * Nested guests for the performance guests: one control block, one set of nested tables, and the world switch as hypervisors write it.
 * L2 runs in 64-bit mode on L1's page tables and descriptor tables, under nested paging. Implemented in svm.c.
 * (APM volume 2, "Secure Virtual Machine" and "Layout of VMCB".)
 */
#ifndef PERF_SVM_H
#define PERF_SVM_H

#include "guest.h"

enum { VMCB_TLB_CONTROL = 0x5c, VMCB_EXIT_CODE = 0x70, VMCB_INFO_2 = 0x80, VMCB_CR0 = 0x558, VMCB_RIP = 0x578, VMCB_RSP = 0x5d8, VMCB_RAX = 0x5f8 };
enum { EXIT_VMMCALL = 0x81, EXIT_NPF = 0x400 };

extern uint8_t vmcb[4096];
#define VMCB(field) (*(volatile uint64_t *)(vmcb + (field)))
/* L2's registers besides RAX and RSP: RBX, RCX, RDX, RBP, RSI, RDI, R8 to R15. */
extern uint64_t l2_registers[14];
/* The root of the nested tables. They map [0, FREE_MEMORY) one to one with 4 KiB pages at first; map_page() adds to them. */
extern uint64_t *nested_root;

/* Turn SVM on and make a control block for FUNCTION(argument), which ends with VMMCALL and its result in RAX. */
void svm_prepare(uint64_t (*function)(uint64_t argument), uint64_t argument);
/* CLGI, VMLOAD, VMRUN, VMSAVE, VMLOAD of the host's state, STGI. */
void svm_run(void);
/* Map FREE_MEMORY and the next BYTES bytes one to one in the nested tables. */
void svm_map_free_memory(uint64_t bytes);
/* svm_prepare and svm_run for an L2 that only leaves at its end; its result, or 0 if it left otherwise. */
uint64_t svm_call(uint64_t (*function)(uint64_t argument), uint64_t argument);

#endif
