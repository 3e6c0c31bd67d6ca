/*
 * What stands in the sections of a snapshot, but for memory: one function a section, for both directions (base/pack.h). Each device and
 * each processor knows its own state; here is what lies between them.
 */
#include <string.h>

#include "cpu/state.h"
#include "svm/svm.h"
#include "vm/board.h"
#include "vm/snapshot.h"

/* Time ends before numbers of ticks overflow: 73 years of the machine's clock. */
#define TICKS_MAX (1ull << 62)
#define TIMERS_MAX (6u + MACHINE_MAX_CPUS)

/* ---- config ------------------------------------------------------------------------------------------------------------- */

void snapshot_config_of(const struct machine *machine, struct snapshot_config *ret_config)
{
	const struct machine_config *config = &machine->config;
	struct strbuf text;

	*ret_config = (struct snapshot_config){
		.memory = config->board ? config->memory : 0, .cpus = machine->count, .board = config->board,
		.debug_exit = config->debug_exit, .unclaimed_exits = config->unclaimed_exits, .host_fpu = config->host_fpu,
		.smram = (uint8_t)config->smram, .rtc_seconds = config->rtc_seconds,
	};
	strbuf_init(&text);
	cpu_model_text(&machine->model, &text);
	size_t length = MIN(strlen(strbuf_text(&text)), sizeof(ret_config->cpu) - 1);
	memcpy(ret_config->cpu, strbuf_text(&text), length);
	strbuf_finish(&text);
}

/* What a tick is, and how turns are cut: a machine that reckoned otherwise would not go on as it did. */
static void constants_state(struct pack *pack)
{
	static const uint64_t constants[] = {
		CLOCK_HZ, CLOCK_TICKS_PER_INSTRUCTION, PAUSE_TICKS, RUN_TURN_MAX, LONE_TURN_MAX, LAPIC_BUS_HZ, PIT_HZ, HPET_HZ, PM_TIMER_HZ,
	};
	for (unsigned n = 0; n < ARRAY_LEN(constants); n++) {
		uint64_t value = constants[n];
		PACK(pack, value);
		pack_check(pack, value == constants[n], "time passes at another rate in this version of umbra");
	}
}

