/*
 * Putting a machine together, and taking it apart. Works with board.c, which adds the PC around the processors; the order matters
 * in both directions, because listeners of the memory space must go before it.
 */
#include "vm/vm.h"

#include "base/alloc.h"
#include "base/bug.h"
#include "cpu/block.h"
#include "svm/svm.h"
#include "vm/board.h"

static void clock_rearmed(void *opaque)
{
	struct machine *machine = opaque;
	if (machine->running && clock_next_deadline(&machine->clock) < machine->turn_end)
		machine_cut_turn(machine);
}

static bool model_parse(const struct machine_config *config, struct cpu_model *ret_model, struct err *err)
{
	if (!config->cpu) {
		cpu_model_default(ret_model);
		return true;
	}
	return config->cpu_is_qemu ? cpu_model_parse_qemu(config->cpu, ret_model, err) : cpu_model_parse(config->cpu, ret_model, err);
}

static struct mmu_options mmu_options_of(const struct machine_config *config)
{
	return (struct mmu_options){
		.mode = config->mmu_mode,
		.shadow_page_quota = config->shadow_page_quota,
		.tlb_entries_log2 = config->tlb_entries ? (unsigned)__builtin_ctz(config->tlb_entries) : TLB_ENTRIES_LOG2,
		.tlb_banks = config->tlb_banks,
	};
}

static bool cpus_create(struct machine *machine)
{
	machine->cpus = mem_zalloc(machine->config.cpus, sizeof(*machine->cpus));
	if (!machine->cpus)
		return false;
	for (unsigned n = 0; n < machine->config.cpus; n++) {
		struct machine_cpu *cpu = &machine->cpus[n];
		cpu->machine = machine;
		cpu->interrupt = -1;
		cpu->v = vcpu_create(n, &machine->model, &machine->space, machine->mmu, machine->blocks, &machine->clock,
				     &machine->trace, &machine_cpu_ops, machine);
		if (!cpu->v)
			return false;
		machine->count++;
		if (!svm_attach(cpu->v))
			return false;
		svm_set_verify(cpu->v, machine->config.check_interval);
	}
	return true;
}

static bool parts_create(struct machine *machine)
{
	struct mmu_options options = mmu_options_of(&machine->config);

	machine->mmu = mmu_vm_create(&machine->space, &options, &machine->trace);
	machine->blocks = block_cache_create(&machine->space, &machine->trace);
	if (!machine->mmu || !machine->blocks || !cpus_create(machine))
		return false;
	mmu_set_check_interval(machine->mmu, machine->config.check_interval);
	return true;
}

struct machine *machine_create(const struct machine_config *config, struct err *err)
{
	if (!machine_config_check(config, err))
		return NULL;
	struct machine *machine = mem_zalloc(1, sizeof(*machine));
	if (!machine) {
		err_set(err, ERR_INTERNAL, "machine: the host has no memory for it");
		return NULL;
	}
	machine->config = *config;
	machine->end = (struct machine_end){.reason = END_STOPPED, .exit_status = 130, .text = "the machine has not run yet"};
	mem_space_init(&machine->space);
	clock_init(&machine->clock);
	machine->clock.rearmed = clock_rearmed;
	machine->clock.opaque = machine;
	bus_init(&machine->ports);
	bus_init(&machine->mmio);
	bool good = model_parse(config, &machine->model, err);
	machine->model.host_fpu = config->host_fpu;
	if (good && !parts_create(machine))
		good = err_set(err, ERR_INTERNAL, "machine: the host has no memory for its processors");
	if (good && config->board)
		good = board_create(machine, err);
	machine->config.cpu = NULL; /* the caller's */
	if (!good) {
		machine_destroy(machine);
		return NULL;
	}
	return machine;
}

static void parts_destroy(struct machine *machine)
{
	board_destroy(machine);
	for (unsigned n = 0; n < machine->count; n++) {
		svm_detach(machine->cpus[n].v);
		vcpu_destroy(machine->cpus[n].v);
	}
	mem_free(machine->cpus);
	if (machine->blocks)
		block_cache_destroy(machine->blocks);
	if (machine->mmu)
		mmu_vm_destroy(machine->mmu);
	mem_space_finish(&machine->space);
}

/* A dead machine may trip over what killed it; then the rest of its memory stays where it is. */
void machine_destroy(struct machine *machine)
{
	struct bug_trap trap;

	if (!machine)
		return;
	bug_trap_arm(&trap);
	if (setjmp(trap.env))
		return;
	parts_destroy(machine);
	bug_trap_disarm(&trap);
	mem_free(machine);
}
