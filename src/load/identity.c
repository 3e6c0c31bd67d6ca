/* Page tables for guests that are entered in long mode: the first 4 GiB one to one, in pages of 2 MiB. Used by pvh.c and linux.c. */
#include "load/loader.h"

#include "arch/pte.h"

static void build_tables(struct strbuf *buffer, gpa_t base)
{
	uint64_t table[512] = {(base + PAGE_SIZE) | PTE_P | PTE_W};
	strbuf_add(buffer, (const char *)table, sizeof(table));
	for (unsigned i = 0; i < 512; i++)
		table[i] = i < IDENTITY_GIB ? (base + (2 + i) * PAGE_SIZE) | PTE_P | PTE_W : 0;
	strbuf_add(buffer, (const char *)table, sizeof(table));
	for (uint64_t page = 0; page < IDENTITY_GIB * 512; page++) {
		table[page % 512] = page * level_span(LEVEL_2M) | PTE_P | PTE_W | PTE_PS;
		if (page % 512 == 511)
			strbuf_add(buffer, (const char *)table, sizeof(table));
	}
}

bool identity_put_tables(struct plan *plan, gpa_t gpa, struct err *err)
{
	struct strbuf buffer;

	strbuf_init(&buffer);
	build_tables(&buffer, gpa);
	return plan_put_buffer(plan, "page tables", gpa, &buffer, err);
}
