/* How a run ended: the reason, its exit status, and the line for a person. See vm.h; view/ writes the long report. */
#include "vm/vm.h"

#include <stdio.h>
#include <string.h>

#include "cpu/fpu.h"

static const struct {
	const char *name;
	int exit_status;
} ends[END_REASON_COUNT] = {
	[END_DEBUG_EXIT] = {"debug exit", 0}, /* the status is made from the value */
	[END_POWER_OFF] = {"power off", 0},
	[END_TRIPLE_FAULT] = {"triple fault", 100},
	[END_PANIC] = {"guest panic", 102},
	[END_HALTED] = {"halted for ever", 104},
	[END_RESET] = {"reset", 106},
	[END_TIMEOUT] = {"timeout", 124},
	[END_STOPPED] = {"stopped", 130},
	[END_EXIT] = {"exit", 0},
	[END_BUG] = {"bug", 70},
};

const char *machine_end_name(enum machine_end_reason reason)
{
	return (unsigned)reason < END_REASON_COUNT ? ends[reason].name : "unknown";
}

static unsigned last_vcpu(const struct machine *machine)
{
	return machine->running ? machine->running->v->index : machine->end.vcpu;
}

static void describe(struct machine *machine, struct machine_end *end)
{
	const struct vcpu *v = machine->cpus[end->vcpu].v;
	size_t size = sizeof(end->text);
	unsigned long long rip = v->rip, value = end->value;

	switch (end->reason) {
	case END_DEBUG_EXIT: snprintf(end->text, size, "the guest wrote %#llx to isa-debug-exit", value); break;
	case END_POWER_OFF: snprintf(end->text, size, "the guest switched the power off"); break;
	case END_TRIPLE_FAULT: snprintf(end->text, size, "processor %u: triple fault at %#llx", end->vcpu, rip); break;
	case END_PANIC: snprintf(end->text, size, "the guest announced a panic"); break;
	case END_HALTED:
		snprintf(end->text, size, "processor %u: halted at %#llx, and nothing can wake any processor", end->vcpu, rip);
		break;
	case END_RESET: snprintf(end->text, size, "the guest asked for a reset"); break;
	case END_TIMEOUT:
		snprintf(end->text, size, "out of time after %llu instructions", (unsigned long long)machine->instructions);
		break;
	case END_STOPPED: snprintf(end->text, size, "stopped from outside"); break;
	case END_EXIT: snprintf(end->text, size, "processor %u: an access that the client must perform", end->vcpu); break;
	default: break;
	}
}

void machine_end(struct machine *machine, enum machine_end_reason reason, uint64_t value)
{
	if (machine->ended)
		return;
	struct machine_end end = {.reason = reason, .exit_status = ends[reason].exit_status, .vcpu = last_vcpu(machine), .value = value};
	if (reason == END_DEBUG_EXIT)
		end.exit_status = (int)((value << 1 | 1) & 0xff);
	describe(machine, &end);
	machine->end = end;
	machine->ended = true;
	machine_cut_turn(machine);
}

void machine_end_bug(struct machine *machine, const char *file, int line, const char *what)
{
	struct machine_end end = {.reason = END_BUG, .exit_status = ends[END_BUG].exit_status, .vcpu = last_vcpu(machine)};
	if (machine->running && machine->running->v->mxcsr_in_host)
		mxcsr_leave(machine->running->v); /* the caller goes on and has numbers of its own */
	snprintf(end.text, sizeof(end.text), "a bug in umbra, please report it: %s:%d: %s", file, line, what);
	machine->end = end;
	machine->ended = machine->dead = true;
	machine_cut_turn(machine);
}
