/*
 * Registers that change rights without changing tables: CR0.WP, CR4.SMEP, CR4.SMAP with EFLAGS.AC, PKRU, and IA32_PKRS where the
 * command line says "pks". Nothing is flushed between the toggles, since the manual demands nothing: the registers act on the rights
 * that a translation carries (Intel manual volume 3, "Access Rights" and "Caching Translation Information"). EFER.NXE is followed by a flush.
 */
#include "paging.h"

#define AREA ((word)0x40201000)
#define MSR_PKRS 0x6e1

enum { SUPER_RW, SUPER_RO, USER_RW, USER_RO, USER_KEY, USER_RO_KEY, SUPER_KEY, SUPER_RO_KEY, PAGES };

static uint32_t page[1024] __attribute__((aligned(4096)));
static uint64_t other_table[64] __attribute__((aligned(4096)));
static const char *const page_names[PAGES] = { "S-rw", "S-ro", "U-rw", "U-ro", "U-rw-k1", "U-ro-k1", "S-rw-k1", "S-ro-k1" };
static bool access_flag;

static word address_of(unsigned number)
{
	return AREA + number * 4096;
}

/* Accesses with AC as the case wants it; attempt() restores the flag. */
static word flagged(word kind, word address)
{
	if (access_flag)
		__asm__ volatile("stac");
	else
		__asm__ volatile("clac");
	return kind == 0 ? kernel_read(address, 0) : kind == 1 ? kernel_write(address, 0xc3c3c3c3) : kernel_fetch(address, 0);
}

static void outcome(void)
{
	if (trap_vector == -1 || trap_vector == 0x40)
		print(" ok");
	else if (trap_vector == 14)
		print(" %b", trap.error);
	else
		print(" %s", trap_text());
}

static void kernel_line(unsigned number)
{
	print("  %s", page_names[number]);
	for (unsigned kind = 0; kind < 3; kind++) {
		page[0] = 0xc3c3c3c3;
		attempt(flagged, kind, address_of(number));
		outcome();
	}
}

static void user_line(unsigned number)
{
	static const void *const programs[3] = { user_read, user_write, user_fetch };

	print(" user");
	for (unsigned kind = 0; kind < 3; kind++) {
		page[0] = 0xc3c3c3c3;
		run_user(programs[kind], address_of(number));
		outcome();
	}
}

static void set_bit(unsigned which, word bit, bool on)
{
	if (which == 0)
		WRITE_CR(0, on ? READ_CR(0) | bit : READ_CR(0) & ~bit);
	else
		WRITE_CR(4, on ? READ_CR(4) | bit : READ_CR(4) & ~bit);
}

static void roles(void)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		/* A Gray code, so that each bit is seen to change alone in both directions. */
		unsigned gray = bits ^ bits >> 1;

		set_bit(0, CR0_WP, gray & 1);
		set_bit(4, CR4_SMEP, gray & 2);
		set_bit(4, CR4_SMAP, gray & 4);
		access_flag = gray & 8;
		print("WP%d SMEP%d SMAP%d AC%d:", (int)(gray & 1), (int)(gray >> 1 & 1), (int)(gray >> 2 & 1), (int)(gray >> 3));
		for (unsigned number = SUPER_RW; number <= USER_RO; number++)
			kernel_line(number);
		user_line(USER_RW);
		print("\n");
	}
	set_bit(4, CR4_SMEP | CR4_SMAP, false);
	access_flag = false;
}

static word read_pkru(word index, word unused)
{
	uint32_t low, high;

	(void)unused;
	__asm__ volatile("rdpkru" : "=a"(low), "=d"(high) : "c"((uint32_t)index));
	return low;
}

static word write_pkru(word value, word index)
{
	__asm__ volatile("wrpkru" : : "a"((uint32_t)value), "c"((uint32_t)index), "d"(0) : "memory");
	return 0;
}

static word write_pkru_high(word value, word unused)
{
	(void)unused;
	__asm__ volatile("wrpkru" : : "a"((uint32_t)value), "c"(0), "d"(1) : "memory");
	return 0;
}

