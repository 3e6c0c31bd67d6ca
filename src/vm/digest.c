/* A digest of the whole machine: clock, memory, processors, board. cpu/digest.c and dev/digest.c know what belongs to each. */
#include "dev/digest.h"
#include "svm/svm.h"
#include "vm/board.h"
#include "vm/vm.h"

static void memory_digest(const struct mem_space *space, struct digest *digest)
{
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
		for (unsigned n = 0; n < space->slot_count[as_id]; n++) {
			const struct mem_slot *slot = space->slots[as_id][n];
			const uint64_t place[] = {as_id, slot->gpa, slot->size, slot->flags};
			DIGEST(digest, place);
			digest_bytes(digest, slot->host, slot->size);
		}
	}
}

/* What a nested guest adds, as a snapshot has it. */
static void nested_digest(struct vcpu *v, struct digest *digest)
{
	struct pack pack;

	pack_save(&pack);
	svm_state(v, &pack);
	digest_bytes(digest, pack.bytes, pack.length);
	pack_finish(&pack);
}

static void cpu_digest(const struct machine_cpu *cpu, struct digest *digest)
{
	vcpu_digest(cpu->v, digest);
	if (cpu->v->guest_mode)
		nested_digest(cpu->v, digest);
	digest_number(digest, (uint64_t)cpu->interrupt);
	digest_number(digest, cpu->cr8);
	if (cpu->lapic)
		lapic_digest(cpu->lapic, digest);
}

static void lines_digest(const struct board *board, struct digest *digest)
{
	DIGEST(digest, board->line_users);
	for (unsigned n = 0; n < BOARD_LINES; n++)
		digest_number(digest, board->client_lines[n].level);
	const uint8_t gates[] = {
		board->pit_gate.level, board->pit_gate.blocked, board->rtc_gate.level, board->rtc_gate.blocked, board->ferr.level,
		board->ferr.irq.level,
	};
	DIGEST(digest, gates);
}

static void board_digest(const struct board *board, struct digest *digest)
{
	lines_digest(board, digest);
	digest_number(digest, board->lapic_set.next_lowest);
	pic_digest(&board->pic, digest);
	ioapic_digest(&board->ioapic, digest);
	pit_digest(&board->pit, digest);
	hpet_digest(&board->hpet, digest);
	rtc_digest(&board->rtc, digest);
	pm_digest(&board->pm, digest);
	uart_digest(&board->uart, digest);
	vga_text_digest(&board->vga, digest);
	i8042_digest(&board->i8042, digest);
	pci_digest(&board->pci, digest);
	fw_cfg_digest(&board->fw_cfg, digest);
	testdev_digest(&board->testdev, digest);
	DIGEST(digest, board->port92.value);
	DIGEST(digest, board->post.code);
	DIGEST(digest, board->input_byte);
}

uint64_t machine_digest(const struct machine *machine)
{
	struct digest digest;

	digest_init(&digest);
	DIGEST(&digest, machine->clock.base);
	DIGEST(&digest, machine->instructions);
	DIGEST(&digest, machine->next);
	DIGEST(&digest, machine->broken_turn.left);
	for (unsigned n = 0; n < machine->count; n++)
		cpu_digest(&machine->cpus[n], &digest);
	if (machine->board)
		board_digest(machine->board, &digest);
	memory_digest(&machine->space, &digest);
	return digest_value(&digest);
}
