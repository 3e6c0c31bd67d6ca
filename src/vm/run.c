/*
 * Turns: which processor runs, for how long, and what happens between. The order is the same on every host: round robin over the
 * processors that have work, turns of RUN_TURN_MAX instructions while there are several, and time that follows what was retired.
 * When nobody has work the clock jumps to the next timer.
 *
 * A client may hand in a clock of its own, for people who wait in front of the machine: time follows that clock then, and when
 * nobody has work the machine sleeps. Nothing of such a run can be repeated.
 *
 * A machine is dead when nothing inside it can wake a processor and nobody outside will type.
 */
#include "base/bug.h"
#include "vm/board.h"
#include "vm/vm.h"

/* Instructions between two looks at the client's limits, and between two looks at its input. */
#define EXPIRED_INTERVAL (1u << 20)
#define INPUT_INTERVAL (1u << 16)
/* What a jump of an idle machine counts as, in instructions, towards these intervals. */
#define IDLE_WEIGHT 256u
/* Timers that may pass without waking anybody before an idle machine counts as halted for ever. */
#define IDLE_JUMPS_MAX (1u << 20)

/* With a clock from outside, how many ticks an instruction is taken to last when the length of a turn is chosen. */
#define OUTSIDE_TICKS_PER_INSTRUCTION 32u
#define TICKS_PER_NANOSECOND (CLOCK_HZ / 1000000000u)

/* The state of one machine_run() or machine_run_cpu(). */
struct run {
	const struct machine_limits *limits;
	uint64_t instructions_end;
	uint64_t activity;                  /* instructions, and the weight of idle jumps */
	uint64_t expired_check, input_check;/* activity at which to look next */
	uint64_t checkpoint, save;          /* machine->instructions at which the client is to be called */
	unsigned idle_jumps;                /* since somebody had work */
	struct machine_cpu *cpu;            /* machine_run_cpu: the only one that runs */
};

/* ---- time --------------------------------------------------------------------------------------------------------------- */

static uint64_t turn_elapsed(void *opaque)
{
	const struct machine *machine = opaque;
	return CLOCK_TICKS_PER_INSTRUCTION * vcpu_turn_retired(machine->running->v);
}

static bool time_is_outside(const struct machine *machine)
{
	return machine->config.time != NULL;
}

/* The outside's ticks since the machine's last known time; none if its clock went back. */
static uint64_t outside_elapsed(void *opaque)
{
	const struct machine *machine = opaque;
	uint64_t now = machine->config.time(machine->config.opaque) * TICKS_PER_NANOSECOND - machine->outside_origin;
	int64_t elapsed = (int64_t)(now - machine->clock.base);
	return elapsed > 0 ? (uint64_t)elapsed : 0;
}

/* Between two runs time stands still. */
static void anchor_time(struct machine *machine)
{
	if (time_is_outside(machine))
		machine->outside_origin = machine->config.time(machine->config.opaque) * TICKS_PER_NANOSECOND - machine->clock.base;
}

static uint64_t ticks_per_instruction(const struct machine *machine)
{
	return time_is_outside(machine) ? OUTSIDE_TICKS_PER_INSTRUCTION : CLOCK_TICKS_PER_INSTRUCTION;
}

/* The clock after a turn in which so many instructions were retired. */
static void advance(struct machine *machine, uint64_t instructions)
{
	machine->clock.base += time_is_outside(machine) ? outside_elapsed(machine) : CLOCK_TICKS_PER_INSTRUCTION * instructions;
}

/* ---- waking and stopping ------------------------------------------------------------------------------------------------ */

void machine_cut_turn(struct machine *machine)
{
	if (!machine->running || machine->turn_cut)
		return;
	machine->turn_cut = true;
	vcpu_stop(machine->running->v);
	vcpu_kick(machine->running->v);
}

void machine_wake(struct machine_cpu *cpu)
{
	struct machine *machine = cpu->machine;
	if (machine->running == cpu)
		vcpu_kick(cpu->v);
	else if (!machine->running && machine->broken_turn.left > RUN_TURN_MAX && machine->broken_turn.vcpu != cpu->v->index)
		machine->broken_turn.left = 0; /* the rest of such a turn is not the client's to wait for */
	else if (machine->running && machine->turn_end - machine->clock.base > RUN_TURN_MAX * ticks_per_instruction(machine))
		machine_cut_turn(machine); /* a long turn was given because nobody else had work */
}