static void keys(void)
{
	print("PKE0: rdpkru %s", (attempt(read_pkru, 0, 0), trap_text()));
	set_bit(4, CR4_PKE, true);
	print(", PKE1: rdpkru %s", (attempt(read_pkru, 0, 0), trap_text()));
	print(", index 1 %s", (attempt(read_pkru, 1, 0), trap_text()));
	print(", write index 1 %s", (attempt(write_pkru, 0, 1), trap_text()));
	print(", write EDX 1 %s\n", (attempt(write_pkru_high, 0, 0), trap_text()));
	for (unsigned wp = 0; wp < 2; wp++) {
		set_bit(0, CR0_WP, wp);
		for (unsigned rights = 0; rights < 4; rights++) {
			write_pkru(rights << 2, 0);
			print("WP%d PKRU %x:", (int)wp, read_pkru(0, 0));
			for (unsigned number = USER_RW; number <= SUPER_KEY; number++) {
				kernel_line(number);
				user_line(number);
			}
			print("\n");
		}
	}
	/* SMAP and a key together: the page is refused by SMAP whatever the key says; the code reports the key as well. */
	set_bit(4, CR4_SMAP, true);
	for (unsigned flag = 0; flag < 2; flag++) {
		access_flag = flag;
		print("SMAP AC%d PKRU %x:", (int)flag, read_pkru(0, 0));
		kernel_line(USER_RW);
		kernel_line(USER_KEY);
		print("\n");
	}
	access_flag = false;
	set_bit(4, CR4_SMAP, false);
	/* Without CR4.PKE the keys mean nothing, and the register keeps its value. */
	set_bit(4, CR4_PKE, false);
	print("PKE0:");
	kernel_line(USER_KEY);
	user_line(USER_KEY);
	set_bit(4, CR4_PKE, true);
	print(" PKE1: PKRU %x", read_pkru(0, 0));
	kernel_line(USER_KEY);
	print("\n");
	write_pkru(0, 0);
	set_bit(4, CR4_PKE, false);
}

static word write_pkrs(word value, word high)
{
	write_msr(MSR_PKRS, (uint64_t)value | (uint64_t)high << 32);
	return 0;
}

static void supervisor_keys(void)
{
	set_bit(4, CR4_PKS, true);
	print("PKRS upper half: %s\n", (attempt(write_pkrs, 0, 1), trap_text()));
	for (unsigned wp = 0; wp < 2; wp++) {
		set_bit(0, CR0_WP, wp);
		for (unsigned rights = 0; rights < 4; rights++) {
			write_pkrs(rights << 2, 0);
			print("WP%d PKRS %q:", (int)wp, read_msr(MSR_PKRS));
			kernel_line(SUPER_RW);
			kernel_line(SUPER_KEY);
			kernel_line(SUPER_RO_KEY);
			kernel_line(USER_KEY);
			user_line(SUPER_KEY);
			print("\n");
		}
	}
	write_pkrs(0, 0);
	set_bit(4, CR4_PKS, false);
}

static word load_segment(word selector, word flag)
{
	if (flag)
		__asm__ volatile("stac");
	__asm__ volatile("movw %w0, %%fs" : : "r"(selector) : "memory");
	return 0;
}

/*
 * A descriptor table on a user page: reading it is an implicit supervisor access, and SMAP refuses that whatever AC is. Delivery of the
 * exception itself reads a descriptor, so the table in use is an LDT: the kernel's own selectors stay readable.
 */
static void implicit_access(void)
{
	for (unsigned n = 0; n < 20; n++)
		other_table[n] = descriptor_table[2];
	map(AREA + PAGES * 4096, 1, (word)other_table | P | W | U);
	/* A 64-bit system descriptor takes two places. */
	descriptor_table[10] = make_descriptor((uint32_t)(AREA + PAGES * 4096), 0xff, 0x82, 0);
	descriptor_table[11] = 0;
	__asm__ volatile("lldt %w0" : : "r"(0x50));
	print("descriptors on a user page: %s", (attempt(load_segment, 0x0c, 0), trap_text()));
	set_bit(4, CR4_SMAP, true);
	print(", SMAP: %s", (attempt(load_segment, 0x0c, 0), trap_text()));
	print(", SMAP and AC: %s", (attempt(load_segment, 0x0c, 1), trap_text()));
	set_bit(4, CR4_SMAP, false);
	print(", no SMAP: %s\n", (attempt(load_segment, 0x0c, 0), trap_text()));
	__asm__ volatile("lldt %w0" : : "r"(0));
}

static void no_execute(void)
{
	map(address_of(SUPER_RW), 1, (word)page | P | W | NX);
	print("NX, NXE1:");
	kernel_line(SUPER_RW);
	write_msr(MSR_EFER, read_msr(MSR_EFER) & ~(uint64_t)EFER_NXE);
	flush_all();
	print(" NXE0:");
	kernel_line(SUPER_RW);
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
	flush_all();
	print(" NXE1:");
	kernel_line(SUPER_RW);
	print("\n");
	map(address_of(SUPER_RW), 1, (word)page | P | W);
}

void guest_main(const char *command_line)
{
	const uint64_t rights[PAGES] = { W, 0, U | W, U, U | W | 1ull << 59, U | 1ull << 59, W | 1ull << 59, 1ull << 59 };

	print("protection\n");
	paging_start(paging_mode_from(command_line));
	for (unsigned number = 0; number < PAGES; number++)
		map(address_of(number), 1, (word)page | P | rights[number]);
	roles();
	keys();
	if (has_word(command_line, "pks"))
		supervisor_keys();
	no_execute();
	implicit_access();
	print("end\n");
	finish(0);
}
