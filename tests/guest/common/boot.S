/*
 * From a multiboot loader to guest_main(command line), for the test guests; entry.S has the exception entries, guest.ld the layout.
 *
 * Assembled twice. A 32-bit guest (gcc -m32) is entered in flat protected mode without paging and turns on what its command line
 * asks for (paging.c). A 64-bit guest is entered in 64-bit mode on tables that map 4 GiB one to one: four levels, or five when the
 * command line has "mode=5", since CR4.LA57 cannot change while paging is on (Intel manual volume 3, "Control Registers").
 */
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
	xorl	%ebp, %ebp
	testl	$4, (%ebx)		/* multiboot information: is there a command line? */
	jz	1f
	movl	16(%ebx), %ebp
1:	movl	$task_state, %eax
	movw	%ax, task_descriptor + 2
	shrl	$16, %eax
	movb	%al, task_descriptor + 4
	movb	%ah, task_descriptor + 7
	movw	$104, task_state + 102	/* no I/O bitmap */

#ifdef __x86_64__
	call	build_first_tables
	movl	%cr4, %eax
	orl	$0x20, %eax		/* PAE */
	orl	%edx, %eax
	movl	%eax, %cr4
	movl	%ecx, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x900, %eax		/* EFER.LME, EFER.NXE */
	wrmsr
	movl	$0x80010033, %eax	/* PG, WP, NE, ET, MP, PE */
	movl	%eax, %cr0
	lgdt	descriptor_table_pointer
	ljmp	$0x08, $enter
	.code64
enter:
	movq	$exception_stack_top, task_state + 4
#else
	movl	$0x33, %eax		/* NE, ET, MP, PE */
	movl	%eax, %cr0
	lgdt	descriptor_table_pointer
	ljmp	$0x08, $enter
enter:
	movl	$exception_stack_top, task_state + 4
	movl	$0x10, task_state + 8
#endif
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	xorl	%eax, %eax
	movw	%ax, %fs
	movw	%ax, %gs
	lldt	%ax
	movw	$0x38, %ax
	ltr	%ax
	call	install_exception_table
#ifdef __x86_64__
	movl	%ebp, %edi
#else
	movl	%ebp, %eax
#endif
	xorl	%ebp, %ebp
	call	guest_main
1:	cli
	hlt
	jmp	1b

#ifdef __x86_64__
	.code32
/* Sets ECX to the root and EDX to the bit of CR4 that it needs. EBP points at the command line or is 0. */
build_first_tables:
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	shll	$21, %eax
	orl	$0x83, %eax
	movl	%eax, first_directory(, %ecx, 8)
	incl	%ecx
	cmpl	$2048, %ecx
	jne	1b
	movl	$first_directory + 3, first_pointers
	movl	$first_directory + 0x1003, first_pointers + 8
	movl	$first_directory + 0x2003, first_pointers + 16
	movl	$first_directory + 0x3003, first_pointers + 24
	movl	$first_pointers + 3, first_root4
	movl	$first_root4 + 3, first_root5
	movl	$first_root4, %ecx
	xorl	%edx, %edx
	testl	%ebp, %ebp
	jz	3f
	movl	%ebp, %esi
2:	cmpb	$0, (%esi)
	je	3f
	incl	%esi
	cmpl	$0x353d6564, -1(%esi)	/* "de=5" */
	jne	2b
	movl	$first_root5, %ecx
	movl	$0x1000, %edx		/* LA57 */
3:	ret
	.code64
#endif

/*
 * The descriptor table. Its order serves SYSCALL, SYSRET, SYSENTER and SYSEXIT in every mode. Twenty descriptors from 0x50 on belong
 * to the tests.
 */
	.data
	.balign	16
	.globl	descriptor_table
descriptor_table:
	.quad	0
#ifdef __x86_64__
	.quad	0x00af9b000000ffff	/* 0x08 kernel code, 64 bits */
#else
	.quad	0x00cf9b000000ffff	/* 0x08 kernel code, 32 bits */
#endif
	.quad	0x00cf93000000ffff	/* 0x10 kernel data */
	.quad	0x00cffb000000ffff	/* 0x18 user code, 32 bits */
	.quad	0x00cff3000000ffff	/* 0x20 user data */
#ifdef __x86_64__
	.quad	0x00affb000000ffff	/* 0x28 user code, 64 bits */
#else
	.quad	0x00cffb000000ffff	/* 0x28 user code, 32 bits */
#endif
	.quad	0x00cff3000000ffff	/* 0x30 user data */
task_descriptor:
	.quad	0x0000890000000067	/* 0x38 task state; boot fills in the base */
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x48 kernel code, 32 bits */
	.skip	20 * 8			/* 0x50 on: the tests' own */
descriptor_table_end:
	.globl	descriptor_table_pointer
descriptor_table_pointer:
	.word	descriptor_table_end - descriptor_table - 1
#ifdef __x86_64__
	.quad	descriptor_table
#else
	.long	descriptor_table
#endif

	.bss
	.balign	4096
#ifdef __x86_64__
first_root5:		.skip 4096
first_root4:		.skip 4096
first_pointers:		.skip 4096
first_directory:	.skip 4 * 4096
#endif
	.globl	task_state
task_state:		.skip 12288		/* room for an I/O bitmap */
			.skip 8192
	.globl	exception_stack_top
exception_stack_top:
			.skip 16384
stack_top:

	.section .note.GNU-stack, "", @progbits
