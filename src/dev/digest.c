/* What of each device goes into a digest, see digest.h: field by field, since padding has no defined value. */
#include "dev/digest.h"

/* ---- interrupt controllers ---------------------------------------------------------------------------------------------- */

void pic_digest(const struct pic *pic, struct digest *digest)
{
	_Static_assert(sizeof(struct pic_chip) == 18, "bytes and flags alone, without padding");
	DIGEST(digest, pic->chips);
}

void ioapic_digest(const struct ioapic *ioapic, struct digest *digest)
{
	DIGEST(digest, ioapic->id);
	DIGEST(digest, ioapic->select);
	DIGEST(digest, ioapic->lines);
	DIGEST(digest, ioapic->entries);
}

static void lapic_registers(const struct lapic *lapic, struct digest *digest)
{
	const uint32_t registers[] = {
		lapic->initial_id, lapic->xapic_id, lapic->tpr, lapic->ldr, lapic->dfr, lapic->svr, lapic->esr, lapic->esr_pending,
		lapic->icr_low, lapic->icr_high, lapic->timer_initial, lapic->timer_divide, lapic->extint_latched, lapic->timer_running,
	};
	DIGEST(digest, registers);
	DIGEST(digest, lapic->lvt);
	DIGEST(digest, lapic->irr);
	DIGEST(digest, lapic->isr);
	DIGEST(digest, lapic->tmr);
	DIGEST(digest, lapic->lint_level);
}

void lapic_digest(const struct lapic *lapic, struct digest *digest)
{
	DIGEST(digest, lapic->base);
	lapic_registers(lapic, digest);
	digest_number(digest, lapic->timer_running ? lapic->timer_deadline : 0);
	DIGEST(digest, lapic->tsc_deadline);
}

/* ---- timers ------------------------------------------------------------------------------------------------------------- */

static void timer_digest(const struct timer *timer, struct digest *digest)
{
	digest_number(digest, timer->armed ? timer->deadline : CLOCK_NEVER);
}

static void pit_counter_digest(const struct pit_counter *counter, struct digest *digest)
{
	const uint64_t values[] = {
		counter->mode, counter->access, counter->bcd, counter->gate, counter->programmed, counter->loaded, counter->triggered,
		counter->running, counter->count, counter->running ? counter->start : counter->elapsed, counter->next_count,
		counter->next_count ? counter->switch_at : 0, counter->low_byte, counter->have_low_byte, counter->read_high_next,
		counter->count_latched, counter->status_latched, counter->latched_count, counter->latched_status,
	};
	DIGEST(digest, values);
}

void pit_digest(const struct pit *pit, struct digest *digest)
{
	for (unsigned n = 0; n < ARRAY_LEN(pit->counters); n++)
		pit_counter_digest(&pit->counters[n], digest);
	DIGEST(digest, pit->speaker);
	timer_digest(&pit->timer, digest);
}

void hpet_digest(const struct hpet *hpet, struct digest *digest)
{
	const uint64_t values[] = {hpet->config, hpet->status, hpet->counter, hpet->since};

	DIGEST(digest, values);
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		const struct hpet_timer *timer = &hpet->timers[n];
		const uint64_t state[] = {timer->config, timer->comparator, timer->period, timer->seen, timer->irq.level};
		DIGEST(digest, state);
		timer_digest(&timer->timer, digest);
	}
}

void rtc_digest(const struct rtc *rtc, struct digest *digest)
{
	const uint64_t values[] = {(uint64_t)rtc->seconds, rtc->since, rtc->seen_seconds, rtc->seen_periods, rtc->index};

	DIGEST(digest, values);
	DIGEST(digest, rtc->ram);
	timer_digest(&rtc->timer, digest);
}

void pm_digest(const struct pm *pm, struct digest *digest)
{
	const uint64_t values[] = {pm->status, pm->enable, pm->control, pm->seen_toggles, pm->apm[0], pm->apm[1]};

	DIGEST(digest, values);
	timer_digest(&pm->timer, digest);
}

/* ---- consoles and the rest ---------------------------------------------------------------------------------------------- */

void uart_digest(const struct uart *uart, struct digest *digest)
{
	const uint8_t values[] = {
		uart->ier, uart->fcr, uart->lcr, uart->mcr, uart->lsr_errors, uart->msr_lines, uart->msr_delta, uart->scratch,
		uart->divisor[0], uart->divisor[1], uart->thr_empty_pending,
	};
	DIGEST(digest, values);
	digest_number(digest, uart->fifo_count);
	for (unsigned n = 0; n < uart->fifo_count; n++)
		digest_number(digest, uart->fifo[(uart->fifo_head + n) % UART_FIFO_SIZE]);
}

void vga_text_digest(const struct vga_text *vga, struct digest *digest)
{
	const uint32_t values[] = {
		vga->attribute_index, vga->sequencer_index, vga->graphics_index, vga->crtc_index, vga->attribute_is_data, vga->misc,
		vga->feature, vga->dac_mask, vga->dac_state, vga->dac_read, vga->dac_write,
	};
	DIGEST(digest, values);
	DIGEST(digest, vga->attribute);
	DIGEST(digest, vga->sequencer);
	DIGEST(digest, vga->graphics);
	DIGEST(digest, vga->crtc);
	DIGEST(digest, vga->dac);
}

void i8042_digest(const struct i8042 *device, struct digest *digest)
{
	const struct ps2_keyboard *keyboard = &device->keyboard;
	const struct ps2_mouse *mouse = &device->mouse;
	const uint8_t values[] = {
		device->config, device->output_port, device->last_was_command, device->command, keyboard->command, keyboard->scancode_set,
		keyboard->last, mouse->command, mouse->resolution, mouse->rate, mouse->doubled, mouse->remote, mouse->reporting,
		mouse->wrap, mouse->last, device->output,
	};
	DIGEST(digest, values);
	DIGEST(digest, device->ram);
	digest_number(digest, device->queue_count);
	for (unsigned n = 0; n < device->queue_count; n++) {
		const struct i8042_byte *byte = &device->queue[(device->queue_head + n) % I8042_QUEUE_SIZE];
		digest_number(digest, byte->value | (unsigned)byte->is_mouse << 8);
	}
}

void pci_digest(const struct pci *device, struct digest *digest)
{
	DIGEST(digest, device->address);
	DIGEST(digest, device->reset_control);
}

void fw_cfg_digest(const struct fw_cfg *device, struct digest *digest)
{
	digest_number(digest, device->selected ? device->selected->key : UINT64_MAX);
	digest_number(digest, device->offset);
}

void testdev_digest(const struct testdev *device, struct digest *digest)
{
	for (unsigned n = 0; n < TESTDEV_IRQ_LINES; n++)
		digest_number(digest, device->irq[n].level);
	DIGEST(digest, device->latch);
	DIGEST(digest, device->byte_latch);
	DIGEST(digest, device->memory);
}
