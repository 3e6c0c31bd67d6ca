/*
 * What the processors see of their machine: ports, MMIO, interrupts, APIC registers. Accesses that nobody claims read as ones on
 * a board, and are exits to the client without one.
 */
#include "arch/msr.h"
#include "arch/vmcb.h"
#include "cpu/engine.h"
#include "vm/board.h"
#include "vm/vm.h"

static uint64_t current_rip(const struct vcpu *v)
{
	return v->current ? insn_rip(v->current) : v->rip;
}

static bool unclaimed_exits(const struct machine *machine)
{
	return !machine->board || machine->config.unclaimed_exits;
}

static void trace_port(struct machine *machine, uint16_t port, bool write, unsigned size)
{
	TRACE(&machine->trace, TRACE_GUEST_ERRORS, UNKNOWN_PORT, port, write, size, current_rip(machine->running->v));
}

static void trace_mmio(struct machine *machine, gpa_t gpa, bool write, unsigned size)
{
	TRACE(&machine->trace, TRACE_GUEST_ERRORS, UNKNOWN_MMIO, gpa, write, size, current_rip(machine->running->v));
}

static bool port_read(void *opaque, uint16_t port, unsigned size, uint64_t *ret)
{
	struct machine *machine = opaque;

	if (bus_read(&machine->ports, port, size, ret))
		return true;
	if (unclaimed_exits(machine))
		return false;
	trace_port(machine, port, false, size);
	*ret = size_mask(size);
	return true;
}

static bool port_write(void *opaque, uint16_t port, unsigned size, uint64_t value)
{
	struct machine *machine = opaque;

	if (bus_write(&machine->ports, port, size, value))
		return true;
	if (unclaimed_exits(machine))
		return false;
	trace_port(machine, port, true, size);
	return true;
}

/* The APIC's page is each processor's own: it comes before the bus. */
static struct lapic *own_lapic(const struct machine *machine, gpa_t gpa)
{
	struct lapic *lapic = machine->running->lapic;
	return lapic && lapic_claims(lapic, gpa) ? lapic : NULL;
}

static bool mmio_read(void *opaque, gpa_t gpa, unsigned size, uint64_t *ret)
{
	struct machine *machine = opaque;
	struct lapic *lapic = own_lapic(machine, gpa);

	if (lapic) {
		*ret = lapic_ops.read(lapic, gpa & PAGE_OFFSET_MASK, size) & size_mask(size);
		return true;
	}
	if (bus_read(&machine->mmio, gpa, size, ret))
		return true;
	if (unclaimed_exits(machine))
		return false;
	trace_mmio(machine, gpa, false, size);
	*ret = size_mask(size);
	return true;
}

static bool mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t value)
{
	struct machine *machine = opaque;
	struct lapic *lapic = own_lapic(machine, gpa);

	if (lapic) {
		lapic_ops.write(lapic, gpa & PAGE_OFFSET_MASK, size, value & size_mask(size));
		return true;
	}
	if (bus_write(&machine->mmio, gpa, size, value))
		return true;
	if (unclaimed_exits(machine))
		return false;
	trace_mmio(machine, gpa, true, size);
	return true;
}

static struct machine_cpu *cpu_of(void *machine, unsigned index)
{
	return &((struct machine *)machine)->cpus[index];
}

static bool intr_pending(void *machine, unsigned index)
{
	const struct machine_cpu *cpu = cpu_of(machine, index);
	return cpu->lapic ? lapic_has_intr(cpu->lapic) : cpu->interrupt >= 0;
}

static int intr_acknowledge(void *machine, unsigned index)
{
	struct machine_cpu *cpu = cpu_of(machine, index);
	if (cpu->lapic)
		return lapic_ack(cpu->lapic);
	int vector = cpu->interrupt;
	cpu->interrupt = -1;
	return vector;
}

static uint64_t cr8_read(void *machine, unsigned index)
{
	const struct machine_cpu *cpu = cpu_of(machine, index);
	return cpu->lapic ? lapic_cr8(cpu->lapic) : cpu->cr8;
}

static void cr8_write(void *machine, unsigned index, uint64_t value)
{
	struct machine_cpu *cpu = cpu_of(machine, index);
	if (cpu->lapic)
		lapic_set_cr8(cpu->lapic, (uint8_t)value);
	else
		cpu->cr8 = (uint8_t)value;
}

