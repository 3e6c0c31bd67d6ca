/*
 * A multiboot kernel that turns on 4-MiB paging with one page mapped, then stores to an address that is not: no IDT, so that the page
 * fault becomes a double and a triple one. Built with as --32 and ld -m elf_i386 by tests/golden/run.
 */
	.set MAGIC, 0x1badb002
	.section .text
	.align 4
	.long MAGIC, 0, -MAGIC

	.globl _start
_start:
	movl $stack_end, %esp
	movl $page_directory, %eax
	movl $0x83, (%eax)	/* present, writable, 4 MiB: 0 to 0x3fffff */
	movl $0x85, 4(%eax)	/* present, user, read-only: 0x400000 to 0x7fffff */
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x10, %eax		/* PSE */
	movl %eax, %cr4
	movl %cr0, %eax
	orl $0x80010000, %eax	/* PG, WP */
	movl %eax, %cr0
	movl $0x0f4d0f41, 0xb8000	/* two letters on the screen */
	lidt no_table
	call store

	.globl store
store:
	movl $0x12345678, 0x400abc
	hlt
	.size store, . - store

no_table:
	.word 0
	.long 0

	.bss
	.align 4096
page_directory:
	.skip 4096
stack:
	.skip 256
stack_end:
