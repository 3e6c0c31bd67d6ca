/*
 * ELF files for the loaders, see elf.h. Which state the guest starts in is not decided here.
 */
#include "load/elf.h"

#include "base/alloc.h"
#include "base/bits.h"

#define NOTE_HEADER_SIZE 12

bool elf_has_magic(const uint8_t *bytes, size_t length)
{
	return length >= SELFMAG && memcmp(bytes, ELFMAG, SELFMAG) == 0;
}

static bool check_header(const char *name, const uint8_t *bytes, size_t length, struct err *err)
{
	if (!elf_has_magic(bytes, length))
		return err_set(err, ERR_IMAGE, "%s: no ELF header", name);
	uint8_t elf_class = length > EI_DATA ? bytes[EI_CLASS] : ELFCLASSNONE;
	size_t needed = elf_class == ELFCLASS64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
	if (length < needed)
		return err_set(err, ERR_IMAGE, "%s: truncated ELF header: %zu bytes of %zu", name, length, needed);
	if (elf_class != ELFCLASS32 && elf_class != ELFCLASS64)
		return err_set(err, ERR_IMAGE, "%s: ELF class %u is neither 32 nor 64 bits", name, elf_class);
	if (bytes[EI_DATA] != ELFDATA2LSB)
		return err_set(err, ERR_IMAGE, "%s: the ELF file is not little-endian", name);
	return true;
}

