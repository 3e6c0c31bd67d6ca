/*
 * The smallest guest: 16-bit code that prints a line on the first serial port and ends the machine. It is a flat binary of one disk
 * sector and works at whatever address it is loaded, so a monitor can load it as it is and a PC can boot it from a disk:
 *
 *   umbra run --kernel hello-real.bin
 *   qemu-system-x86_64 -drive format=raw,file=hello-real.bin -serial stdio -display none -device isa-debug-exit,iobase=0xf4,iosize=4
 *
 * The exit status is 1: code 0 on the debug-exit device, which shifts it left and adds one.
 */
	.set	SERIAL, 0x3f8
	.set	SERIAL_LINE_CONTROL, SERIAL + 3
	.set	SERIAL_STATUS, SERIAL + 5
	.set	SERIAL_CAN_SEND, 0x20
	.set	DEBUG_EXIT, 0xf4

	.code16
	.text
	.globl	start
start:
	cli
	cld
	/* The stack lies below 0x7000; the text is found relative to CS and to where this code happens to be. */
	xorw	%ax, %ax
	movw	%ax, %ss
	movw	$0x7000, %sp
	pushw	%cs
	popw	%ds
	call	1f
1:	popw	%si
	addw	$(text - 1b), %si

	/* Eight bits, no parity, one stop bit. */
	movw	$SERIAL_LINE_CONTROL, %dx
	movb	$3, %al
	outb	%al, %dx

next_character:
	lodsb
	testb	%al, %al
	jz	end
	movb	%al, %bl
wait:	movw	$SERIAL_STATUS, %dx
	inb	%dx, %al
	testb	$SERIAL_CAN_SEND, %al
	jz	wait
	movw	$SERIAL, %dx
	movb	%bl, %al
	outb	%al, %dx
	jmp	next_character

end:	xorl	%eax, %eax
	outl	%eax, $DEBUG_EXIT
halt:	hlt
	jmp	halt

text:	.asciz	"hello from real mode\n"

	/* A disk sector that a PC boots carries this signature in its last two bytes. */
	.org	510
	.word	0xaa55
