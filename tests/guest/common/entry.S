/*
 * How the test guests meet exceptions: 256 entries that give all frames one shape and call handle_exception() (guest.c), and
 * attempt(), which calls a function and survives what happens in it. See guest.h for both.
 */
#ifdef __x86_64__
#define A(register) %r##register
#define PUSH pushq
#define POP popq
#define WORD 8
#else
#define A(register) %e##register
#define PUSH pushl
#define POP popl
#define WORD 4
#endif

#include "frames.inc"

	.text
	exception_entry_code PUSH

common_entry:
#ifdef __x86_64__
	push_registers64
	movq	%rsp, %rdi
	movq	%rsp, %rbx
	andq	$-16, %rsp
#else
	pushl	%eax; pushl %ecx; pushl %edx; pushl %ebx; pushl %ebp; pushl %esi; pushl %edi
	pushl	%ds
	pushl	%es
	movl	$0x10, %eax
	movw	%ax, %ds
	movw	%ax, %es
	movl	%esp, %eax
	movl	%esp, %ebx
#endif
	cld
	call	handle_exception
	movl	%eax, %eax
	mov	A(bx), A(sp)
	testl	%eax, %eax
	jz	attempt_leave
#ifdef __x86_64__
	pop_registers64
	.globl	return_from_exception
return_from_exception:
	iretq
#else
	popl	%es
	popl	%ds
	popl	%edi; popl %esi; popl %ebp; popl %ebx; popl %edx; popl %ecx; popl %eax
	addl	$8, %esp
	.globl	return_from_exception
return_from_exception:
	iretl
#endif

/* word attempt(function, first, second) */
	.globl	attempt
attempt:
	PUSH	A(bx); PUSH A(bp); PUSH A(si); PUSH A(di)
#ifdef __x86_64__
	pushq	%r12; pushq %r13; pushq %r14; pushq %r15
	pushfq
	pushq	attempt_stack
	movq	%rsp, attempt_stack
	movl	$-1, trap_vector
	movq	%rdi, %rax
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	subq	$8, %rsp
	call	*%rax
#else
	pushfl
	pushl	attempt_stack
	movl	%esp, attempt_stack
	movl	$-1, trap_vector
	movl	%eax, %ebx
	movl	%edx, %eax
	movl	%ecx, %edx
	call	*%ebx
#endif
	.globl	attempt_leave
attempt_leave:
	mov	attempt_stack, A(sp)
	movl	$0x10, %ecx
	movw	%cx, %ss
	movw	%cx, %ds
	movw	%cx, %es
	POP	attempt_stack
#ifdef __x86_64__
	popfq
	popq	%r15; popq %r14; popq %r13; popq %r12
#else
	popfl
#endif
	POP	A(di); POP A(si); POP A(bp); POP A(bx)
	ret

/* word enter_user(function, first): to be called through attempt(); the user program finds first in EDI or RDI and its flags are 2. */
	.globl	enter_user
enter_user:
#ifdef __x86_64__
	movq	%rsi, %rdx
	pushq	$0x33
	pushq	$user_stack_top
	pushq	user_flags
	pushq	$0x2b
	pushq	%rdi
	movq	%rdx, %rdi
	movl	user_rax, %eax
	iretq
#else
	movl	%edx, %edi
	pushl	$0x33
	pushl	$user_stack_top
	pushl	user_flags
	pushl	$0x2b
	pushl	%eax
	movl	$0x33, %eax
	movw	%ax, %ds
	movw	%ax, %es
	movl	user_rax, %eax
	iretl
#endif

/* What a user program may do with the address it got. Each ends with INT 0x40, its result in EAX. */
	.section .user, "awx"
	.globl	user_code
	.balign	4096
user_code:
	.globl	user_read
user_read:
	movl	(A(di)), %eax
	int	$0x40
	.globl	user_write
user_write:
	movl	$0x77777777, (A(di))
	int	$0x40
	.globl	user_fetch
user_fetch:
	call	*A(di)
	int	$0x40
	.globl	user_nothing
user_nothing:
	int	$0x40
	.balign	4096
	.skip	4096
	.globl	user_stack_top
user_stack_top:

	.data
	.balign	8
	.globl	attempt_stack, user_flags, user_rax
attempt_stack:	.quad 0
user_flags:	.quad 2
user_rax:	.quad 0

	.section .note.GNU-stack, "", @progbits
