/*
 * The intercept of task switches: by JMP, CALL, IRET, and through task gates for an interrupt and for an exception. L2 runs in 32-bit
 * protected mode, where alone there are such switches. (APM volume 2, "Miscellaneous Intercepts" and "Task Switch Intercept".)
 */
#include "svm.h"

#define OTHER_TASK 0x50
#define BUSY_TASK 0x58

enum { GATE_VECTOR = 0x65, GENERAL_PROTECTION = 13, TASK_GATE = 0x85, EXIT_TASK_SWITCH = 0x7d };

static uint8_t other_task[104] __attribute__((aligned(128)));

#define SWITCHES(name, instructions)                             \
	static word name(word unused)                            \
	{                                                        \
		(void)unused;                                    \
		__asm__ volatile(instructions : : : "memory");   \
		return 0;                                        \
	}
SWITCHES(jump_to_task, "ljmp $0x50, $0")
SWITCHES(call_task, "lcall $0x50, $0")
SWITCHES(return_to_task, "pushl $0x4002; popfl; iretl")
SWITCHES(interrupt_to_task, "int $0x65")

static word fault_to_task(word unused)
{
	(void)unused;
	__asm__ volatile("movw %w0, %%fs" : : "r"(0x1230) : "memory");
	return 0;
}

static void try(const char *name, word (*function)(word unused))
{
	svm_prepare();
	vmcb.misc1 |= 1u << MISC1_TASK_SWITCH;
	svm_call(function, 0);
	print("%s: exit %q selector %q information %q while delivering %q\n", name, vmcb.exit_code, vmcb.info1, vmcb.info2,
	      vmcb.exit_int_info >> 31 & 1 ? vmcb.exit_int_info : 0);
}

void guest_main(const char *command_line)
{
	print("svm-task\n");
	paging_start(paging_mode_from(command_line));
	svm_start();
	descriptor_table[OTHER_TASK / 8] = make_descriptor((word)other_task, 103, 0x89, 0);
	descriptor_table[BUSY_TASK / 8] = make_descriptor((word)other_task, 103, 0x8b, 0);
	*(volatile uint16_t *)task_state = BUSY_TASK;	/* the link that IRET follows */
	try("JMP", jump_to_task);
	try("CALL", call_task);
	try("IRET", return_to_task);
	set_gate(GATE_VECTOR, 0, OTHER_TASK, TASK_GATE, 0);
	try("INT", interrupt_to_task);
	set_gate(GENERAL_PROTECTION, 0, OTHER_TASK, TASK_GATE, 0);
	try("exception", fault_to_task);
	print("end\n");
	finish(0);
}
