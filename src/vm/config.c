/* The usual machine, and what a configuration may be; see config.h. */
#include "vm/config.h"

#include "cpu/fpu_host.h"
#include "dev/rtc.h"

#define MIB (1ull << 20)

void machine_config_init(struct machine_config *config)
{
	*config = (struct machine_config){
		.board = true, .memory = 128 * MIB, .cpus = 1, .mmu_mode = MMU_TDP, .debug_exit = true, .rtc_seconds = RTC_EPOCH_2000,
	};
}

static bool memory_check(uint64_t memory, struct err *err)
{
	if (memory < MACHINE_MIN_MEMORY || memory > MACHINE_MAX_MEMORY)
		return err_set(err, ERR_USAGE, "memory: %llu KiB; a machine has 1 MiB to 64 GiB", (unsigned long long)(memory >> 10));
	if (memory & PAGE_OFFSET_MASK)
		return err_set(err, ERR_USAGE, "memory: %llu bytes are not a whole number of pages", (unsigned long long)memory);
	return true;
}

bool machine_config_check(const struct machine_config *config, struct err *err)
{
	if (config->board && !memory_check(config->memory, err))
		return false;
	if (!config->cpus || config->cpus > MACHINE_MAX_CPUS)
		return err_set(err, ERR_USAGE, "cpus: %u; a machine has 1 to %u", config->cpus, MACHINE_MAX_CPUS);
	if (config->smram != MACHINE_SMRAM_TSEG && config->smram != MACHINE_SMRAM_COMPATIBLE && config->smram != MACHINE_SMRAM_NONE)
		return err_set(err, ERR_USAGE, "smram: kind %d does not exist", (int)config->smram);
	if (config->board && config->smram == MACHINE_SMRAM_COMPATIBLE && config->cpus > MACHINE_SMRAM_COMPATIBLE_CPUS)
		return err_set(err, ERR_USAGE, "smram: behind graphics memory is room for %u processors", MACHINE_SMRAM_COMPATIBLE_CPUS);
	if (!config->time != !config->wait)
		return err_set(err, ERR_USAGE, "clock: a clock from outside needs both time and wait");
	if (config->mmu_mode != MMU_TDP && config->mmu_mode != MMU_SHADOW)
		return err_set(err, ERR_USAGE, "mmu: mode %d does not exist", (int)config->mmu_mode);
	if (config->host_fpu && !fpu_host_exists())
		return err_set(err, ERR_USAGE, "fpu host: this host has no x87; leave the option out");
	if (config->tlb_entries & (config->tlb_entries - 1))
		return err_set(err, ERR_USAGE, "tlb entries: %u is not a power of two", config->tlb_entries);
	if (config->tlb_entries > 1u << TLB_ENTRIES_LOG2)
		return err_set(err, ERR_USAGE, "tlb entries: %u; at most %u", config->tlb_entries, 1u << TLB_ENTRIES_LOG2);
	if (config->tlb_banks && config->tlb_banks < 4)
		return err_set(err, ERR_USAGE, "tlb banks: %u; at least 4", config->tlb_banks);
	if (config->tlb_banks > 4096)
		return err_set(err, ERR_USAGE, "tlb banks: %u; at most 4096", config->tlb_banks);
	return true;
}
