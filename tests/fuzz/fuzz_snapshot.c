/*
 * libFuzzer target for snapshots. Checksums keep a fuzzer out, so the target begins with a good snapshot of a small machine, in two
 * kinds (with a nested guest and without), lets the input change bytes inside of its sections, make them longer, leave some out or double
 * them, and repairs every checksum. What is accepted then has to run, under the MMU's checker, and to be a machine that can be saved again.
 *
 * The bytes of the input: kind (nested guest, shadow paging, number of changes less one), then changes of 5 bytes each: section, what (a
 * byte is replaced, a bit is flipped, bytes are cut, bytes are added, the section is left out, doubled), place (2), value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/vm/image.h"
#include "arch/vmcb.h"
#include "vm/board.h"

#define REQUIRE(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))
static void broken(int line, const char *what)
{
	fprintf(stderr, "fuzz_snapshot.c:%d: %s\n", line, what);
	abort();
}

#define SECTIONS_MAX 64u
#define CHANGES_MAX 4u
#define HEADER_SIZE 40u
#define FILE_HEADER_SIZE 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_report(void);

static unsigned long inputs, accepted;

/* ---- a good snapshot ---------------------------------------------------------------------------------------------------- */

/* Real mode; the second processor waits. A PIT interrupt, a store, the serial port, a pause. */
static const uint8_t plain_code[] = {
	0xfb, 0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x08, 0xe6, 0x40, 0xb0, 0x00, 0xe6, 0x40, /* sti; PIT counter 0, mode 2, count 8 */
	0xff, 0x06, 0x00, 0x10, 0xba, 0xf8, 0x03, 0xec, 0xdf, 0xe0, 0xf3, 0x90, 0xeb, 0xf2, /* inc [1000h]; in al,dx; fnstsw; pause; loop */
};
/* 32-bit: mov eax,VMCB; vmrun; hlt, and L2: inc ebx; jmp. */
static const uint8_t host_code[] = {0xb8, 0x00, 0x00, 0x02, 0x00, 0x0f, 0x01, 0xd8, 0xf4};
static const uint8_t guest_code[] = {0x43, 0xeb, 0xfd};
#define VMCB_GPA 0x20000u
#define HOST_GPA 0x7c00u
#define GUEST_GPA 0x7d00u

static void enter_protected_mode(struct vcpu *v)
{
	const struct segment data = {.limit = 0xffffffff, .selector = 0x10, .attr = 0xc093};

	for (unsigned n = 0; n < SEG_COUNT; n++)
		v->seg[n] = data;
	v->seg[SEG_CS] = (struct segment){.limit = 0xffffffff, .selector = 8, .attr = 0xc09b};
	v->cr0 = CR0_PE | CR0_ET;
	v->efer = EFER_SVME;
	v->vm_hsave_pa = VMCB_GPA + PAGE_SIZE;
	v->rip = HOST_GPA;
	vcpu_registers_changed(v);
}

static void make_vmcb(struct machine *machine)
{
	const struct vmcb_segment data = {.limit = 0xffffffff, .selector = 0x10, .attrib = 0xc93};
	struct vmcb vmcb = {.control.asid = 1};

	vmcb.control.intercepts[VMCB_MISC2] = 1;
	for (unsigned n = 0; n < VMCB_GDTR; n++)
		vmcb.save.segments[n] = data;
	vmcb.save.segments[VMCB_CS] = (struct vmcb_segment){.limit = 0xffffffff, .selector = 8, .attrib = 0xc9b};
	vmcb.save.efer = EFER_SVME;
	vmcb.save.cr0 = CR0_PE | CR0_ET;
	vmcb.save.rflags = FLAG_FIXED_1;
	vmcb.save.rip = GUEST_GPA;
	REQUIRE(mem_write(&machine->space, 0, VMCB_GPA, &vmcb, sizeof(vmcb)));
}

static void start(struct machine *machine, bool nested)
{
	struct vcpu *v = machine->cpus[0].v;
	bool put = nested ? mem_write(&machine->space, 0, HOST_GPA, host_code, sizeof(host_code)) :
			    mem_write(&machine->space, 0, HOST_GPA, plain_code, sizeof(plain_code));

	REQUIRE(put && mem_write(&machine->space, 0, GUEST_GPA, guest_code, sizeof(guest_code)));
	if (nested) {
		make_vmcb(machine);
		enter_protected_mode(v);
		return;
	}
	v->seg[SEG_CS] = (struct segment){.limit = 0xffff, .attr = v->seg[SEG_CS].attr};
	v->rip = HOST_GPA;
	vcpu_registers_changed(v);
}

static void save(struct machine *machine, struct image *image)
{
	struct err err;

	REQUIRE(image_save(image, machine, &err));
}

static void run(struct machine *machine, uint64_t instructions)
{
	const struct machine_limits limits = {.instructions = instructions};
	machine_run(machine, &limits);
}

