/*
 * ACPI specification, "ACPI Hardware Specification": PM1 status, enable and control registers, PM timer. There is no legacy
 * mode, so SCI_EN is always set.
 */
#include "dev/pm.h"

#include <string.h>

#include "dev/port.h"

#define TIMER_STATUS 0x0001u
#define POWER_BUTTON 0x0100u
#define STATUS_CLEARABLE 0x8731u
#define ENABLE_DEFINED 0x0721u
#define CONTROL_SCI_EN 0x0001u
#define CONTROL_STORED 0x1c03u
#define CONTROL_SLEEP_ENABLE 0x2000u

static uint64_t timer_value(const struct pm *pm)
{
	return clock_scale(clock_now(pm->clock), PM_TIMER_HZ, CLOCK_HZ);
}

/* The status bit is set whenever bit 31 of the timer changes. */
static void look(struct pm *pm)
{
	uint64_t toggles = timer_value(pm) >> 31;

	if (toggles != pm->seen_toggles)
		pm->status |= TIMER_STATUS;
	pm->seen_toggles = toggles;
	irq_set(&pm->sci, pm->status & pm->enable);
	if (pm->enable & TIMER_STATUS) {
		unsigned __int128 ticks = ((unsigned __int128)(toggles + 1) << 31) * CLOCK_HZ + PM_TIMER_HZ - 1;
		timer_set(pm->clock, &pm->timer, (uint64_t)(ticks / PM_TIMER_HZ));
	} else {
		timer_cancel(&pm->timer);
	}
}

static void expired(void *opaque)
{
	look(opaque);
}

void pm_power_button(struct pm *pm)
{
	pm->status |= POWER_BUTTON;
	look(pm);
}

static uint64_t pm_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pm *pm = opaque;
	uint8_t bytes[PM_PORTS + 8] = { 0 };
	uint32_t ticks = (uint32_t)timer_value(pm);
	uint64_t value = 0;

	look(pm);
	for (unsigned i = 0; i < 2; i++) {
		bytes[PM_EVENT_OFFSET + i] = (uint8_t)(pm->status >> (8 * i));
		bytes[PM_EVENT_OFFSET + 2 + i] = (uint8_t)(pm->enable >> (8 * i));
		bytes[PM_CONTROL_OFFSET + i] = (uint8_t)(pm->control >> (8 * i));
	}
	for (unsigned i = 0; i < 4; i++)
		bytes[PM_TIMER_OFFSET + i] = (uint8_t)(ticks >> (8 * i));
	for (unsigned i = 0; i < size && offset + i < PM_PORTS; i++)
		value |= (uint64_t)bytes[offset + i] << (8 * i);
	return value;
}

static void write_control(struct pm *pm, unsigned byte, uint8_t value)
{
	unsigned shift = 8 * byte;
	unsigned wanted = (pm->control & ~(0xffu << shift)) | (unsigned)value << shift;

	pm->control = (uint16_t)((wanted & CONTROL_STORED) | CONTROL_SCI_EN);
	/* Other sleeping states are not offered, and asking for them does nothing. */
	if ((wanted & CONTROL_SLEEP_ENABLE) && (wanted >> 10 & 7) == PM_SLEEP_TYPE_S5 && pm->power_off)
		pm->power_off(pm->opaque);
}

static void write_byte(void *opaque, unsigned offset, uint8_t value)
{
	struct pm *pm = opaque;
	unsigned shift = 8 * (offset & 1);

	switch (offset) {
	case PM_EVENT_OFFSET: case PM_EVENT_OFFSET + 1:
		pm->status &= (uint16_t)~((unsigned)value << shift & STATUS_CLEARABLE);
		break;
	case PM_EVENT_OFFSET + 2: case PM_EVENT_OFFSET + 3:
		pm->enable = (uint16_t)(((pm->enable & ~(0xffu << shift)) | (unsigned)value << shift) & ENABLE_DEFINED);
		break;
	case PM_CONTROL_OFFSET: case PM_CONTROL_OFFSET + 1:
		write_control(pm, offset & 1, value);
		break;
	}
}

static void pm_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	look(opaque);
	port_write_bytes(write_byte, opaque, offset, size, value);
	look(opaque);
}

const struct bus_ops pm_ops = { pm_read, pm_write };

/* ---- the APM port --------------------------------------------------------------------------------------------------------- */

static uint8_t apm_read_byte(void *opaque, unsigned offset)
{
	const struct pm *pm = opaque;
	return pm->apm[offset % APM_PORTS];
}

/* The byte stays to be read by the handler, which learns from it what is asked for. */
static void apm_write_byte(void *opaque, unsigned offset, uint8_t value)
{
	struct pm *pm = opaque;

	pm->apm[offset % APM_PORTS] = value;
	if (offset == 0 && pm->smi)
		pm->smi(pm->opaque);
}

static uint64_t apm_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(apm_read_byte, opaque, offset, size);
}

static void apm_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(apm_write_byte, opaque, offset, size, value);
}

const struct bus_ops apm_ops = { apm_read, apm_write };

void pm_init(struct pm *pm, struct clock *clock, void (*power_off)(void *), void *opaque)
{
	memset(pm, 0, sizeof(*pm));
	pm->clock = clock;
	pm->power_off = power_off;
	pm->opaque = opaque;
	timer_init(&pm->timer, expired, pm);
	pm_reset(pm);
}

void pm_finish(struct pm *pm)
{
	timer_cancel(&pm->timer);
}

void pm_reset(struct pm *pm)
{
	pm->status = pm->enable = 0;
	pm->control = CONTROL_SCI_EN;
	memset(pm->apm, 0, sizeof(pm->apm));
	pm->seen_toggles = timer_value(pm) >> 31;
	timer_cancel(&pm->timer);
	irq_set(&pm->sci, false);
}

void pm_state(struct pm *pm, struct pack *pack)
{
	PACK(pack, pm->status);
	PACK(pack, pm->enable);
	PACK(pack, pm->control);
	PACK(pack, pm->seen_toggles);
	PACK(pack, pm->sci.level);
	PACK_EACH(pack, pm->apm);
	pack_check(pack, !(pm->status & ~STATUS_CLEARABLE) && !(pm->enable & ~ENABLE_DEFINED), "pm: events");
	pack_check(pack, (pm->control & CONTROL_SCI_EN) && !(pm->control & ~(CONTROL_STORED | CONTROL_SCI_EN)), "pm: control");
	pack_check(pack, pm->seen_toggles <= timer_value(pm) >> 31, "pm: the timer was seen in the future");
}
