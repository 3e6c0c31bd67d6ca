/*
 * The ACPI tables: checksums, links, contents; and, where the disassembler iasl is installed, that it accepts each of them
 * without complaint.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dev/acpi.h"

static uint8_t memory[0x100000];

static bool store(void *opaque, gpa_t gpa, const void *bytes, size_t length)
{
	unsigned *left = opaque;
	if (left && !(*left)--)
		return false;
	if (gpa + length > sizeof(memory))
		return false;
	memcpy(memory + gpa, bytes, length);
	return true;
}

static uint32_t u32(uint64_t gpa)
{
	uint32_t value;
	memcpy(&value, memory + gpa, 4);
	return value;
}

static uint8_t sum(uint64_t gpa, uint32_t length)
{
	uint8_t s = 0;
	for (uint32_t i = 0; i < length; i++)
		s = (uint8_t)(s + memory[gpa + i]);
	return s;
}

static uint32_t table(uint32_t root, unsigned index, unsigned size, const char *signature)
{
	uint32_t gpa = u32(root + 36 + index * size);
	assert_memory_equal(memory + gpa, signature, 4);
	assert_int_equal(sum(gpa, u32(gpa + 4)), 0);
	return gpa;
}

static void build(unsigned cpus)
{
	struct acpi_config config;
	uint32_t size = 0;
	memset(memory, 0, sizeof(memory));
	acpi_config_init(&config);
	config.cpus = cpus;
	config.write = store;
	assert_true(acpi_build(&config, &size));
	assert_in_range(size, 64, ACPI_TABLES_SIZE_MAX);
}

static void test_links(void **state)
{
	build(2);
	assert_memory_equal(memory + 0xf0000, "RSD PTR ", 8);
	assert_int_equal(sum(0xf0000, 20), 0);
	assert_int_equal(sum(0xf0000, 36), 0);
	uint32_t rsdt = u32(0xf0010), xsdt = u32(0xf0018);
	assert_memory_equal(memory + rsdt, "RSDT", 4);
	assert_memory_equal(memory + xsdt, "XSDT", 4);
	assert_int_equal(sum(rsdt, u32(rsdt + 4)), 0);
	assert_int_equal(sum(xsdt, u32(xsdt + 4)), 0);
	uint32_t fadt = table(rsdt, 0, 4, "FACP"), madt = table(rsdt, 1, 4, "APIC");
	assert_int_equal(table(xsdt, 0, 8, "FACP"), fadt);
	assert_int_equal(table(xsdt, 1, 8, "APIC"), madt);
	uint32_t hpet = table(rsdt, 2, 4, "HPET");
	assert_int_equal(table(xsdt, 2, 8, "HPET"), hpet);
	assert_int_equal(u32(rsdt + 4), 36 + 3 * 4);
	assert_int_equal(u32(hpet + 4), 56);
	assert_int_equal(u32(hpet + 36), 0x8086a201);
	assert_int_equal(u32(hpet + 44), 0xfed00000);
	assert_int_equal(u32(fadt + 4), 276);
	assert_int_equal(memory[fadt + 8], 6);
	uint32_t facs = u32(fadt + 36), dsdt = u32(fadt + 40);
	assert_memory_equal(memory + facs, "FACS", 4);
	assert_int_equal(facs % 64, 0);
	assert_memory_equal(memory + dsdt, "DSDT", 4);
	assert_int_equal(sum(dsdt, u32(dsdt + 4)), 0);
	assert_int_equal(u32(fadt + 56), 0x600);  /* PM1a events */
	assert_int_equal(u32(fadt + 64), 0x604);  /* PM1a control */
	assert_int_equal(u32(fadt + 76), 0x608);  /* PM timer */
	assert_int_equal(u32(fadt + 120), 0xcf9); /* reset register */
	assert_int_equal(memory[fadt + 128], 6);
	assert_int_equal(u32(fadt + 132), 0); /* the FACS has one address only */
	assert_int_equal(u32(fadt + 140), dsdt);
	assert_int_equal(u32(fadt + 112) & (1u << 10 | 1u << 20), 1u << 10); /* a reset register; not hardware-reduced */
	assert_int_equal(memory[fadt + 109] & 3, 3); /* legacy devices, 8042 */
	assert_int_equal(memory[fadt + 117], 8);
	assert_int_equal(memory[fadt + 268], 'U');
}

/* The overrides: the PIT on pin 2, the SCI level triggered and active high; NMI on LINT1 of all. */
static void test_madt(void **state)
{
	build(4);
	uint32_t madt = u32(u32(0xf0010) + 36 + 4), end = madt + u32(madt + 4);
	unsigned timer = 0, sci = 0, nmi = 0;
	assert_int_equal(u32(madt + 36), 0xfee00000);
	assert_int_equal(u32(madt + 40), 1);
	for (uint32_t at = madt + 44; at < end; at += memory[at + 1]) {
		const uint8_t *entry = memory + at;
		timer += entry[0] == 2 && entry[3] == 0 && u32(at + 4) == 2 && entry[8] == 0;
		sci += entry[0] == 2 && entry[3] == 9 && u32(at + 4) == 9 && entry[8] == 0x0d;
		nmi += entry[0] == 4 && entry[2] == 0xff && entry[5] == 1;
	}
	assert_int_equal(timer, 1);
	assert_int_equal(sci, 1);
	assert_int_equal(nmi, 1);
}

