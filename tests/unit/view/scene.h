/* A processor with four-level page tables for the tests of view/: built from the layers below, never run. */
#ifndef UMBRA_TESTS_VIEW_SCENE_H
#define UMBRA_TESTS_VIEW_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/block.h"
#include "cpu/cpuid.h"
#include "view/view.h"

#define RAM (16u << 20)
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define PT 0x4000u

struct scene {
	struct mem_space space;
	struct trace trace;
	struct clock clock;
	struct mmu_vm *mmu;
	struct block_cache *blocks;
	struct vcpu *v;
	struct strbuf text;
};

static const struct cpu_ops scene_ops;

static inline void scene_entry(struct scene *scene, gpa_t table, unsigned index, uint64_t entry)
{
	assert_true(mem_write(&scene->space, 0, table + 8 * index, &entry, 8));
}

/* Long mode with 4-level paging; the pages of 0x0 to 0x1fffff are up to the test. */
static inline void scene_start(struct scene *scene, const char *model_text)
{
	struct err err;
	struct cpu_model model;

	memset(scene, 0, sizeof(*scene));
	assert_true(cpu_model_parse(model_text, &model, &err));
	clock_init(&scene->clock);
	mem_space_init(&scene->space);
	assert_true(mem_slot_add(&scene->space, 0, 0, 0, RAM, NULL, 0, &err));
	scene->mmu = mmu_vm_create(&scene->space, &(struct mmu_options){.mode = MMU_TDP, .tlb_entries_log2 = TLB_ENTRIES_LOG2}, &scene->trace);
	assert_non_null(scene->mmu);
	scene->blocks = block_cache_create(&scene->space, &scene->trace);
	assert_non_null(scene->blocks);
	scene->v = vcpu_create(0, &model, &scene->space, scene->mmu, scene->blocks, &scene->clock, &scene->trace, &scene_ops, NULL);
	assert_non_null(scene->v);
	scene_entry(scene, PML4, 0, PDPT | PTE_P | PTE_W | PTE_U | PTE_A);
	scene_entry(scene, PDPT, 0, PD | PTE_P | PTE_W | PTE_U | PTE_A);
	scene_entry(scene, PD, 0, PT | PTE_P | PTE_W | PTE_U | PTE_A);
	strbuf_init(&scene->text);
}

static inline void scene_registers(struct scene *scene, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct vcpu *v = scene->v;

	v->cr0 = cr0 | CR0_PE | CR0_PG;
	v->cr3 = PML4;
	v->cr4 = cr4 | CR4_PAE;
	v->efer = efer | EFER_LME | EFER_LMA;
	v->seg[SEG_CS] = (struct segment){.limit = 0xffffffff, .selector = 8, .attr = 0xa09b};
	vcpu_registers_changed(v);
}

static inline const char *scene_walk(struct scene *scene, gva_t gva, uint64_t access)
{
	strbuf_clear(&scene->text);
	view_walk(&scene->text, scene->v, gva, access);
	return strbuf_text(&scene->text);
}

static inline void scene_stop(struct scene *scene)
{
	strbuf_finish(&scene->text);
	vcpu_destroy(scene->v);
	block_cache_destroy(scene->blocks);
	mmu_vm_destroy(scene->mmu);
	mem_space_finish(&scene->space);
}

static __attribute__((noinline, unused)) void assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

static __attribute__((noinline, unused)) void assert_silent(const char *text, const char *part)
{
	if (strstr(text, part))
		fail_msg("\"%s\" is in:\n%s", part, text);
}

/* Lines of at most `columns`; returns how many there are. */
static inline unsigned assert_columns(const char *text, size_t columns)
{
	unsigned lines = 0;
	while (*text) {
		const char *end = strchr(text, '\n');
		assert_non_null(end);
		if ((size_t)(end - text) > columns)
			fail_msg("too wide: %.*s", (int)(end - text), text);
		text = end + 1;
		lines++;
	}
	return lines;
}

#endif