/* Names of models and features have letters, digits and signs; errors repeat them. */
static bool is_plain(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

void snapshot_config_state(struct snapshot_config *config, struct pack *pack)
{
	pack_text(pack, config->cpu, sizeof(config->cpu));
	pack_check(pack, is_plain(config->cpu), "the processor's name is no name");
	PACK(pack, config->memory);
	PACK(pack, config->cpus);
	PACK(pack, config->board);
	PACK(pack, config->debug_exit);
	PACK(pack, config->unclaimed_exits);
	PACK(pack, config->host_fpu);
	PACK(pack, config->smram);
	PACK(pack, config->rtc_seconds);
	constants_state(pack);
}

/* ---- machine ------------------------------------------------------------------------------------------------------------ */

void snapshot_machine_state(struct machine *machine, struct pack *pack)
{
	PACK(pack, machine->clock.base);
	PACK(pack, machine->instructions);
	PACK(pack, machine->next);
	PACK(pack, machine->powered_off);
	PACK(pack, machine->broken_turn.vcpu);
	PACK(pack, machine->broken_turn.left);
	PACK(pack, machine->broken_turn.began);
	pack_check(pack, machine->clock.base <= TICKS_MAX && machine->instructions <= TICKS_MAX, "the clock has run for too long");
	pack_check(pack, machine->next < machine->count && machine->broken_turn.vcpu < machine->count, "there is no such processor");
	pack_check(pack, machine->broken_turn.left <= LONE_TURN_MAX && machine->broken_turn.began <= machine->instructions,
		   "a turn cannot be so long");
}

/* ---- cpu ---------------------------------------------------------------------------------------------------------------- */

void snapshot_cpu_state(struct machine_cpu *cpu, struct pack *pack)
{
	bool has_lapic = cpu->lapic;

	pack_check(pack, !cpu->answer_wanted, "an access waits for the client's answer; run on, or set the registers");
	vcpu_state(cpu->v, pack);
	svm_state(cpu->v, pack);
	PACK(pack, cpu->interrupt);
	PACK(pack, cpu->cr8);
	PACK(pack, cpu->tsc_offset);
	PACK(pack, has_lapic);
	pack_check(pack, cpu->interrupt >= -1 && cpu->interrupt <= 255 && cpu->cr8 <= 15, "an interrupt or a priority that cannot be");
	if (pack_check(pack, has_lapic == !!cpu->lapic, "with an APIC where there is none") && cpu->lapic)
		lapic_state(cpu->lapic, pack);
}

/* ---- board -------------------------------------------------------------------------------------------------------------- */

static void lines_state(struct board *board, struct pack *pack)
{
	for (unsigned n = 0; n < BOARD_LINES; n++)
		PACK(pack, board->client_lines[n].level);
	PACK(pack, board->lapic_set.next_lowest);
	PACK(pack, board->input_byte);
	pack_check(pack, board->lapic_set.next_lowest < board->machine->count, "there is no such processor");
	pack_check(pack, board->input_byte >= MACHINE_INPUT_NONE && board->input_byte <= 255, "a byte that waits is none");
}

void snapshot_board_state(struct machine *machine, struct pack *pack)
{
	struct board *board = machine->board;

	if (!board)
		return;
	pic_state(&board->pic, pack);
	ioapic_state(&board->ioapic, pack);
	pit_state(&board->pit, pack);
	hpet_state(&board->hpet, pack);
	rtc_state(&board->rtc, pack);
	pm_state(&board->pm, pack);
	uart_state(&board->uart, pack);
	vga_text_state(&board->vga, pack);
	i8042_state(&board->i8042, pack);
	pci_state(&board->pci, pack);
	fw_cfg_state(&board->fw_cfg, pack);
	testdev_state(&board->testdev, pack);
	port92_state(&board->port92, pack);
	ferr_state(&board->ferr, pack);
	post_state(&board->post, pack);
	lines_state(board, pack);
}

/* What the gates show, from the device behind and whether the HPET stands in for it. */
static void derive_gate(struct board_gate *gate, const struct irq_line *device, bool blocked)
{
	gate->level = device->level;
	gate->blocked = blocked;
	gate->line.level = device->level && !blocked;
}

static void count_users(struct board *board)
{
	const struct irq_line *fixed[] = {
		&board->pit_gate.line, &board->rtc_gate.line, &board->i8042.irq, &board->i8042.mouse_irq, &board->uart.irq,
		&board->ferr.irq, &board->pm.sci, &board->hpet.timers[0].irq, &board->hpet.timers[1].irq, &board->hpet.timers[2].irq,
	};
	_Static_assert(HPET_TIMERS == 3, "all timers are there");

	memset(board->line_users, 0, sizeof(board->line_users));
	for (unsigned n = 0; n < ARRAY_LEN(fixed); n++)
		if (fixed[n]->level)
			board->line_users[fixed[n]->pin]++;
	for (unsigned n = 0; n < TESTDEV_IRQ_LINES; n++)
		board->line_users[n] += board->testdev.irq[n].level;
	for (unsigned n = 0; n < BOARD_LINES; n++)
		board->line_users[n] += board->client_lines[n].level;
}

/* ---- timers ------------------------------------------------------------------------------------------------------------- */

static unsigned list_timers(struct machine *machine, struct timer *ret_timers[TIMERS_MAX])
{
	struct board *board = machine->board;
	unsigned count = 0;

	if (!board)
		return 0;
	ret_timers[count++] = &board->pit.timer;
	ret_timers[count++] = &board->rtc.timer;
	ret_timers[count++] = &board->pm.timer;
	for (unsigned n = 0; n < HPET_TIMERS; n++)
		ret_timers[count++] = &board->hpet.timers[n].timer;
	for (unsigned n = 0; n < machine->count; n++)
		ret_timers[count++] = &board->lapics[n].timer;
	return count;
}

/* Those that are armed, in the order in which they expire: equal deadlines keep the order in which they were set. */
static void save_timers(struct machine *machine, struct pack *pack, struct timer *timers[], uint32_t count)
{
	const struct list *head = &machine->clock.timers;

	for (const struct list *link = head->next; link != head; link = link->next) {
		struct timer *timer = list_entry(link, struct timer, link);
		uint32_t number = 0;
		while (number < count && timers[number] != timer)
			number++;
		pack_check(pack, number < count, "a timer that belongs to nobody");
		PACK(pack, number);
		PACK(pack, timer->deadline);
	}
}

static void load_timers(struct machine *machine, struct pack *pack, struct timer *timers[], uint32_t count, uint32_t armed)
{
	uint64_t deadline, last = 0;
	uint32_t number;

	for (uint32_t n = 0; n < count; n++)
		timer_cancel(timers[n]);
	pack_check(pack, armed <= count, "more timers than there are");
	for (uint32_t n = 0; n < armed && !pack->failed; n++) {
		PACK(pack, number);
		PACK(pack, deadline);
		if (!pack_check(pack, number < count && !timers[number]->armed, "a timer that does not exist, or twice") ||
		    !pack_check(pack, deadline >= last && deadline != CLOCK_NEVER, "timers that are out of order"))
			return;
		timer_set(&machine->clock, timers[number], deadline);
		last = deadline;
	}
}

void snapshot_timers_state(struct machine *machine, struct pack *pack)
{
	struct timer *timers[TIMERS_MAX];
	uint32_t count = list_timers(machine, timers), armed = 0;

	for (const struct list *link = machine->clock.timers.next; link != &machine->clock.timers; link = link->next)
		armed++;
	PACK(pack, armed);
	if (pack->loading)
		load_timers(machine, pack, timers, count, armed);
	else
		save_timers(machine, pack, timers, count);
}

/* ---- after loading ------------------------------------------------------------------------------------------------------ */

void snapshot_loaded(struct machine *machine)
{
	struct board *board = machine->board;

	for (unsigned n = 0; n < machine->count; n++) {
		vcpu_state_loaded(machine->cpus[n].v);
		svm_state_loaded(machine->cpus[n].v);
	}
	if (!board)
		return;
	bool replaced = hpet_replaces_legacy(&board->hpet);
	derive_gate(&board->pit_gate, &board->pit.irq, replaced);
	derive_gate(&board->rtc_gate, &board->rtc.irq, replaced);
	count_users(board);
}
