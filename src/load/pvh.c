/*
 * ELF images that are entered without multiboot: with a Xen note (the PVH boot protocol), or as they are. Both get an
 * hvm_start_info; see Xen's "x86/HVM direct boot ABI". Segments and notes are elf.c's.
 */
#include "load/elf.h"
#include "load/loader.h"

#include "base/bits.h"

#define NOTE_OWNER "Xen"
#define NOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC 0x336ec578u
#define START_INFO_VERSION 1

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "start info layout");

struct module_entry {
	uint64_t base, size, cmdline, reserved;
};

struct memory_entry {
	uint64_t base, size;
	uint32_t type, reserved;
};
_Static_assert(sizeof(struct memory_entry) == 24, "memory map layout");

static void add_modules(struct strbuf *buffer, const struct load_request *request, const gpa_t *modules, gpa_t strings)
{
	for (unsigned i = 0; i < request->module_count; i++) {
		struct module_entry entry = {modules[i], request->modules[i].length, strings, 0};
		strbuf_add(buffer, (const char *)&entry, sizeof(entry));
		strings += request->modules[i].text ? strlen(request->modules[i].text) + 1 : 1;
	}
	for (unsigned i = 0; i < request->module_count; i++)
		bytes_add_text(buffer, request->modules[i].text);
}

static void add_memory(struct strbuf *buffer, const struct load_request *request)
{
	for (unsigned i = 0; i < request->memory_count; i++) {
		struct memory_entry entry = {request->memory[i].base, request->memory[i].length, request->memory[i].type, 0};
		strbuf_add(buffer, (const char *)&entry, sizeof(entry));
	}
}

/* The structure and all it points to, as it will lie at base. The length does not depend on base. */
static void build_start_info(struct strbuf *buffer, const struct load_request *request, const gpa_t *modules, gpa_t base)
{
	struct start_info info = {
		.magic = START_INFO_MAGIC,
		.version = START_INFO_VERSION,
		.module_count = request->module_count,
		.rsdp = request->rsdp_gpa,
		.memory_map_entries = request->memory_count,
	};
	strbuf_clear(buffer);
	strbuf_add(buffer, (const char *)&info, sizeof(info));
	info.memory_map = base + buffer->length;
	add_memory(buffer, request);
	info.modules = request->module_count ? base + buffer->length : 0;
	add_modules(buffer, request, modules, base + buffer->length + request->module_count * sizeof(struct module_entry));
	info.cmdline = base + buffer->length;
	bytes_add_text(buffer, request->cmdline);
	if (!buffer->failed)
		memcpy(buffer->text, &info, sizeof(info));
}

bool pvh_plan_start_info(struct plan *plan, gpa_t *ret_gpa, struct err *err)
{
	gpa_t modules[LOAD_MAX_MODULES], gpa;
	struct strbuf buffer;
	/* Kernels of this protocol take memory right behind themselves before they look at the module list: keep away. */
	if (!plan_modules(plan, MODULES_HIGH, modules, err))
		return false;
	strbuf_init(&buffer);
	build_start_info(&buffer, plan->request, modules, 0);
	if (!plan_find_low(plan, "start information", buffer.length, 16, &gpa, err)) {
		strbuf_finish(&buffer);
		return false;
	}
	build_start_info(&buffer, plan->request, modules, gpa);
	if (!plan_put_buffer(plan, "start information", gpa, &buffer, err))
		return false;
	*ret_gpa = gpa;
	return true;
}

bool pvh_recognise(const uint8_t *bytes, size_t length)
{
	struct elf_image elf;
	uint64_t entry;
	if (!elf_open("", bytes, length, &elf, NULL))
		return false;
	bool found = elf_note(&elf, NOTE_OWNER, NOTE_PHYS32_ENTRY, &entry);
	elf_close(&elf);
	return found;
}

bool raw_elf_recognise(const uint8_t *bytes, size_t length)
{
	return elf_has_magic(bytes, length);
}

/* Loads the segments and finds where to enter: at the note's physical address, or at the header's entry point. */
static bool plan_image(struct plan *plan, bool by_note, bool *ret_is_64, gpa_t *ret_entry, struct err *err)
{
	struct elf_image elf;
	if (!elf_open(plan->request->name, plan->request->bytes, plan->request->length, &elf, err))
		return false;
	bool done = elf_plan_segments(&elf, plan, err);
	*ret_is_64 = elf_is_64(&elf);
	if (done && by_note && !elf_note(&elf, NOTE_OWNER, NOTE_PHYS32_ENTRY, ret_entry))
		done = plan_refuse(plan, err, "no ELF note Xen PHYS32_ENTRY");
	if (done && !by_note && !elf_physical(&elf, elf.header.e_entry, ret_entry))
		done = plan_refuse(plan, err, "the entry point 0x%llx lies in no load segment",
				   (unsigned long long)elf.header.e_entry);
	if (done && *ret_entry >= PLAN_4G)
		done = plan_refuse(plan, err, "the entry point 0x%llx lies above 4 GiB", (unsigned long long)*ret_entry);
	elf_close(&elf);
	return done;
}

bool pvh_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	bool is_64;
	gpa_t info;
	if (!plan_image(plan, true, &is_64, &state->rip, err) || !pvh_plan_start_info(plan, &info, err))
		return false;
	state->entry = ENTRY_PROTECTED32;
	state->gpr[REG_RBX] = info;
	return true;
}

#define STACK_SIZE 0x4000

static bool plan_long_mode(struct plan *plan, struct boot_state *state, struct err *err)
{
	gpa_t tables, stack;
	if (!plan_find_low(plan, "page tables", IDENTITY_BYTES, PAGE_SIZE, &tables, err) || !identity_put_tables(plan, tables, err) ||
	    !plan_find_low(plan, "a stack", STACK_SIZE, PAGE_SIZE, &stack, err) ||
	    !plan_put(plan, "stack", stack, NULL, 0, STACK_SIZE, err))
		return false;
	state->cr3 = tables;
	/* As at the entry of a C function: a return address, here zero, lies on top of an aligned stack. */
	state->gpr[REG_RSP] = stack + STACK_SIZE - 8;
	return true;
}

bool raw_elf_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	bool is_64;
	gpa_t info;
	if (!plan_image(plan, false, &is_64, &state->rip, err) || !pvh_plan_start_info(plan, &info, err))
		return false;
	state->entry = is_64 ? ENTRY_LONG64 : ENTRY_PROTECTED32;
	state->gpr[is_64 ? REG_RDI : REG_RBX] = info;
	return !is_64 || plan_long_mode(plan, state, err);
}
