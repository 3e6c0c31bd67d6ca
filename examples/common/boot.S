/*
 * From the loader to kernel_main() in 64-bit mode, for the example kernels.
 *
 * Two kinds of loader know where to start: a multiboot 1 loader finds the header within the first 8 KiB of the file and jumps to
 * the ELF entry point; a PVH loader finds the note at the end of this file. Both leave the processor in 32-bit protected mode
 * with flat segments and paging off, so the same entry serves both.
 *
 * Long mode cannot be entered without paging (Intel manual volume 3, "Initializing IA-32e Mode"). These first page tables are the
 * simplest that work: 1 GiB mapped one to one by 512 pages of 2 MiB. The kernels replace them by tables of their own.
 */
	.set	CR4_PAE, 1 << 5
	.set	MSR_EFER, 0xc0000080
	.set	EFER_LME_NXE, 1 << 8 | 1 << 11
	.set	CR0_PG_WP_PE, 1 << 31 | 1 << 16 | 1
	.set	PRESENT_WRITABLE, 3
	.set	PAGE_SIZE_2M, 1 << 7

	.section .multiboot, "a"
	.balign	4
	.long	0x1badb002, 0, -0x1badb002

	.section .text.boot, "ax"
	.code32
	.globl	start
start:
	cli
	cld
	movl	$stack_top, %esp

	movl	$first_pointers + PRESENT_WRITABLE, first_root
	movl	$first_directory + PRESENT_WRITABLE, first_pointers
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	shll	$21, %eax
	orl	$(PRESENT_WRITABLE | PAGE_SIZE_2M), %eax
	movl	%eax, first_directory(, %ecx, 8)
	incl	%ecx
	cmpl	$512, %ecx
	jne	1b

	/* The order is the manual's: PAE, then CR3, then EFER.LME, and paging last. */
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$first_root, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME_NXE, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG_WP_PE, %eax
	movl	%eax, %cr0

	/* We are in compatibility mode now; a far jump to a 64-bit code segment makes it 64-bit mode. */
	movl	$task_state, %eax
	movw	%ax, task_descriptor + 2
	shrl	$16, %eax
	movb	%al, task_descriptor + 4
	movb	%ah, task_descriptor + 7
	lgdt	descriptor_table_pointer
	ljmp	$0x08, $in_long_mode

	.code64
in_long_mode:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	/* An exception in ring 3 takes its stack from the task state. */
	movq	$exception_stack_top, task_state + 4
	movw	$0x28, %ax
	ltr	%ax
	call	kernel_main
2:	hlt
	jmp	2b

/*
 * One entry for each exception vector. Some exceptions push an error code and some do not; pushing a zero for the latter gives all
 * frames one shape, struct exception_frame in console.h.
 */
	.set	vector, 0
	.globl	exception_entries
	.balign	16
exception_entries:
	.rept	32
	.balign	16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
	pushq	$0
	.endif
	pushq	$vector
	jmp	common_entry
	.set	vector, vector + 1
	.endr

common_entry:
	pushq	%rax; pushq %rcx; pushq %rdx; pushq %rbx; pushq %rbp; pushq %rsi; pushq %rdi
	pushq	%r8; pushq %r9; pushq %r10; pushq %r11; pushq %r12; pushq %r13; pushq %r14; pushq %r15
	movq	%rsp, %rdi
	cld
	call	handle_exception
	popq	%r15; popq %r14; popq %r13; popq %r12; popq %r11; popq %r10; popq %r9; popq %r8
	popq	%rdi; popq %rsi; popq %rbp; popq %rbx; popq %rdx; popq %rcx; popq %rax
	addq	$16, %rsp
	iretq

	.data
	.balign	16
descriptor_table:
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08 kernel code, 64 bits */
	.quad	0x00cf93000000ffff	/* 0x10 kernel data */
	.quad	0x00cff3000000ffff	/* 0x18 user data */
	.quad	0x00affb000000ffff	/* 0x20 user code, 64 bits */
task_descriptor:
	.quad	0x0000890000000067	/* 0x28 task state; the base is filled in above */
	.quad	0
descriptor_table_end:
descriptor_table_pointer:
	.word	descriptor_table_end - descriptor_table - 1
	.quad	descriptor_table

	.bss
	.balign	4096
first_root:		.skip 4096
first_pointers:		.skip 4096
first_directory:	.skip 4096
task_state:		.skip 104
	.balign	16
			.skip 8192
exception_stack_top:
			.skip 16384
stack_top:

/* The PVH note: owner "Xen", type 18 (the 32-bit entry point). */
	.section .note.pvh, "a", @note
	.balign	4
	.long	4, 4, 18
	.asciz	"Xen"
	.long	start

	.section .note.GNU-stack, "", @progbits