void machine_stop(struct machine *machine)
{
	machine->stop = 1;
	for (unsigned n = 0; n < machine->count; n++)
		vcpu_stop(machine->cpus[n].v);
}

void machine_answer(struct machine_cpu *cpu, uint64_t value)
{
	if (cpu->answer_wanted)
		vcpu_complete_io(cpu->v, value);
	cpu->answer_wanted = false;
}

static int64_t until_deadline(struct machine *machine, int64_t budget)
{
	uint64_t deadline = clock_next_deadline(&machine->clock), now = machine->clock.base;
	if (deadline == CLOCK_NEVER)
		return budget;
	if (deadline <= now)
		return 1;
	uint64_t pace = ticks_per_instruction(machine), instructions = (deadline - now + pace - 1) / pace;
	return instructions < (uint64_t)budget ? (int64_t)instructions : budget;
}

/* PAUSE lets time pass, but no further than the next timer. */
static void pass_pause(struct machine *machine)
{
	uint64_t deadline = clock_next_deadline(&machine->clock);
	uint64_t until = machine->clock.base + PAUSE_TICKS;

	if (time_is_outside(machine))
		return;
	machine->clock.base = deadline > machine->clock.base ? MIN(until, deadline) : machine->clock.base;
}

/* Whether nothing but a limit, or a call of machine_stop(), ended the turn. */
static bool was_broken_off(const struct machine *machine, const struct machine_cpu *cpu, uint64_t retired, uint64_t planned)
{
	bool over = machine->turn_cut || machine->ended || retired >= planned;
	return !over && (cpu->exit == RUN_STOPPED || (cpu->exit == RUN_BUDGET && !cpu->v->pause_requested));
}

/* What follows from a turn that is over: timers, the deadline timer of a guest that wrote its TSC. */
static void settle_turn(struct machine *machine, struct machine_cpu *cpu)
{
	if (cpu->exit == RUN_BUDGET && cpu->v->pause_requested)
		pass_pause(machine);
	if (cpu->lapic && cpu->tsc_offset != cpu->v->tsc_offset) {
		cpu->tsc_offset = cpu->v->tsc_offset;
		lapic_tsc_changed(cpu->lapic);
	}
	clock_run_due(&machine->clock);
}

/* One turn of `planned` instructions, of which at most `budget` now. */
static void take_turn(struct machine *machine, struct machine_cpu *cpu, uint64_t planned, uint64_t budget)
{
	struct vcpu *v = cpu->v;
	uint64_t before = v->instructions, began = machine->broken_turn.left ? machine->broken_turn.began : machine->instructions;

	machine->running = cpu;
	machine->turn_end = machine->clock.base + planned * ticks_per_instruction(machine);
	machine->turn_cut = false;
	machine->broken_turn.left = 0;
	machine->clock.elapsed = time_is_outside(machine) ? outside_elapsed : turn_elapsed;
	cpu->exit = vcpu_run(v, (int64_t)budget);
	machine->clock.elapsed = NULL;
	uint64_t retired = v->instructions - before;
	advance(machine, retired);
	machine->instructions += retired;
	if (cpu->exit == RUN_SHUTDOWN && !cpu->v->init_pending)
		machine_end(machine, END_TRIPLE_FAULT, 0);
	machine->end.vcpu = v->index;
	machine->running = NULL;
	cpu->answer_wanted = cpu->exit == RUN_IO || cpu->exit == RUN_MMIO;
	if (was_broken_off(machine, cpu, retired, planned)) {
		machine->broken_turn.vcpu = v->index;
		machine->broken_turn.left = planned - retired;
		machine->broken_turn.began = began;
	} else {
		settle_turn(machine, cpu);
	}
}

static bool was_stopped(struct machine *machine)
{
	if (!machine->stop)
		return false;
	machine->stop = 0;
	return true;
}

/* The next processor that has work, in turn; *ret_several: others have work too. */
static struct machine_cpu *choose(struct machine *machine, bool *ret_several)
{
	struct machine_cpu *chosen = NULL;

