/*
 * A tour of what a page-table entry can forbid. The kernel maps one page again and again with other permissions, tries an access, and
 * reports whether it passed or what fault came: read-only pages and CR0.WP, no-execute pages, user pages and ring 3, SMEP and SMAP
 * where the processor has them, and a reserved bit. The accessed and dirty bits are shown on the way.
 *
 *   umbra run --kernel paging-tour.elf
 *
 * The last stop is deliberate: the kernel throws its exception table away and touches an address that is not mapped. A page fault
 * that cannot be delivered becomes a double fault, and that, undeliverable too, a triple fault: the machine stops, and the monitor
 * says why. (QEMU needs -no-reboot to stop there.)
 */
#include "console.h"

#define PAGE 0x40000000ull		/* where the tour maps its page */
#define LAST_STOP 0x7fc0deadb000ull	/* an address that nothing maps */
#define KERNEL_BYTES 0x400000ull
#define USER_CODE 0x23
#define USER_DATA 0x1b

enum { CR0_WP = 1 << 16, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, RETURN_INSTRUCTION = 0xc3 };

static uint64_t root[512] __attribute__((aligned(4096)));
static uint64_t spare_tables[8][512] __attribute__((aligned(4096)));
static unsigned spare_tables_used;
static uint8_t tour_page[4096] __attribute__((aligned(4096)));
static uint8_t user_stack[4096] __attribute__((aligned(4096)));

/* The result of the last attempt: whether it faulted, and how. */
static int has_faulted;
static uint64_t fault_code;

/*
 * An attempt is a call to one of these. Each performs one access and returns through attempt_end with its stack pointer kept in
 * attempt_stack; when the access faults, handle_exception() resumes there as well.
 */
uint64_t attempt_stack;
extern const uint8_t attempt_end[];
void attempt_read(uint64_t address);
void attempt_write(uint64_t address);
void attempt_fetch(uint64_t address);
void attempt_user_read(uint64_t address, uint64_t user_stack_top);

__asm__(".macro begin_attempt\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, attempt_stack(%rip)\n"
	".endm\n"
	"attempt_read:\n"
	"	begin_attempt\n"
	"	mov (%rdi), %rax\n"
	"	jmp attempt_end\n"
	"attempt_write:\n"
	"	begin_attempt\n"
	"	movb $0xc3, (%rdi)\n"
	"	jmp attempt_end\n"
	"attempt_fetch:\n"
	"	begin_attempt\n"
	"	call *%rdi\n"
	"	jmp attempt_end\n"
	/* Ring 3 is entered by IRETQ. The user code lies on a user page and ends with HLT, which ring 3 may not execute. */
	"attempt_user_read:\n"
	"	begin_attempt\n"
	"	pushq $0x1b\n"
	"	push %rsi\n"
	"	pushq $2\n"
	"	pushq $0x23\n"
	"	lea user_code(%rip), %rax\n"
	"	push %rax\n"
	"	iretq\n"
	".balign 4096\n"
	"user_code:\n"
	"	mov (%rdi), %rax\n"
	"	hlt\n"
	".balign 4096\n"
	"user_code_end:\n"
	"attempt_end:\n"
	"	mov attempt_stack(%rip), %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

extern const uint8_t user_code[], user_code_end[];

static uint64_t *entry_of(uint64_t address)
{
	uint64_t *table = root;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *entry = &table[(address >> shift) & 511];

		/* Upper levels allow everything, so that the lowest level alone decides. */
		if (!(*entry & PTE_PRESENT))
			*entry = (uint64_t)(uintptr_t)spare_tables[spare_tables_used++] | PTE_PRESENT | PTE_WRITABLE | PTE_USER;
		table = (uint64_t *)(uintptr_t)(*entry & PTE_ADDRESS);
	}
	return &table[(address >> 12) & 511];
}

static void build_page_tables(void)
{
	uint64_t user_begin = (uint64_t)(uintptr_t)user_code, user_end = (uint64_t)(uintptr_t)user_code_end;
	uint64_t stack = (uint64_t)(uintptr_t)user_stack;

	for (uint64_t address = 0; address < KERNEL_BYTES; address += 4096) {
		int is_user = (address >= user_begin && address < user_end) || address == stack;

		*entry_of(address) = address | PTE_PRESENT | PTE_WRITABLE | (is_user ? PTE_USER : 0);
	}
	WRITE_CR(3, (uintptr_t)root);
}

/* Map the tour's page with FLAGS and forget what the processor remembers of it. */
static void map_tour_page(uint64_t flags)
{
	*entry_of(PAGE) = (uint64_t)(uintptr_t)tour_page | flags;
	invalidate_page(PAGE);
	print("\nthe entry is ");
	print_entry(*entry_of(PAGE));
	print("\n");
}

static void begin(void)
{
	has_faulted = 0;
	fault_code = 0;
}

/* Say what came of the attempt, and stop the tour with an error if it is not what the manual says. */
static void expect(const char *what, int should_fault, uint64_t code)
{
	print("  %s: ", what);
	if (has_faulted)
		print_fault(fault_code);
	else
		print("passes");
	print("\n");
	if (has_faulted == should_fault && fault_code == code)
		return;
	print("that is wrong: expected %s, error code %x\n", should_fault ? "a fault" : "no fault", code);
	finish(1);
}

