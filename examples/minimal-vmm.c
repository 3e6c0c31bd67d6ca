/*
 * A virtual machine monitor in a page: one page of guest memory in our own mmap, a guest of a few bytes of real-mode code in it,
 * and every access to a port performed here. Prints what the guest says.
 *
 *	cc minimal-vmm.c $(pkg-config --cflags --libs umbra) && ./a.out
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <umbra/umbra.h>

#define GUEST_GPA 0x1000
#define GUEST_SIZE 4096
#define TERMINAL 0xe9 /* a port where we listen */
#define LETTER 0x10   /* a port where the guest asks for a letter */

static const unsigned char guest[] = {
	0xba, LETTER, 0x00,   /* mov dx, LETTER */
	0xec,                 /* in al, dx */
	0xe6, TERMINAL,       /* out TERMINAL, al */
	0x3c, '\n',           /* cmp al, '\n' */
	0x75, 0xf9,           /* jne to the in */
	0xf4,                 /* hlt */
};

static int fail(const char *what)
{
	fprintf(stderr, "minimal-vmm: %s\n", what);
	return 1;
}

/* The processor starts in real mode at the guest's first byte. */
static void enter(struct umbra_vcpu *vcpu)
{
	struct umbra_sregs sregs;
	struct umbra_regs regs = {.rip = GUEST_GPA, .rflags = 2};
	struct umbra_error error;

	umbra_vcpu_get_sregs(vcpu, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	if (!umbra_vcpu_set_sregs(vcpu, &sregs, &error))
		fail(error.text);
	umbra_vcpu_set_regs(vcpu, &regs);
}

static int run(struct umbra_vcpu *vcpu, const char *letters)
{
	for (;;) {
		struct umbra_exit *exit = umbra_vcpu_run(vcpu, 0);
		if (exit->reason == UMBRA_EXIT_HALT)
			return 0;
		if (exit->reason != UMBRA_EXIT_IO)
			return fail("the guest did something unexpected");
		if (exit->write && exit->address == TERMINAL)
			putchar((int)(exit->data & 0xff));
		else if (!exit->write && exit->address == LETTER)
			exit->data = (unsigned char)*letters++;
	}
}

int main(void)
{
	struct umbra_config config;
	struct umbra_error error;

	umbra_config_init(&config);
	config.board = false; /* nothing but a processor */
	struct umbra_vm *vm = umbra_vm_create(&config, &error);
	if (!vm)
		return fail(error.text);

	void *page = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return fail("no memory");
	memcpy(page, guest, sizeof(guest));
	struct umbra_slot slot = {.id = 0, .gpa = GUEST_GPA, .size = GUEST_SIZE, .host = page};
	if (!umbra_mem_add(vm, &slot, &error))
		return fail(error.text);

	struct umbra_vcpu *vcpu = umbra_vm_cpu(vm, 0);
	enter(vcpu);
	int status = run(vcpu, "hello from a guest of eleven bytes\n");
	umbra_vm_destroy(vm);
	munmap(page, GUEST_SIZE);
	return status;
}