static struct image make_snapshot(bool nested)
{
	struct machine_config config;
	struct image image = {NULL};
	struct err err;

	machine_config_init(&config);
	config.memory = 1 << 20;
	config.cpus = nested ? 1 : 2;
	struct machine *machine = machine_create(&config, &err);
	REQUIRE(machine);
	start(machine, nested);
	run(machine, 777);
	REQUIRE(machine->cpus[0].v->guest_mode == nested);
	save(machine, &image);
	machine_destroy(machine);
	return image;
}

/* ---- changing it -------------------------------------------------------------------------------------------------------- */

struct part {
	char name[9];
	uint8_t *bytes;
	size_t length;
	bool owned;
	unsigned copies;
};

static unsigned split(const struct image *image, struct part parts[SECTIONS_MAX])
{
	unsigned count = 0;

	for (size_t at = FILE_HEADER_SIZE; at < image->length && count < SECTIONS_MAX; count++) {
		struct part *part = &parts[count];
		uint64_t length;
		memcpy(&length, image->bytes + at + 8, 8);
		*part = (struct part){.bytes = image->bytes + at + HEADER_SIZE, .length = (size_t)length, .copies = 1};
		memcpy(part->name, image->bytes + at, 8);
		at += HEADER_SIZE + (size_t)length;
	}
	return count;
}

static void resize(struct part *part, size_t length, uint8_t value)
{
	uint8_t *bytes = malloc(length ? length : 1);

	REQUIRE(bytes);
	memset(bytes, value, length);
	memcpy(bytes, part->bytes, MIN(length, part->length));
	if (part->owned)
		free(part->bytes);
	part->bytes = bytes;
	part->length = length;
	part->owned = true;
}

static void change(struct part parts[], unsigned count, const uint8_t *data)
{
	struct part *part = &parts[data[0] % count];
	size_t place = data[2] | (size_t)data[3] << 8;

	switch (data[1] % 16) {
	case 0: part->copies = 0; break;
	case 1: part->copies = 2; break;
	case 2: resize(part, part->length ? place % part->length : 0, 0); break;
	case 3: resize(part, part->length + place % 300, data[4]); break;
	default:
		if (!part->length)
			break;
		resize(part, part->length, 0);
		part->bytes[place % part->length] = data[1] & 1 ? data[4] : part->bytes[place % part->length] ^ (uint8_t)(1u << data[4] % 8);
	}
}

/* All checksums as they should be. */
static void join(struct part parts[], unsigned count, struct image *image)
{
	const struct snapshot_sink sink = {image_write, image};
	struct snapshot_writer writer;
	struct err err;

	snapshot_writer_begin(&writer, &sink, "fuzz", &err);
	for (unsigned n = 0; n < count; n++) {
		for (unsigned copy = 0; copy < parts[n].copies && strcmp(parts[n].name, "end"); copy++) {
			struct pack pack;
			pack_save(&pack);
			pack_bytes(&pack, parts[n].bytes, parts[n].length);
			snapshot_write(&writer, parts[n].name, &pack);
		}
	}
	REQUIRE(snapshot_writer_end(&writer));
}

/* ---- what comes of it --------------------------------------------------------------------------------------------------- */

static void try(struct image *image, enum mmu_mode mode)
{
	const struct machine_config config = {.mmu_mode = mode, .check_interval = 1};
	struct err err = {.text = ""};
	struct machine *machine = image_restore(image, &config, &err);

	if (!machine) {
		REQUIRE(err.code != ERR_NONE && err.text[0] && !strchr(err.text, '\n'));
		return;
	}
	accepted++;
	run(machine, 3000);
	REQUIRE(!machine->dead);
	struct image again = {NULL};
	save(machine, &again);
	free(again.bytes);
	machine_destroy(machine);
}

/* Both must happen: what is always refused, or never, is not tried. */
void fuzz_report(void)
{
	printf("%lu snapshots, %lu of them accepted\n", inputs, accepted);
	REQUIRE(accepted > inputs / 20 && accepted < inputs / 20 * 19);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct image good[2]; /* the only state: made once, never changed */
	struct part parts[SECTIONS_MAX];
	struct image image = {NULL};

	if (size < 1)
		return 0;
	bool nested = data[0] & 1;
	if (!good[nested].bytes)
		good[nested] = make_snapshot(nested);
	unsigned count = split(&good[nested], parts);
	inputs++;
	for (size_t n = 0; n <= (data[0] >> 2) % CHANGES_MAX && 1 + 5 * (n + 1) <= size; n++)
		change(parts, count, data + 1 + 5 * n);
	join(parts, count, &image);
	try(&image, data[0] & 2 ? MMU_SHADOW : MMU_TDP);
	for (unsigned n = 0; n < count; n++)
		if (parts[n].owned)
			free(parts[n].bytes);
	free(image.bytes);
	return 0;
}