void handle_exception(struct exception_frame *frame)
{
	/* Ring 3 ends its attempt with HLT, a general-protection fault there; a page fault ends any attempt. */
	int is_user_end = frame->vector == 13 && frame->cs == USER_CODE;

	if (frame->vector != 14 && !is_user_end) {
		print("unexpected exception %d at %x, error code %x\n", frame->vector, frame->rip, frame->error_code);
		finish(2);
	}
	if (frame->vector == 14) {
		has_faulted = 1;
		fault_code = frame->error_code;
	}
	frame->rip = (uint64_t)(uintptr_t)attempt_end;
	frame->cs = 0x08;
	frame->ss = 0x10;
	frame->rsp = attempt_stack;
}

static void visit_read_only_pages(void)
{
	print("\n1. Read-only pages. CR0.WP decides whether they bind the kernel.\n");
	map_tour_page(PTE_PRESENT);
	begin();
	attempt_read(PAGE);
	expect("read", 0, 0);
	begin();
	attempt_write(PAGE);
	expect("write with CR0.WP set", 1, FAULT_PRESENT | FAULT_WRITE);
	WRITE_CR(0, READ_CR(0) & ~(uint64_t)CR0_WP);
	begin();
	attempt_write(PAGE);
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	expect("write with CR0.WP clear", 0, 0);
	print("  the entry has become ");
	print_entry(*entry_of(PAGE));
	print("\n");
}

static void visit_no_execute_pages(void)
{
	print("\n2. No-execute pages. EFER.NXE is set, so bit 63 of an entry forbids fetches.\n");
	tour_page[0] = RETURN_INSTRUCTION;
	map_tour_page(PTE_PRESENT | PTE_NO_EXECUTE);
	begin();
	attempt_fetch(PAGE);
	expect("call", 1, FAULT_PRESENT | FAULT_FETCH);
	map_tour_page(PTE_PRESENT);
	begin();
	attempt_fetch(PAGE);
	expect("call", 0, 0);
}

static void visit_user_pages(void)
{
	uint64_t stack_top = (uint64_t)(uintptr_t)user_stack + sizeof(user_stack);

	print("\n3. User pages. Ring 3 reaches only those.\n");
	map_tour_page(PTE_PRESENT);
	begin();
	attempt_user_read(PAGE, stack_top);
	expect("read from ring 3", 1, FAULT_PRESENT | FAULT_USER);
	map_tour_page(PTE_PRESENT | PTE_USER);
	begin();
	attempt_user_read(PAGE, stack_top);
	expect("read from ring 3", 0, 0);
}

static uint32_t structured_features(void)
{
	uint32_t eax = 0, ebx, ecx = 0, edx;

	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	if (eax < 7)
		return 0;
	eax = 7;
	ecx = 0;
	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return ebx;
}

static void visit_smep_and_smap(void)
{
	uint32_t features = structured_features();

	print("\n4. The kernel and user pages. SMEP forbids fetching from them, SMAP reading and writing.\n");
	map_tour_page(PTE_PRESENT | PTE_USER);
	begin();
	attempt_fetch(PAGE);
	expect("call from the kernel", 0, 0);
	if (features & (1 << 7)) {
		WRITE_CR(4, READ_CR(4) | CR4_SMEP);
		begin();
		attempt_fetch(PAGE);
		WRITE_CR(4, READ_CR(4) & ~(uint64_t)CR4_SMEP);
		expect("call from the kernel with CR4.SMEP", 1, FAULT_PRESENT | FAULT_FETCH);
	}
	if (features & (1 << 20)) {
		WRITE_CR(4, READ_CR(4) | CR4_SMAP);
		begin();
		attempt_read(PAGE);
		expect("read from the kernel with CR4.SMAP", 1, FAULT_PRESENT);
		__asm__ volatile("stac");
		begin();
		attempt_read(PAGE);
		__asm__ volatile("clac");
		expect("the same after STAC", 0, 0);
		WRITE_CR(4, READ_CR(4) & ~(uint64_t)CR4_SMAP);
	}
}

static void visit_missing_and_reserved(void)
{
	print("\n5. Entries that are no translation at all.\n");
	map_tour_page(0);
	begin();
	attempt_write(PAGE);
	expect("write", 1, FAULT_WRITE);
	/* Bit 7 of a page-directory-pointer entry makes it a 1 GiB page; then address bits 29 to 13 must be zero. */
	uint64_t *pointers = (uint64_t *)(uintptr_t)(root[0] & PTE_ADDRESS);
	uint64_t kept = pointers[1];

	pointers[1] = PTE_PRESENT | PTE_LARGE | 0x2000;
	invalidate_page(PAGE);
	print("\nthe entry for the whole GiB is ");
	print_entry(pointers[1]);
	print("\n");
	begin();
	attempt_read(PAGE);
	/* The manual sets the present bit here too; QEMU's translator does not. The tour goes on either way. */
	expect("read through the reserved bit", 1, FAULT_RESERVED | (fault_code & FAULT_PRESENT));
	pointers[1] = kept;
	invalidate_page(PAGE);
}

static void make_last_stop(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} nothing = { 0, 0 };

	print("\n6. The last stop: no exception table any more, and a write to %x.\n", LAST_STOP);
	__asm__ volatile("lidt %0" : : "m"(nothing));
	*(volatile uint64_t *)LAST_STOP = 1;
}

void kernel_main(void)
{
	build_page_tables();
	install_exception_table();
	print("A tour of paging: CR0 %x CR3 %x CR4 %x\n", READ_CR(0), READ_CR(3), READ_CR(4));
	visit_read_only_pages();
	visit_no_execute_pages();
	visit_user_pages();
	visit_smep_and_smap();
	visit_missing_and_reserved();
	make_last_stop();
}
