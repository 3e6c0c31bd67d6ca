/*
 * The nested guest's way from real mode through protected mode, 32-bit paging and PAE paging to 64-bit mode, its exception entries and
 * the instructions that nested.c tries. Each step leaves a number in early_results, which nested.c takes into its sum.
 */
#include "../common/frames.inc"
#include "protocol.h"

#define CR0_PG_PE 0x80000011
#define ROUNDS 100

	.section .text.boot, "ax"
	.code16
	.globl	start
start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7000, %sp
	movw	$real_interrupt, 0x20 * 4
	movw	%ax, 0x20 * 4 + 2
	movw	$ROUNDS, %cx
1:	int	$0x20
	loop	1b
	movl	%ebx, early_results
	/* Another segment: 32 KiB are filled and added up. */
	movw	$0x4000, %ax
	movw	%ax, %es
	xorw	%di, %di
	movw	$0x1235, %ax
	movw	$0x4000, %cx
1:	stosw
	addw	%cx, %ax
	loop	1b
	xorw	%si, %si
	xorl	%ebx, %ebx
	movw	$0x2000, %cx
1:	lodsl	%es:(%si), %eax
	addl	%eax, %ebx
	roll	$5, %ebx
	loop	1b
	movl	%ebx, early_results + 4
	xorw	%ax, %ax
	movw	%ax, %es
	movw	$real_text, %si
	movw	$real_text_end - real_text, %cx
	movw	$PORT_TEXT, %dx
	rep outsb
	movl	$CPUID_LEAF, %eax
	cpuid
	addl	%eax, %ebx
	xorl	%ecx, %edx
	leal	(%ebx, %edx), %eax
	movl	%eax, early_results + 8
	movl	%cr0, %eax
	movl	%eax, early_results + 12
	lgdtl	descriptor_table_pointer
	movl	$0x11, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $protected

real_interrupt:
	addl	$0x01000193, %ebx
	roll	$7, %ebx
	iretw

real_text:
	.ascii	"nested: real mode\n"
real_text_end:

/* Here, because real mode reaches the first 64 KiB only. */
	.balign	16
descriptor_table:
	.quad	0
	.quad	0x00af9b000000ffff	/* 08: 64-bit code */
	.quad	0x00cf93000000ffff	/* 10: data */
	.quad	0x00cf9b000000ffff	/* 18: 32-bit code */
	.quad	0x00cf93000000ffff	/* 20: data */
	.quad	0x00cff3000000ffff	/* 28: user data */
	.quad	0x00affb000000ffff	/* 30: user 64-bit code */
task_descriptor:
	.quad	0x0000890000000067	/* 38: task state */
	.quad	0
descriptor_table_end:
descriptor_table_pointer:
	.word	descriptor_table_end - descriptor_table - 1
	.long	descriptor_table, 0

	.balign	8
	.globl	early_results
early_results:
	.fill	8, 4, 0

	.code32
protected:
	movw	$0x20, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	movl	$0x7000, %esp
	/* Without paging: a megabyte at LARGE. */
	movl	$LARGE_BASE, %edi
	movl	$0x40000, %ecx
	movl	$0x2545f491, %eax
1:	stosl
	imull	$0x19660d, %eax, %eax
	addl	$0x3c6ef35f, %eax
	loop	1b
	movl	$LARGE_BASE, %esi
	call	add_up
	movl	%eax, early_results + 16
	/* 32-bit paging: 4 MiB pages, the first one to one, and LARGE's two megabytes again at 1 GiB by 4 KiB pages. */
	movl	$page_table_32, %edi
	movl	$LARGE_BASE + 0x67, %eax
	movl	$512, %ecx
1:	stosl
	addl	$0x1000, %eax
	loop	1b
	movl	$0x10, %eax
	movl	%eax, %cr4
	movl	$directory_32, %eax
	movl	%eax, %cr3
	movl	$CR0_PG_PE, %eax
	movl	%eax, %cr0
	jmp	1f
1:	movl	$0x40000000, %esi
	call	add_up
	movl	%eax, early_results + 20
	movl	$0x11, %eax
	movl	%eax, %cr0
	/* PAE paging: 2 MiB pages one to one, and LARGE's first again at 3 GiB. */
	movl	$0x20, %eax
	movl	%eax, %cr4
	movl	$pointers_pae, %eax
	movl	%eax, %cr3
	movl	$CR0_PG_PE, %eax
	movl	%eax, %cr0
	jmp	1f
1:	movl	$0xc0000000, %esi
	call	add_up
	movl	%eax, early_results + 24
	/* Accessed and dirty, as the processor has set them in these tables. */
	movl	page_table_32, %eax
	addl	directory_pae_3, %eax
	movl	%eax, early_results + 28
	movl	$0x11, %eax
	movl	%eax, %cr0
	/* 64-bit mode */
	movl	$0x6b0, %eax		/* PSE, PAE, PGE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$top_table, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	movl	$0x80010033, %eax	/* PG, WP, NE, ET, MP, PE */
	movl	%eax, %cr0
	ljmp	$0x08, $long_mode

