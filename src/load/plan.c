/*
 * Load plans, see plan.h: the one place that decides whether a range of guest memory may be used, and the one place that writes.
 */
#include "load/plan.h"

#include "base/alloc.h"
#include "base/bits.h"

void plan_init(struct plan *plan, const struct load_request *request)
{
	plan->request = request;
	plan->count = 0;
	plan->image_count = 0;
}

void plan_finish(struct plan *plan)
{
	for (unsigned i = 0; i < plan->count; i++)
		mem_free(plan->pieces[i].owned);
	plan->count = 0;
}

static bool overlaps(gpa_t base, uint64_t length, gpa_t other, uint64_t other_length)
{
	return length && other_length && (base - other < other_length || other - base < length);
}

/* Whether every byte of the range is RAM; neighbouring entries of the map count as one. The range does not wrap. */
static bool is_ram(const struct load_request *request, gpa_t base, uint64_t length)
{
	gpa_t end = base + length;
	for (unsigned i = 0; i < request->memory_count && base < end; i++) {
		const struct load_memory *memory = &request->memory[i];
		if (memory->type == LOAD_MEMORY_RAM && base - memory->base < memory->length)
			base += MIN(end - base, memory->length - (base - memory->base));
	}
	return base >= end;
}

static const struct load_area *reserved_at(const struct load_request *request, gpa_t base, uint64_t length)
{
	for (unsigned i = 0; i < request->reserved_count; i++)
		if (overlaps(base, length, request->reserved[i].base, request->reserved[i].length))
			return &request->reserved[i];
	return NULL;
}

static const struct plan_piece *piece_at(const struct plan *plan, gpa_t base, uint64_t length)
{
	for (unsigned i = 0; i < plan->count; i++)
		if (overlaps(base, length, plan->pieces[i].gpa, plan->pieces[i].span))
			return &plan->pieces[i];
	return NULL;
}

static bool is_free(const struct plan *plan, gpa_t base, uint64_t length)
{
	return is_ram(plan->request, base, length) && !reserved_at(plan->request, base, length) && !piece_at(plan, base, length);
}

static uint64_t ram_bytes(const struct load_request *request, gpa_t *ret_end)
{
	uint64_t total = 0;
	*ret_end = 0;
	for (unsigned i = 0; i < request->memory_count; i++) {
		if (request->memory[i].type != LOAD_MEMORY_RAM)
			continue;
		total += request->memory[i].length;
		*ret_end = request->memory[i].base + request->memory[i].length;
	}
	return total;
}

static bool refuse_outside(const struct plan *plan, const char *what, gpa_t gpa, uint64_t span, struct err *err)
{
	gpa_t end;
	unsigned long long mib = ram_bytes(plan->request, &end) >> 20;
	if (gpa >= BIT(40))
		return plan_refuse(plan, err,
				   "%s at 0x%llx has no usable physical address; link it with a load address (AT) in RAM", what,
				   (unsigned long long)gpa);
	if (gpa + span > end)
		return plan_refuse(plan, err,
				   "%s at 0x%llx (0x%llx bytes) lies outside the %llu MiB of guest memory; raise --memory", what,
				   (unsigned long long)gpa, (unsigned long long)span, mib);
	return plan_refuse(plan, err, "%s at 0x%llx (0x%llx bytes) lies in a hole of guest memory; link it elsewhere", what,
			   (unsigned long long)gpa, (unsigned long long)span);
}

static bool check_range(const struct plan *plan, const char *what, gpa_t gpa, uint64_t span, struct err *err)
{
	gpa_t end;
	if (__builtin_add_overflow(gpa, span, &end))
		return plan_refuse(plan, err, "%s at 0x%llx with 0x%llx bytes wraps around the end of the address space", what,
				   (unsigned long long)gpa, (unsigned long long)span);
	if (!is_ram(plan->request, gpa, span))
		return refuse_outside(plan, what, gpa, span, err);
	const struct load_area *area = reserved_at(plan->request, gpa, span);
	if (area)
		return plan_refuse(plan, err, "%s at 0x%llx (0x%llx bytes) overlaps firmware data at 0x%llx; link it elsewhere",
				   what, (unsigned long long)gpa, (unsigned long long)span, (unsigned long long)area->base);
	const struct plan_piece *piece = piece_at(plan, gpa, span);
	if (piece)
		return plan_refuse(plan, err, "%s at 0x%llx (0x%llx bytes) overlaps what is loaded at 0x%llx", what,
				   (unsigned long long)gpa, (unsigned long long)span, (unsigned long long)piece->gpa);
	return true;
}