	*ret_several = false;
	for (unsigned n = 0; n < machine->count && !*ret_several; n++) {
		struct machine_cpu *cpu = &machine->cpus[(machine->next + n) % machine->count];
		if (!vcpu_has_work(cpu->v))
			continue;
		if (chosen)
			*ret_several = true;
		else
			chosen = cpu;
	}
	if (chosen)
		machine->next = (chosen->v->index + 1) % machine->count;
	return chosen;
}

/* Whether a timer or a byte from outside could reach a processor that waits. */
static bool can_be_woken(struct machine *machine)
{
	if (!machine->board)
		return false;
	if (board_nmi_possible(machine))
		return true;
	for (unsigned n = 0; n < machine->count; n++) {
		const struct vcpu *v = machine->cpus[n].v;
		if (v->halted && !v->wait_for_sipi && !v->shutdown && ((v->rflags & FLAG_IF) || (v->mwait && v->mwait_break)))
			return true;
	}
	return false;
}

/* Until the next timer, by the outside's clock, or until somebody types. */
static void sleep_outside(struct machine *machine, struct run *run, uint64_t deadline)
{
	uint64_t now = machine->clock.base + outside_elapsed(machine);

	if (deadline > now)
		machine->config.wait(machine->config.opaque, (deadline - now + TICKS_PER_NANOSECOND - 1) / TICKS_PER_NANOSECOND);
	board_poll_input(machine, false);
	advance(machine, 0);
	clock_run_due(&machine->clock);
	run->activity += EXPIRED_INTERVAL;
}

static void idle(struct machine *machine, struct run *run)
{
	uint64_t deadline = clock_next_deadline(&machine->clock);
	bool input = board_input_possible(machine);

	if (!can_be_woken(machine) || (!input && (deadline == CLOCK_NEVER || run->idle_jumps >= IDLE_JUMPS_MAX))) {
		machine_end(machine, END_HALTED, 0);
	} else if (deadline == CLOCK_NEVER) {
		board_poll_input(machine, true);
		advance(machine, 0);
		run->activity += EXPIRED_INTERVAL;
	} else if (time_is_outside(machine)) {
		sleep_outside(machine, run, deadline);
	} else {
		if (machine->clock.base < deadline)
			machine->clock.base = deadline;
		clock_run_due(&machine->clock);
		run->idle_jumps++;
		run->activity += IDLE_WEIGHT;
	}
}

/* The next multiple of the interval; UINT64_MAX: never. */
static uint64_t next_call(uint64_t instructions, uint64_t interval)
{
	return interval ? instructions - instructions % interval + interval : UINT64_MAX;
}

/* What became due in a turn that was broken off is called when that turn is over. */
static void set_calls(const struct machine *machine, struct run *run)
{
	uint64_t instructions = machine->broken_turn.left ? machine->broken_turn.began : machine->instructions;

	run->checkpoint = next_call(instructions, run->limits->checkpoint_interval);
	run->save = next_call(instructions, run->limits->save_interval);
}

/* What the client wants to be asked now and then. False: the run is out of time. */
static bool look_outside(struct machine *machine, struct run *run)
{
	if (machine->instructions >= run->checkpoint) {
		run->checkpoint = next_call(machine->instructions, run->limits->checkpoint_interval);
		run->limits->checkpoint(run->limits->opaque);
	}
	if (machine->instructions >= run->save) {
		run->save = next_call(machine->instructions, run->limits->save_interval);
		run->limits->save(run->limits->opaque);
	}
	if (run->activity >= run->input_check) {
		run->input_check = run->activity + INPUT_INTERVAL;
		board_poll_input(machine, false);
	}
	if (run->limits->expired && run->activity >= run->expired_check) {
		run->expired_check = run->activity + EXPIRED_INTERVAL;
		return !run->limits->expired(run->limits->opaque);
	}
	return machine->instructions < run->instructions_end;
}

static void give_turn(struct machine *machine, struct run *run, struct machine_cpu *cpu, uint64_t planned)
{
	uint64_t before = machine->instructions;

	take_turn(machine, cpu, planned, MIN(planned, run->instructions_end - before));
	run->activity += machine->instructions - before;
	run->idle_jumps = 0;
	if (cpu->exit == RUN_IO || cpu->exit == RUN_MMIO || cpu->exit == RUN_MEMORY_FAULT)
		machine_end(machine, END_EXIT, 0);
	if (cpu->exit == RUN_MEMORY_FAULT)
		machine->end.exit_status = ERR_INTERNAL;
}

