/* The nested guest's image inside the program; IMAGE is its file's name, in quotes. */
	.section .rodata
	.globl	nested_image, nested_image_end
	.balign	16
nested_image:
	.incbin	IMAGE
nested_image_end:
	.section .note.GNU-stack, "", @progbits
