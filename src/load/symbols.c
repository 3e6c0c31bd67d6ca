/* Symbol tables, see symbols.h. Reads with libelf, keeps nothing of it. */
#include "load/symbols.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/strbuf.h"
#include "load/elf.h"

struct symbol {
	uint64_t address;
	uint64_t end;  /* of the symbol, or of its section when it has no size of its own that reaches further */
	uint32_t name; /* offset into names */
	uint8_t rank;  /* among symbols of one address the highest is shown: functions, then objects, then labels; global first */
};

struct symbols {
	struct symbol *table; /* by address, one symbol an address */
	size_t count, capacity;
	struct strbuf names;
};

/* The string table that belongs to a symbol table: a part of the file. */
struct strings {
	const uint8_t *bytes;
	uint64_t length;
};

/*
 * Copies at most SYMBOLS_MAX_NAME characters. libelf's elf_strptr is not used: it proves for every name that the table has a
 * terminator, which in a table without one costs a search of all of it each time.
 */
static void add_name(struct strbuf *names, const struct strings *strings, uint64_t offset)
{
	uint64_t end = offset + MIN(strings->length - offset, SYMBOLS_MAX_NAME);
	for (uint64_t i = offset; i < end && strings->bytes[i]; i++)
		strbuf_putc(names, strings->bytes[i] > ' ' && strings->bytes[i] <= '~' ? (char)strings->bytes[i] : '?');
	strbuf_putc(names, 0);
}

static uint8_t symbol_rank(const GElf_Sym *symbol)
{
	unsigned type = GELF_ST_TYPE(symbol->st_info);
	uint8_t rank = type == STT_FUNC ? 4 : type == STT_OBJECT ? 2 : 0;
	return rank + (GELF_ST_BIND(symbol->st_info) == STB_LOCAL ? 0 : 1);
}

/* The end of the section that a symbol belongs to; 0 for constants, undefined symbols, and sections that are not loaded. */
static uint64_t section_end(Elf *elf, const GElf_Sym *symbol)
{
	GElf_Shdr header;
	uint64_t end;
	if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx >= SHN_LORESERVE)
		return 0;
	Elf_Scn *section = elf_getscn(elf, symbol->st_shndx);
	if (!section || !gelf_getshdr(section, &header) || !(header.sh_flags & SHF_ALLOC))
		return 0;
	if (symbol->st_value < header.sh_addr || __builtin_add_overflow(header.sh_addr, header.sh_size, &end))
		return 0;
	return end;
}

static bool is_wanted(const GElf_Sym *symbol)
{
	unsigned type = GELF_ST_TYPE(symbol->st_info);
	return symbol->st_name != 0 && (type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE);
}

static bool grow(struct symbols *symbols)
{
	if (symbols->count < symbols->capacity)
		return true;
	size_t capacity = symbols->capacity ? symbols->capacity * 2 : 256;
	struct symbol *table = mem_realloc(symbols->table, capacity, sizeof(*table));
	if (!table)
		return false;
	symbols->table = table;
	symbols->capacity = capacity;
	return true;
}

/* False without host memory; a symbol that makes no sense is passed over. */
static bool add_symbol(struct symbols *symbols, Elf *elf, const GElf_Sym *source, const struct strings *strings)
{
	uint64_t end = is_wanted(source) ? section_end(elf, source) : 0, own_end;
	if (end == 0)
		return true;
	if (!__builtin_add_overflow(source->st_value, source->st_size, &own_end))
		end = MAX(end, own_end);
	if (source->st_name >= strings->length || symbols->names.length > UINT32_MAX - SYMBOLS_MAX_NAME - 1)
		return true;
	if (!grow(symbols))
		return false;
	symbols->table[symbols->count++] = (struct symbol){
		.address = source->st_value,
		.end = end,
		.name = (uint32_t)symbols->names.length,
		.rank = symbol_rank(source),
	};
	add_name(&symbols->names, strings, source->st_name);
	return !symbols->names.failed;
}