/* The rest of a turn that was broken off. False: the limit is reached. */
static bool finish_turn(struct machine *machine, struct run *run)
{
	if (machine->instructions >= run->instructions_end)
		return false;
	give_turn(machine, run, &machine->cpus[machine->broken_turn.vcpu], machine->broken_turn.left);
	return true;
}

static void next_turn(struct machine *machine, struct run *run)
{
	bool several;
	struct machine_cpu *cpu = choose(machine, &several);

	if (cpu)
		give_turn(machine, run, cpu, (uint64_t)until_deadline(machine, several ? RUN_TURN_MAX : LONE_TURN_MAX));
	else
		idle(machine, run);
}

static void run_loop(struct machine *machine, struct run *run)
{
	while (!machine->ended) {
		if (was_stopped(machine)) {
			machine_end(machine, END_STOPPED, 0);
		} else if (machine->broken_turn.left) {
			if (!finish_turn(machine, run))
				machine_end(machine, END_TIMEOUT, 0);
		} else if (look_outside(machine, run)) {
			next_turn(machine, run);
		} else {
			machine_end(machine, END_TIMEOUT, 0);
		}
	}
}

/* Whether the machine is in a state that only a load (or a register write) leaves; the end of the last run stands. */
static bool stays_ended(struct machine *machine)
{
	if (machine->dead || machine->powered_off)
		return true;
	machine->ended = false;
	for (unsigned n = 0; n < machine->count; n++) {
		if (machine->cpus[n].v->shutdown && !machine->cpus[n].v->init_pending) {
			machine->end.vcpu = n;
			machine_end(machine, END_TRIPLE_FAULT, 0);
			return true;
		}
	}
	return false;
}

/* Calls body; a bug of ours in it leaves the machine dead and everything else in the process alive. */
static void run_guarded(struct machine *machine, struct run *run, void (*body)(struct machine *, struct run *))
{
	struct bug_trap trap;

	anchor_time(machine);
	bug_trap_arm(&trap);
	if (setjmp(trap.env)) {
		machine_end_bug(machine, trap.file, trap.line, trap.what);
		machine->running = NULL;
		machine->clock.elapsed = NULL;
		return;
	}
	body(machine, run);
	bug_trap_disarm(&trap);
}

static uint64_t instructions_end(const struct machine *machine, uint64_t instructions)
{
	bool unlimited = !instructions || instructions >= UINT64_MAX - machine->instructions;
	return unlimited ? UINT64_MAX : machine->instructions + instructions;
}

void machine_run(struct machine *machine, const struct machine_limits *limits)
{
	struct run run = {.limits = limits, .instructions_end = instructions_end(machine, limits->instructions)};

	if (stays_ended(machine))
		return;
	run.expired_check = EXPIRED_INTERVAL;
	set_calls(machine, &run);
	run_guarded(machine, &run, run_loop);
}

/* Turns of one processor until something is for the client. */
static void run_alone(struct machine *machine, struct run *run)
{
	struct machine_cpu *cpu = run->cpu;

	for (;;) {
		cpu->exit = RUN_STOPPED;
		if (was_stopped(machine))
			return;
		cpu->exit = RUN_BUDGET;
		if (machine->instructions >= run->instructions_end)
			return;
		uint64_t budget = MIN(run->instructions_end - machine->instructions, (uint64_t)LONE_TURN_MAX);
		budget = (uint64_t)until_deadline(machine, (int64_t)budget);
		take_turn(machine, cpu, budget, budget);
		machine->broken_turn.left = 0;
		bool goes_on = cpu->exit == RUN_STOPPED || (cpu->exit == RUN_BUDGET && !cpu->v->pause_requested);
		if (!goes_on || machine->ended)
			return;
	}
}

enum run_exit machine_run_cpu(struct machine *machine, unsigned index, uint64_t instructions)
{
	struct run run = {.cpu = &machine->cpus[index], .instructions_end = instructions_end(machine, instructions)};

	if (machine->dead || machine->powered_off) {
		machine->ended = true;
		return RUN_SHUTDOWN;
	}
	machine->ended = false;
	run_guarded(machine, &run, run_alone);
	return run.cpu->exit;
}