static bool check_machine(const char *name, const GElf_Ehdr *header, struct err *err)
{
	if (header->e_machine != EM_386 && header->e_machine != EM_X86_64)
		return err_set(err, ERR_IMAGE, "%s: ELF machine %u is not x86", name, header->e_machine);
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return err_set(err, ERR_IMAGE, "%s: ELF type %u is not an executable; link the kernel first", name,
			       header->e_type);
	size_t entry = header->e_ident[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	if (header->e_phnum && header->e_phentsize != entry)
		return err_set(err, ERR_IMAGE, "%s: ELF program headers of %u bytes; %zu expected", name, header->e_phentsize,
			       entry);
	return true;
}

/*
 * The count is that of the header. (Its escape value for 65535 segments and more is not followed: it is taken as 65535, which is
 * refused as too many.)
 */
static bool check_program_headers(const char *name, struct elf_image *elf, struct err *err)
{
	elf->segment_count = elf->header.e_phnum;
	uint64_t size = (uint64_t)elf->header.e_phnum * elf->header.e_phentsize;
	if (size > elf->length || elf->header.e_phoff > elf->length - size)
		return err_set(err, ERR_IMAGE, "%s: truncated: %zu ELF program headers at 0x%llx in a file of %zu bytes", name,
			       elf->segment_count, (unsigned long long)elf->header.e_phoff, elf->length);
	return true;
}

bool elf_open(const char *name, const uint8_t *bytes, size_t length, struct elf_image *ret_elf, struct err *err)
{
	struct elf_image elf = {.bytes = bytes, .length = length};
	if (!check_header(name, bytes, length, err))
		return false;
	elf_version(EV_CURRENT);
	/* elf_memory takes a plain pointer, but opens for reading only and does not write. */
	elf.handle = elf_memory((char *)(uintptr_t)bytes, length);
	if (!elf.handle || !gelf_getehdr(elf.handle, &elf.header)) {
		err_set(err, ERR_IMAGE, "%s: unreadable ELF header: %s", name, elf_errmsg(-1));
		elf_close(&elf);
		return false;
	}
	if (!check_machine(name, &elf.header, err) || !check_program_headers(name, &elf, err)) {
		elf_close(&elf);
		return false;
	}
	*ret_elf = elf;
	return true;
}

void elf_close(struct elf_image *elf)
{
	elf_end(elf->handle);
	elf->handle = NULL;
}

static bool get_segment(const struct elf_image *elf, size_t index, GElf_Phdr *ret_segment)
{
	return gelf_getphdr(elf->handle, (int)index, ret_segment) != NULL;
}

/* Whether a range of the file exists. */
static bool in_file(const struct elf_image *elf, uint64_t offset, uint64_t size)
{
	return offset <= elf->length && size <= elf->length - offset;
}

static bool plan_segment(const struct elf_image *elf, struct plan *plan, size_t index, const GElf_Phdr *segment, struct err *err)
{
	if (segment->p_filesz > segment->p_memsz)
		return plan_refuse(plan, err, "segment %zu has 0x%llx bytes in the file but 0x%llx in memory", index,
				   (unsigned long long)segment->p_filesz, (unsigned long long)segment->p_memsz);
	if (segment->p_filesz && !in_file(elf, segment->p_offset, segment->p_filesz))
		return plan_refuse(plan, err, "truncated: segment %zu has 0x%llx bytes at offset 0x%llx of a file of 0x%zx bytes",
				   index, (unsigned long long)segment->p_filesz, (unsigned long long)segment->p_offset,
				   elf->length);
	const uint8_t *bytes = segment->p_filesz ? elf->bytes + segment->p_offset : NULL;
	return plan_put(plan, "segment", segment->p_paddr, bytes, segment->p_filesz, segment->p_memsz, err);
}

bool elf_plan_segments(const struct elf_image *elf, struct plan *plan, struct err *err)
{
	for (size_t i = 0; i < elf->segment_count; i++) {
		GElf_Phdr segment;
		if (!get_segment(elf, i, &segment))
			return plan_refuse(plan, err, "unreadable program header %zu: %s", i, elf_errmsg(-1));
		if (segment.p_type == PT_INTERP)
			return plan_refuse(plan, err, "a dynamically linked program, not a kernel");
		if (segment.p_type == PT_LOAD && !plan_segment(elf, plan, i, &segment, err))
			return false;
	}
	if (plan->count == 0)
		return plan_refuse(plan, err, "the ELF file has no load segment");
	plan_image_done(plan);
	return true;
}

bool elf_physical(const struct elf_image *elf, uint64_t address, gpa_t *ret_gpa)
{
	bool found = false;
	for (size_t i = 0; i < elf->segment_count; i++) {
		GElf_Phdr segment;
		if (!get_segment(elf, i, &segment) || segment.p_type != PT_LOAD)
			continue;
		if (address - segment.p_vaddr < segment.p_memsz) {
			*ret_gpa = address - segment.p_vaddr + segment.p_paddr;
			return true;
		}
		if (address - segment.p_paddr < segment.p_memsz) {
			*ret_gpa = address;
			found = true;
		}
	}
	return found;
}

static uint64_t align_up4(uint64_t value)
{
	return (value + 3) & ~3ull;
}

/* The value of a note's description, if it is one. */
static bool note_value(const uint8_t *desc, uint32_t size, uint64_t *ret_value)
{
	*ret_value = 0;
	if (size != 4 && size != 8)
		return false;
	memcpy(ret_value, desc, size);
	return true;
}

/* ELF, "Note Section": owner and description are padded to 4 bytes; sizes are 32 bits, so sums in 64 bits cannot overflow. */
static bool find_note(const uint8_t *bytes, uint64_t length, const char *owner, uint32_t type, uint64_t *ret_value)
{
	uint64_t at = 0;
	uint32_t header[3]; /* size of owner, size of description, type */
	while (bytes_get(bytes, length, at, header, NOTE_HEADER_SIZE)) {
		uint64_t owner_at = at + NOTE_HEADER_SIZE;
		uint64_t desc_at = owner_at + align_up4(header[0]);
		if (desc_at > length || length - desc_at < header[1])
			return false;
		if (header[2] == type && header[0] == strlen(owner) + 1 && memcmp(bytes + owner_at, owner, header[0]) == 0 &&
		    note_value(bytes + desc_at, header[1], ret_value))
			return true;
		at = desc_at + align_up4(header[1]);
	}
	return false;
}

bool elf_note(const struct elf_image *elf, const char *owner, uint32_t type, uint64_t *ret_value)
{
	for (size_t i = 0; i < elf->segment_count; i++) {
		GElf_Phdr segment;
		uint64_t value;
		if (!get_segment(elf, i, &segment) || segment.p_type != PT_NOTE)
			continue;
		if (!in_file(elf, segment.p_offset, segment.p_filesz))
			continue;
		if (find_note(elf->bytes + segment.p_offset, segment.p_filesz, owner, type, &value)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

/* The fields of a section header that matter here, of either class. */
struct section {
	uint32_t type;
	uint64_t address, offset, size, alignment;
};

static struct section section_at(const struct elf_image *elf, const uint8_t *entry)
{
	if (elf_is_64(elf)) {
		Elf64_Shdr header;
		memcpy(&header, entry, sizeof(header));
		return (struct section){header.sh_type, header.sh_addr, header.sh_offset, header.sh_size, header.sh_addralign};
	}
	Elf32_Shdr header;
	memcpy(&header, entry, sizeof(header));
	return (struct section){header.sh_type, header.sh_addr, header.sh_offset, header.sh_size, header.sh_addralign};
}

static void set_section_address(const struct elf_image *elf, uint8_t *entry, gpa_t gpa)
{
	uint32_t gpa32 = (uint32_t)gpa;
	if (elf_is_64(elf))
		memcpy(entry + offsetof(Elf64_Shdr, sh_addr), &gpa, sizeof(gpa));
	else
		memcpy(entry + offsetof(Elf32_Shdr, sh_addr), &gpa32, sizeof(gpa32));
}

/* Bytes of the file that no segment brings into memory and that a symbolizer in the guest may want. */
static bool is_unloaded(const struct elf_image *elf, const struct section *section)
{
	return section->address == 0 && section->size && section->type != SHT_NULL && section->type != SHT_NOBITS &&
	       in_file(elf, section->offset, section->size);
}

/* Appends a section's bytes to the blob, aligned as it asks (to a page at most); returns its offset in the blob. */
static uint64_t append_section(const struct elf_image *elf, const struct section *section, struct strbuf *blob)
{
	static const char zeros[16];
	while (section->alignment > 1 && !blob->failed && blob->length % MIN(section->alignment, sizeof(zeros)))
		strbuf_putc(blob, 0);
	uint64_t offset = blob->length;
	strbuf_add(blob, (const char *)elf->bytes + section->offset, section->size);
	return offset;
}

/* Two passes over one walk: with base 0 to learn the size, then with the place that was found. */
static bool build_sections(const struct elf_image *elf, uint8_t *table, size_t count, size_t entry_size, gpa_t base,
			   struct strbuf *blob)
{
	for (size_t i = 0; i < count; i++) {
		struct section section = section_at(elf, table + i * entry_size);
		if (!is_unloaded(elf, &section))
			continue;
		/* Sections do not overlap in an honest file, so they are never larger than it, but for padding. */
		if (blob->length + section.size > 2 * elf->length + PAGE_SIZE)
			return false;
		uint64_t offset = append_section(elf, &section, blob);
		if (base)
			set_section_address(elf, table + i * entry_size, base + offset);
	}
	return true;
}

static bool place_sections(const struct elf_image *elf, struct plan *plan, uint8_t *table, size_t count, size_t entry_size,
			   struct err *err)
{
	struct strbuf blob;
	gpa_t low, high, base;
	strbuf_init(&blob);
	if (!build_sections(elf, table, count, entry_size, 0, &blob)) {
		strbuf_finish(&blob);
		return plan_refuse(plan, err, "the sections of the ELF file overlap");
	}
	plan_image_extent(plan, &low, &high);
	/* A guest that lacks the room boots without symbols: the headers then keep address 0. */
	if (!blob.failed && blob.length && plan_find_lowest(plan, MAX(high, PLAN_1M), PLAN_4G, blob.length, PAGE_SIZE, &base)) {
		strbuf_clear(&blob);
		build_sections(elf, table, count, entry_size, base, &blob);
		return plan_put_buffer(plan, "sections", base, &blob, err);
	}
	bool failed = blob.failed;
	strbuf_finish(&blob);
	return failed ? err_set(err, ERR_INTERNAL, "%s: out of host memory", plan->request->name) : true;
}

bool elf_plan_sections(const struct elf_image *elf, struct plan *plan, struct strbuf *buffer, struct err *err)
{
	size_t entry_size = elf_is_64(elf) ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
	size_t count = elf->header.e_shnum;
	size_t size = count * entry_size;
	if (count == 0 || elf->header.e_shentsize != entry_size || !in_file(elf, elf->header.e_shoff, size))
		return true;
	uint8_t *table = mem_zalloc(1, size);
	if (!table)
		return err_set(err, ERR_INTERNAL, "%s: out of host memory", plan->request->name);
	memcpy(table, elf->bytes + elf->header.e_shoff, size);
	bool done = place_sections(elf, plan, table, count, entry_size, err);
	if (done)
		strbuf_add(buffer, (const char *)table, size);
	mem_free(table);
	return done;
}