static bool apic_msr_read(void *machine, unsigned index, uint32_t msr, uint64_t *ret)
{
	struct lapic *lapic = cpu_of(machine, index)->lapic;

	if (!lapic)
		return false;
	switch (msr) {
	case MSR_APIC_BASE: *ret = lapic_read_base(lapic); return true;
	case MSR_TSC_DEADLINE: *ret = lapic_read_tsc_deadline(lapic); return true;
	}
	return lapic_read_msr(lapic, msr, ret);
}

static bool apic_msr_write(void *machine, unsigned index, uint32_t msr, uint64_t value)
{
	struct lapic *lapic = cpu_of(machine, index)->lapic;

	if (!lapic)
		return false;
	switch (msr) {
	case MSR_APIC_BASE: return lapic_write_base(lapic, value);
	case MSR_TSC_DEADLINE: lapic_write_tsc_deadline(lapic, value); return true;
	}
	return lapic_write_msr(lapic, msr, value);
}

static uint64_t send_ipi(void *machine, unsigned index, uint64_t low, uint64_t high, uint64_t min, uint64_t icr)
{
	struct lapic *lapic = cpu_of(machine, index)->lapic;
	return lapic ? lapic_set_send_pv(lapic->set, low, high, (uint32_t)min, (uint32_t)icr) : 0;
}

static void fpu_error(void *machine, unsigned index, bool raised)
{
	board_fpu_error(machine, index, raised);
}

static void init_taken(void *machine, unsigned index)
{
	struct lapic *lapic = cpu_of(machine, index)->lapic;
	if (lapic)
		lapic_receive_init(lapic);
}

static uint32_t apic_id(void *machine, unsigned index)
{
	return index;
}

static int64_t wall_clock(void *opaque)
{
	return ((const struct machine *)opaque)->config.rtc_seconds;
}

const struct cpu_ops machine_cpu_ops = {
	.port_read = port_read, .port_write = port_write, .mmio_read = mmio_read, .mmio_write = mmio_write,
	.intr_pending = intr_pending, .intr_acknowledge = intr_acknowledge, .cr8_read = cr8_read, .cr8_write = cr8_write,
	.apic_msr_read = apic_msr_read, .apic_msr_write = apic_msr_write, .send_ipi = send_ipi, .fpu_error = fpu_error,
	.init_taken = init_taken, .apic_id = apic_id, .wall_clock = wall_clock,
};

/* ---- what the APIC pushes ----------------------------------------------------------------------------------------------- */

static void intr_changed(void *opaque)
{
	machine_wake(opaque);
}

static void nmi(void *opaque)
{
	struct machine_cpu *cpu = opaque;
	vcpu_raise_nmi(cpu->v);
	machine_wake(cpu);
}

/* SMM and GIF hold INIT back, and in a nested guest and with VM_CR.R_INIT it is no reset, or not at once. */
static bool init_resets(const struct vcpu *v)
{
	return !v->smm && v->gif && !v->guest_mode && !(v->vm_cr & VM_CR_R_INIT);
}

/* A processor that is not running takes INIT at once, so that the start-up IPI that follows finds it waiting. */
static void init(void *opaque)
{
	struct machine_cpu *cpu = opaque;

	if (cpu->machine->running == cpu || !init_resets(cpu->v)) {
		cpu->v->init_pending = true;
	} else {
		lapic_receive_init(cpu->lapic);
		vcpu_reset(cpu->v, true);
	}
	machine_wake(cpu);
}

/* Only a processor that waits for it takes a start-up IPI (SDM 3, "INIT and SIPI"). */
static void sipi(void *opaque, uint8_t vector)
{
	struct machine_cpu *cpu = opaque;
	if (!cpu->v->wait_for_sipi)
		return;
	cpu->v->sipi_vector = vector;
	machine_wake(cpu);
}

static void smi(void *opaque)
{
	struct machine_cpu *cpu = opaque;
	vcpu_raise_smi(cpu->v);
	machine_wake(cpu);
}

static uint64_t tsc_offset(void *opaque)
{
	const struct machine_cpu *cpu = opaque;
	return cpu->v->tsc_offset;
}

const struct lapic_cpu_ops machine_lapic_ops = {
	.intr_changed = intr_changed, .nmi = nmi, .init = init, .sipi = sipi, .smi = smi, .tsc_offset = tsc_offset,
};