bool plan_put(struct plan *plan, const char *what, gpa_t gpa, const uint8_t *bytes, uint64_t length, uint64_t span,
	      struct err *err)
{
	if (span == 0)
		return true;
	if (length > span)
		return plan_refuse(plan, err, "%s at 0x%llx has more bytes in the file than in memory", what,
				   (unsigned long long)gpa);
	if (plan->count == PLAN_MAX_PIECES)
		return plan_refuse(plan, err, "%s at 0x%llx is one too many; at most %u pieces are loaded", what,
				   (unsigned long long)gpa, PLAN_MAX_PIECES);
	if (!check_range(plan, what, gpa, span, err))
		return false;
	plan->pieces[plan->count++] = (struct plan_piece){.gpa = gpa, .span = span, .bytes = bytes, .length = length};
	return true;
}

bool plan_keep(struct plan *plan, const char *what, gpa_t gpa, uint64_t span, struct err *err)
{
	if (!plan_put(plan, what, gpa, NULL, 0, span, err))
		return false;
	if (span)
		plan->pieces[plan->count - 1].kept = true;
	return true;
}

bool plan_put_buffer(struct plan *plan, const char *what, gpa_t gpa, struct strbuf *buffer, struct err *err)
{
	bool done = buffer->failed
			    ? err_set(err, ERR_INTERNAL, "%s: out of host memory", plan->request->name)
			    : plan_put(plan, what, gpa, (const uint8_t *)buffer->text, buffer->length, buffer->length, err);
	if (done && buffer->length) {
		plan->pieces[plan->count - 1].owned = buffer->text;
		strbuf_init(buffer);
	}
	strbuf_finish(buffer);
	return done;
}

void plan_image_done(struct plan *plan)
{
	plan->image_count = plan->count;
}

void plan_image_extent(const struct plan *plan, gpa_t *ret_low, gpa_t *ret_high)
{
	gpa_t low = UINT64_MAX, high = 0;
	for (unsigned i = 0; i < plan->image_count; i++) {
		low = MIN(low, plan->pieces[i].gpa);
		high = MAX(high, plan->pieces[i].gpa + plan->pieces[i].span);
	}
	*ret_low = high ? low : 0;
	*ret_high = high;
}

/*
 * The best place starts or ends at an edge: of the window, of RAM, of a reserved area or of a piece. A search offers every edge to
 * search_try, which keeps the best one that fits.
 */
struct search {
	const struct plan *plan;
	gpa_t floor, ceiling;
	uint64_t size, alignment;
	bool highest, found;
	gpa_t best;
};

/* Tries the place that begins at (lowest) or ends at (highest) the given edge. */
static void search_try(struct search *search, gpa_t edge)
{
	gpa_t base;
	if (search->highest) {
		if (__builtin_sub_overflow(MIN(edge, search->ceiling), search->size, &base))
			return;
		base = align_down(base, search->alignment);
	} else {
		if (__builtin_add_overflow(MAX(edge, search->floor), search->alignment - 1, &base))
			return;
		base = align_down(base, search->alignment);
	}
	if (base < search->floor || base > search->ceiling || search->ceiling - base < search->size)
		return;
	if (search->found && (search->highest ? base <= search->best : base >= search->best))
		return;
	if (!is_free(search->plan, base, search->size))
		return;
	search->found = true;
	search->best = base;
}

