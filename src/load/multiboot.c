/*
 * What both versions of multiboot share: the address fields for files that are not ELF, and the two classic memory sizes.
 * multiboot1.c and multiboot2.c have the rest.
 */
#include "load/loader.h"

#include "base/bits.h"

/* Multiboot Specification, "The address tag of Multiboot2 header" and "The address fields of Multiboot header". */
bool multiboot_plan_addresses(struct plan *plan, const struct multiboot_addresses *addresses, struct err *err)
{
	const struct load_request *request = plan->request;
	uint64_t load = addresses->load_address, before;
	if (addresses->load_address == UINT32_MAX)
		load = (uint64_t)addresses->header_address - addresses->header_offset;
	if (__builtin_sub_overflow((uint64_t)addresses->header_address, load, &before) || before > addresses->header_offset)
		return plan_refuse(plan, err, "multiboot header address 0x%x does not fit load address 0x%x",
				   addresses->header_address, addresses->load_address);
	uint64_t offset = addresses->header_offset - before;
	uint64_t length = request->length - offset;
	if (addresses->load_end) {
		if (addresses->load_end < load)
			return plan_refuse(plan, err, "multiboot load end 0x%x lies before load address 0x%llx",
					   addresses->load_end, (unsigned long long)load);
		if (addresses->load_end - load > length)
			return plan_refuse(plan, err,
					   "truncated: the multiboot header asks for 0x%llx bytes, the file has 0x%llx",
					   (unsigned long long)(addresses->load_end - load), (unsigned long long)length);
		length = addresses->load_end - load;
	}
	uint64_t span = length;
	if (addresses->bss_end) {
		if (addresses->bss_end < load + length)
			return plan_refuse(plan, err, "multiboot bss end 0x%x lies before the end of the loaded bytes 0x%llx",
					   addresses->bss_end, (unsigned long long)(load + length));
		span = addresses->bss_end - load;
	}
	if (span == 0)
		return plan_refuse(plan, err, "the multiboot header loads no byte at all");
	if (!plan_put(plan, "multiboot image", load, request->bytes + offset, length, span, err))
		return false;
	plan_image_done(plan);
	return true;
}

/* First byte from base on that is not RAM. */
static gpa_t ram_end_from(const struct load_request *request, gpa_t base)
{
	for (unsigned i = 0; i < request->memory_count; i++) {
		const struct load_memory *memory = &request->memory[i];
		if (memory->type == LOAD_MEMORY_RAM && base - memory->base < memory->length)
			base = memory->base + memory->length;
	}
	return base;
}

void multiboot_memory_sizes(const struct load_request *request, uint32_t *ret_lower, uint32_t *ret_upper)
{
	uint64_t lower = ram_end_from(request, 0) >> 10;
	uint64_t upper = (ram_end_from(request, PLAN_1M) - PLAN_1M) >> 10;
	*ret_lower = (uint32_t)MIN(lower, 640u);
	*ret_upper = (uint32_t)MIN(upper, UINT32_MAX);
}