add_up:	/* 1 MiB at ESI, to EAX */
	xorl	%eax, %eax
	movl	$0x40000, %ecx
1:	addl	(%esi), %eax
	roll	$3, %eax
	addl	$4, %esi
	loop	1b
	ret

	.code64
long_mode:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	xorl	%eax, %eax
	movw	%ax, %fs
	movw	%ax, %gs
	movq	$stack_top, %rsp
	lea	task_state(%rip), %rax
	movw	%ax, task_descriptor + 2
	shrq	$16, %rax
	movb	%al, task_descriptor + 4
	movb	%ah, task_descriptor + 7
	movw	$0x38, %ax
	ltr	%ax
	call	nested_main
1:	hlt
	jmp	1b

	.text
	exception_entry_code pushq

common_entry:
	push_registers64
	movq	%rsp, %rdi
	cld
	call	handle_exception
	pop_registers64
	iretq

/* What may fault: functions without a stack frame, so that the handler can go on at try_return. */
	.globl	try_read, try_write, try_call, try_undefined, try_divide, try_rdmsr, try_wrmsr, try_return
try_read:
	movq	(%rdi), %rax
	ret
try_write:
	movq	%rsi, %rax
	movq	%rax, (%rdi)
	ret
try_call:
	movl	$7, %eax
	jmp	*%rdi
try_undefined:
	ud2
	ret
try_divide:
	xorl	%edx, %edx
	xorl	%ecx, %ecx
	divl	%ecx
	ret
try_rdmsr:
	movl	%edi, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	ret
try_wrmsr:
	movl	%edi, %ecx
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	wrmsr
	xorl	%eax, %eax
try_return:
	ret

/* run_user(function, argument): at privilege level 3 until it faults or executes INT 81h; result is its RAX. */
	.globl	run_user, leave_user
run_user:
	pushq	%rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
	movq	%rsp, user_saved_stack
	movq	%rsp, task_state + 4
	pushq	$0x2b
	pushq	$user_stack_top
	pushq	$0x2
	pushq	$0x33
	pushq	%rdi
	movq	%rsi, %rdi
	xorl	%eax, %eax
	iretq
leave_user:
	movq	user_saved_stack, %rsp
	popq	%r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
	ret

/* SYSCALL arrives here: answers 3 * RDI + 1. */
	.globl	system_call
system_call:
	leaq	1(%rdi, %rdi, 2), %rax
	sysretq

/* User programs, on pages of their own. */
	.section .user, "ax"
	.balign	4096
	.globl	user_read, user_write, user_syscall, user_ports
user_read:
	movq	(%rdi), %rax
	int	$0x81
user_write:
	movq	%rdi, (%rdi)
	int	$0x81
user_syscall:
	xorl	%ebx, %ebx
	movl	$50, %ebp
1:	movl	%ebp, %edi
	syscall
	addq	%rax, %rbx
	decl	%ebp
	jnz	1b
	movq	%rbx, %rax
	int	$0x81
user_ports:	/* IOPL is 0: #GP before any intercept */
	outb	%al, $0x80
	int	$0x81
	.balign	4096

	.data
	.balign	8
user_saved_stack:
	.quad	0
	.balign	8
task_state:
	.fill	102, 1, 0
	.word	104			/* no I/O bitmap */

	.balign	4096
directory_32:
	.long	0x83			/* the first 4 MiB */
	.fill	255, 4, 0
	.long	page_table_32 + 7
	.fill	767, 4, 0
	.balign	4096
pointers_pae:
	.quad	directory_pae_0 + 1, 0, 0, directory_pae_3 + 1
	.balign	4096
directory_pae_0:
	.quad	0x83, 0x200083
	.fill	510, 8, 0
directory_pae_3:
	.quad	LARGE_BASE + 0x83
	.fill	511, 8, 0
	.globl	top_table
top_table:
	.quad	first_pointers + 7
	.fill	511, 8, 0
first_pointers:
	.quad	first_directory + 7
	.fill	511, 8, 0
first_directory:
	.quad	first_page_table + 7
	.fill	511, 8, 0
	.globl	first_page_table
first_page_table:			/* the first 2 MiB, one to one; nested.c opens the user's pages */
	.set	page, 0
	.rept	512
	.quad	page + 3
	.set	page, page + 4096
	.endr

	.bss
	.balign	4096
page_table_32:
	.skip	4096
	.skip	16384
stack_top:
	.section .userstack, "aw", @nobits
	.balign	4096
	.skip	4096
user_stack_top:
	.section .note.GNU-stack, "", @progbits