static bool search_run(struct search *search, gpa_t *ret_gpa)
{
	const struct load_request *request = search->plan->request;
	bool highest = search->highest;
	search->size = MAX(search->size, 1);
	search_try(search, highest ? search->ceiling : search->floor);
	for (unsigned i = 0; i < request->memory_count; i++)
		search_try(search, request->memory[i].base + (highest ? request->memory[i].length : 0));
	for (unsigned i = 0; i < request->reserved_count; i++)
		search_try(search, request->reserved[i].base + (highest ? 0 : request->reserved[i].length));
	for (unsigned i = 0; i < search->plan->count; i++)
		search_try(search, search->plan->pieces[i].gpa + (highest ? 0 : search->plan->pieces[i].span));
	if (search->found)
		*ret_gpa = search->best;
	return search->found;
}

bool plan_find_lowest(const struct plan *plan, gpa_t floor, gpa_t ceiling, uint64_t size, uint64_t alignment, gpa_t *ret_gpa)
{
	struct search search = {plan, floor, ceiling, size, alignment, .highest = false};
	return search_run(&search, ret_gpa);
}

bool plan_find_highest(const struct plan *plan, gpa_t floor, gpa_t ceiling, uint64_t size, uint64_t alignment, gpa_t *ret_gpa)
{
	struct search search = {plan, floor, ceiling, size, alignment, .highest = true};
	return search_run(&search, ret_gpa);
}

bool plan_find_low(const struct plan *plan, const char *what, uint64_t size, uint64_t alignment, gpa_t *ret_gpa, struct err *err)
{
	/* Page 0 holds the real-mode interrupt table, and start-up code for other processors is often put there. */
	if (plan_find_highest(plan, PAGE_SIZE, PLAN_LOW_END, size, alignment, ret_gpa) ||
	    plan_find_lowest(plan, PLAN_1M, PLAN_4G, size, alignment, ret_gpa))
		return true;
	return plan_refuse(plan, err, "no room for %s (%llu bytes) below 4 GiB of guest memory; raise --memory", what,
			   (unsigned long long)size);
}

static bool place_module(struct plan *plan, enum plan_modules where, const struct load_module *module, gpa_t *ret_gpa,
			 struct err *err)
{
	gpa_t low, high;
	plan_image_extent(plan, &low, &high);
	bool found = where == MODULES_HIGH
			     ? plan_find_highest(plan, PLAN_1M, PLAN_4G, module->length, PAGE_SIZE, ret_gpa)
			     : plan_find_lowest(plan, MAX(high, PLAN_1M), PLAN_4G, module->length, PAGE_SIZE, ret_gpa);
	if (!found && !plan_find_lowest(plan, PLAN_1M, PLAN_4G, module->length, PAGE_SIZE, ret_gpa))
		return plan_refuse(plan, err,
				   "module %.100s (%zu bytes) does not fit beside the kernel below 4 GiB; raise --memory",
				   module->text ? module->text : "without a name", module->length);
	return plan_put(plan, "module", *ret_gpa, module->bytes, module->length, module->length, err);
}

bool plan_modules(struct plan *plan, enum plan_modules where, gpa_t *ret_gpa, struct err *err)
{
	for (unsigned i = 0; i < plan->request->module_count; i++)
		if (!place_module(plan, where, &plan->request->modules[i], &ret_gpa[i], err))
			return false;
	return true;
}

static bool commit_piece(const struct plan_piece *piece, const struct load_target *target)
{
	if (piece->kept)
		return true;
	if (piece->length && !target->write(target->opaque, piece->gpa, piece->bytes, piece->length))
		return false;
	return piece->span == piece->length ||
	       target->zero(target->opaque, piece->gpa + piece->length, piece->span - piece->length);
}

bool plan_commit(const struct plan *plan, const struct load_target *target, struct err *err)
{
	for (unsigned i = 0; i < plan->count; i++)
		if (!commit_piece(&plan->pieces[i], target))
			return plan_refuse(plan, err, "guest memory at 0x%llx (0x%llx bytes) cannot be written",
					   (unsigned long long)plan->pieces[i].gpa, (unsigned long long)plan->pieces[i].span);
	return true;
}