static bool find_strings(const struct elf_image *elf, uint32_t index, struct strings *ret_strings)
{
	GElf_Shdr header;
	Elf_Scn *section = elf_getscn(elf->handle, index);
	if (!section || !gelf_getshdr(section, &header) || header.sh_type != SHT_STRTAB || header.sh_offset > elf->length ||
	    header.sh_size > elf->length - header.sh_offset)
		return false;
	*ret_strings = (struct strings){elf->bytes + header.sh_offset, header.sh_size};
	return true;
}

static bool add_table(struct symbols *symbols, const struct elf_image *elf, Elf_Scn *section, const GElf_Shdr *header)
{
	struct strings strings;
	Elf_Data *data = elf_getdata(section, NULL);
	size_t entry = gelf_fsize(elf->handle, ELF_T_SYM, 1, EV_CURRENT);
	if (!data || !data->d_buf || data->d_type != ELF_T_SYM || !find_strings(elf, header->sh_link, &strings))
		return true;
	size_t count = MIN(data->d_size / entry, SYMBOLS_MAX);
	for (size_t i = 0; i < count; i++) {
		GElf_Sym symbol;
		if (gelf_getsym(data, (int)i, &symbol) && !add_symbol(symbols, elf->handle, &symbol, &strings))
			return false;
	}
	return true;
}

/* Reads the first table of a type; the format allows one, and more would let a small file ask for much work. */
static bool add_tables(struct symbols *symbols, const struct elf_image *elf, uint32_t type)
{
	Elf_Scn *section = NULL;
	while ((section = elf_nextscn(elf->handle, section))) {
		GElf_Shdr header;
		if (gelf_getshdr(section, &header) && header.sh_type == type)
			return add_table(symbols, elf, section, &header);
	}
	return true;
}

static int compare(const void *left, const void *right)
{
	const struct symbol *a = left, *b = right;
	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	if (a->rank != b->rank)
		return a->rank > b->rank ? -1 : 1;
	return a->name < b->name ? -1 : a->name > b->name;
}

static void sort_and_thin(struct symbols *symbols)
{
	size_t kept = 0;
	if (symbols->count == 0)
		return;
	qsort(symbols->table, symbols->count, sizeof(*symbols->table), compare);
	for (size_t i = 0; i < symbols->count; i++) {
		if (kept == 0 || symbols->table[kept - 1].address != symbols->table[i].address)
			symbols->table[kept++] = symbols->table[i];
	}
	symbols->count = kept;
}

static bool read_symbols(struct symbols *symbols, const uint8_t *bytes, size_t length)
{
	struct elf_image elf;
	if (!elf_open("", bytes, length, &elf, NULL))
		return true;
	bool done = add_tables(symbols, &elf, SHT_SYMTAB);
	if (done && symbols->count == 0)
		done = add_tables(symbols, &elf, SHT_DYNSYM);
	elf_close(&elf);
	sort_and_thin(symbols);
	return done;
}

struct symbols *symbols_create(const uint8_t *bytes, size_t length)
{
	struct symbols *symbols = mem_zalloc(1, sizeof(*symbols));
	if (!symbols)
		return NULL;
	strbuf_init(&symbols->names);
	if (!read_symbols(symbols, bytes, length)) {
		symbols_destroy(symbols);
		return NULL;
	}
	return symbols;
}

void symbols_destroy(struct symbols *symbols)
{
	if (!symbols)
		return;
	strbuf_finish(&symbols->names);
	mem_free(symbols->table);
	mem_free(symbols);
}

size_t symbols_count(const struct symbols *symbols)
{
	return symbols->count;
}

bool symbols_nearest(const struct symbols *symbols, uint64_t address, const char **ret_name, uint64_t *ret_offset)
{
	size_t low = 0, high = symbols->count; /* symbols below low are at or below address, those from high on are above */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (symbols->table[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || address >= symbols->table[low - 1].end)
		return false;
	*ret_name = strbuf_text(&symbols->names) + symbols->table[low - 1].name;
	*ret_offset = address - symbols->table[low - 1].address;
	return true;
}

bool symbols_find(const struct symbols *symbols, const char *name, uint64_t *ret_address)
{
	for (size_t i = 0; i < symbols->count; i++) {
		if (strcmp(strbuf_text(&symbols->names) + symbols->table[i].name, name) == 0) {
			*ret_address = symbols->table[i].address;
			return true;
		}
	}
	return false;
}