static void test_without_hpet(void **state)
{
	struct acpi_config config;
	uint32_t size;
	memset(memory, 0, sizeof(memory));
	acpi_config_init(&config);
	config.write = store;
	config.hpet_gpa = 0;
	config.pci_memory = config.pci_memory_end = 0;
	assert_true(acpi_build(&config, &size));
	assert_int_equal(u32(u32(0xf0010) + 4), 36 + 2 * 4);
}

static void test_many_processors(void **state)
{
	build(1024);
	uint32_t madt = u32(u32(0xf0010) + 36 + 4), end = madt + u32(madt + 4);
	unsigned local = 0, x2 = 0, io = 0, x2_nmi = 0;
	for (uint32_t at = madt + 44; at < end; at += memory[at + 1]) {
		assert_true(memory[at + 1] >= 2);
		local += memory[at] == 0;
		x2 += memory[at] == 9;
		x2_nmi += memory[at] == 10 && u32(at + 4) == UINT32_MAX && memory[at + 8] == 1;
		io += memory[at] == 1;
	}
	assert_int_equal(local, 255);
	assert_int_equal(x2, 769);
	assert_int_equal(x2_nmi, 1);
	assert_int_equal(io, 1);
}

static void test_refusals(void **state)
{
	struct acpi_config config;
	uint32_t size = 77;
	acpi_config_init(&config);
	config.write = store;
	for (unsigned n = 0; n < 2; n++) {
		unsigned left = n;
		config.opaque = &left;
		assert_false(acpi_build(&config, &size));
	}
	config.opaque = NULL;
	config.cpus = 100000;
	assert_false(acpi_build(&config, &size));
	assert_int_equal(size, 77);
}

/* Runs a command; false if it fails or says anything that looks like a complaint. */
static bool is_quiet(const char *command)
{
	char line[512];
	bool complaint = false;
	FILE *pipe = popen(command, "r");

	assert_non_null(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		bool good = strstr(line, "0 Errors, 0 Warnings") != NULL;
		if (!good && (strstr(line, "rror") || strstr(line, "arning") || strstr(line, "nvalid"))) {
			print_message("%s", line);
			complaint = true;
		}
	}
	return pclose(pipe) == 0 && !complaint;
}

/* Reads a disassembly: no complaint in its comments. Counts the lines with `wanted`. */
static unsigned read_listing(const char *path, const char *wanted)
{
	char line[512];
	unsigned found = 0;
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (strstr(line, "nvalid") || strstr(line, "ncorrect") || strstr(line, "ARNING") || strstr(line, "Unknown") ||
		    strstr(line, "rror"))
			fail_msg("%s: %s", path, line);
		found += strstr(line, wanted) != NULL;
	}
	fclose(file);
	return found;
}

/* To a listing, and back: the compiler judges what the disassembler only prints, and what it makes is the same again. */
static void disassemble(const char *directory, const char *name, uint64_t gpa)
{
	char path[256], command[600];

	snprintf(path, sizeof(path), "%s/%s.dat", directory, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(memory + gpa, 1, u32(gpa + 4), file), u32(gpa + 4));
	fclose(file);
	snprintf(command, sizeof(command), "cd %s && iasl -d %s.dat 2>&1", directory, name);
	assert_true(is_quiet(command));
	snprintf(path, sizeof(path), "%s/%s.dsl", directory, name);
	assert_int_equal(read_listing(path, "_S5"), !strcmp(name, "dsdt"));
	if (strcmp(name, "dsdt"))
		return;
	assert_int_equal(read_listing(path, "Device ("), 9);
	assert_int_equal(read_listing(path, "PNP"), 9);
	snprintf(command, sizeof(command), "cd %s && iasl -p again %s.dsl 2>&1", directory, name);
	assert_true(is_quiet(command));
}

static void test_iasl(void **state)
{
	char directory[] = "/tmp/umbra-acpi-XXXXXX", command[64];
	int found = system("command -v iasl >/dev/null 2>&1");
	if (!WIFEXITED(found) || WEXITSTATUS(found)) {
		print_message("iasl is not installed (Debian: acpica-tools): its judgement is skipped\n");
		skip();
	}
	assert_non_null(mkdtemp(directory));
	build(3);
	uint32_t rsdt = u32(0xf0010), xsdt = u32(0xf0018), fadt = u32(rsdt + 36);
	disassemble(directory, "rsdt", rsdt);
	disassemble(directory, "xsdt", xsdt);
	disassemble(directory, "facp", fadt);
	disassemble(directory, "apic", u32(rsdt + 40));
	disassemble(directory, "hpet", u32(rsdt + 44));
	disassemble(directory, "facs", u32(fadt + 36));
	disassemble(directory, "dsdt", u32(fadt + 40));
	snprintf(command, sizeof(command), "rm -r %s", directory);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_links), cmocka_unit_test(test_many_processors),
					    cmocka_unit_test(test_madt), cmocka_unit_test(test_without_hpet),
					    cmocka_unit_test(test_refusals), cmocka_unit_test(test_iasl) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
