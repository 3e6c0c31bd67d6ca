/*
 * The road from a multiboot 1 loader to guest_main() in 64-bit mode, shared by all performance guests.
 *
 * The loader leaves us in 32-bit protected mode with flat segments, paging off and the address of its information block in
 * EBX. We build one identity map of the first 4 GiB out of 2 MiB pages (user-accessible, so that the system-call guest can
 * run in ring 3), switch to long mode, load descriptor tables of our own and call C. See guest.h for what C may use.
 */
	.set	MAGIC, 0x1badb002
	.set	FLAGS, 0
	.set	CR4_PAE, 1 << 5
	.set	EFER, 0xc0000080
	.set	EFER_LME, 1 << 8
	.set	CR0_PG_WP_PE, 0x80010001
	.set	PRESENT_WRITE_USER, 7
	.set	PAGE_2M, 1 << 7

	.section .multiboot, "a"
	.balign	4
	.long	MAGIC, FLAGS, -(MAGIC + FLAGS)

	.section .text.boot, "ax"
	.code32
	.globl	start
start:
	cli
	cld
	movl	$stack_top, %esp
	movl	%ebx, multiboot_information

	/* Four page directories of 512 entries map 4 GiB. */
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	shll	$21, %eax
	orl	$(PRESENT_WRITE_USER | PAGE_2M), %eax
	movl	%eax, boot_directories(, %ecx, 8)
	movl	$0, boot_directories + 4(, %ecx, 8)
	incl	%ecx
	cmpl	$2048, %ecx
	jne	1b

	xorl	%ecx, %ecx
2:	movl	%ecx, %eax
	shll	$12, %eax
	addl	$boot_directories + PRESENT_WRITE_USER, %eax
	movl	%eax, boot_pointers(, %ecx, 8)
	incl	%ecx
	cmpl	$4, %ecx
	jne	2b
	movl	$boot_pointers + PRESENT_WRITE_USER, boot_root

	movl	$boot_root, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG_WP_PE, %eax
	movl	%eax, %cr0

	/* The base of the task-state segment goes into its descriptor; it lies below 16 MiB. */
	movl	$task_state, %eax
	movw	%ax, descriptor_task + 2
	shrl	$16, %eax
	movb	%al, descriptor_task + 4
	movb	%ah, descriptor_task + 7
	lgdt	table_pointer
	ljmp	$0x08, $enter_long

	.code64
enter_long:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	xorl	%eax, %eax
	movw	%ax, %fs
	movw	%ax, %gs
	movq	$stack_top, task_state + 4
	movw	$0x28, %ax
	ltr	%ax
	movl	multiboot_information, %edi
	call	guest_start
3:	hlt
	jmp	3b

	.data
	.balign	16
table:
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08 kernel code, 64 bits */
	.quad	0x00cf93000000ffff	/* 0x10 kernel data */
	.quad	0x00cff3000000ffff	/* 0x18 user data */
	.quad	0x00affb000000ffff	/* 0x20 user code, 64 bits */
descriptor_task:
	.quad	0x0000890000000067	/* 0x28 task state; the base is filled in above */
	.quad	0
table_end:
table_pointer:
	.word	table_end - table - 1
	.quad	table

	.bss
	.balign	4096
	.globl	boot_root
boot_root:		.skip 4096
boot_pointers:		.skip 4096
boot_directories:	.skip 4 * 4096
task_state:		.skip 104
multiboot_information:	.skip 8
	.balign	16
			.skip 16384
stack_top:

	.section .note.GNU-stack, "", @progbits
