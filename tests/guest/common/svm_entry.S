/*
 * The world switch of the test guests (see svm.h), and the first instructions of an L2 that is a function.
 *
 * svm_enter(control block) loads `l2`, and what VMLOAD loads, and stores both again after the exit. The host's share of what VMLOAD loads
 * is kept in svm_host_state. Between CLGI and STGI interrupts are enabled, so that a physical interrupt makes L2 exit where it is intercepted;
 * it is delivered to L1 when L1 next enables interrupts.
 */
	.text
	.globl	svm_enter
#ifdef __x86_64__
svm_enter:
	pushq	%rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
	leaq	svm_host_state, %rax
	vmsave	%rax
	movq	%rdi, %rax
	clgi
	sti
	vmload	%rax
	movq	l2, %rbx
	movq	l2 + 8, %rcx
	movq	l2 + 16, %rdx
	movq	l2 + 24, %rbp
	movq	l2 + 32, %rsi
	movq	l2 + 40, %rdi
	movq	l2 + 48, %r8
	movq	l2 + 56, %r9
	movq	l2 + 64, %r10
	movq	l2 + 72, %r11
	movq	l2 + 80, %r12
	movq	l2 + 88, %r13
	movq	l2 + 96, %r14
	movq	l2 + 104, %r15
	vmrun	%rax
	movq	%rbx, l2
	movq	%rcx, l2 + 8
	movq	%rdx, l2 + 16
	movq	%rbp, l2 + 24
	movq	%rsi, l2 + 32
	movq	%rdi, l2 + 40
	movq	%r8, l2 + 48
	movq	%r9, l2 + 56
	movq	%r10, l2 + 64
	movq	%r11, l2 + 72
	movq	%r12, l2 + 80
	movq	%r13, l2 + 88
	movq	%r14, l2 + 96
	movq	%r15, l2 + 104
	vmsave	%rax
	leaq	svm_host_state, %rax
	vmload	%rax
	cli
	stgi
	popq	%r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
	ret
#else
svm_enter:
	pushl	%ebx; pushl %ebp; pushl %esi; pushl %edi
	movl	%eax, %ecx
	leal	svm_host_state, %eax
	vmsave	%eax
	movl	%ecx, %eax
	clgi
	sti
	vmload	%eax
	movl	l2, %ebx
	movl	l2 + 4, %ecx
	movl	l2 + 8, %edx
	movl	l2 + 12, %ebp
	movl	l2 + 16, %esi
	movl	l2 + 20, %edi
	vmrun	%eax
	movl	%ebx, l2
	movl	%ecx, l2 + 4
	movl	%edx, l2 + 8
	movl	%ebp, l2 + 12
	movl	%esi, l2 + 16
	movl	%edi, l2 + 20
	vmsave	%eax
	leal	svm_host_state, %eax
	vmload	%eax
	cli
	stgi
	popl	%edi; popl %esi; popl %ebp; popl %ebx
	ret
#endif

/* L2 starts here with the function in RBX and its argument where the calling convention wants it. */
	.globl	svm_first
svm_first:
#ifdef __x86_64__
	call	*%rbx
#else
	call	*%ebx
#endif
	vmmcall
1:	jmp	1b

	.bss
	.balign	4096
svm_host_state:	.skip 4096
		.skip 16384
	.globl	svm_stack_top
svm_stack_top:

	.section .note.GNU-stack, "", @progbits
