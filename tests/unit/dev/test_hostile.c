/* Whatever a guest writes to the devices, nothing reads outside, overflows, or keeps the machine busy for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "dev/ferr.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/pci.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/port92.h"
#include "dev/post.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "dev/vga_text.h"

static int ack_pic(void *opaque)
{
	return pic_ack(opaque);
}

static unsigned expiries;

static void count_rearmed(void *opaque)
{
	expiries++;
}

static void test_random_accesses(void **state)
{
	static struct testdev testdev;
	struct clock clock;
	struct lapic_set set;
	struct lapic_cpu_ops none = { 0 };
	struct lapic lapics[2];
	struct ioapic ioapic;
	struct pic pic;
	struct pit pit;
	struct rtc rtc;
	struct pm pm;
	struct uart uart;
	struct vga_text vga;
	struct i8042 keyboard;
	struct port92 port92;
	struct pci pci;
	struct fw_cfg fw_cfg;
	struct hpet hpet;
	struct ferr ferr = {.level = false};
	struct post post = {.code = 0};
	struct bus bus;
	clock_init(&clock);
	clock.rearmed = count_rearmed;
	lapic_set_init(&set);
	ioapic_init(&ioapic, &set);
	pic_init(&pic);
	set.eoi = ioapic_eoi;
	set.eoi_opaque = &ioapic;
	set.extint_ack = ack_pic;
	set.extint_opaque = &pic;
	for (unsigned i = 0; i < 2; i++)
		assert_true(lapic_init(&lapics[i], &set, &clock, &none, NULL, i, i == 0));
	pic.intr = (struct irq_line){ lapic_lint0_line, &lapics[0], 0, false };
	pit_init(&pit, &clock);
	pit.irq = (struct irq_line){ pic_set_line, &pic, 0, false };
	rtc_init(&rtc, &clock, RTC_EPOCH_2000);
	rtc.irq = (struct irq_line){ pic_set_line, &pic, 8, false };
	pm_init(&pm, &clock, NULL, NULL);
	pm.sci = (struct irq_line){ ioapic_set_pin, &ioapic, 9, false };
	uart_init(&uart, NULL, NULL);
	vga_text_init(&vga, &clock);
	i8042_init(&keyboard, NULL, NULL, NULL);
	port92_init(&port92, NULL, NULL, NULL);
	pci_init(&pci, NULL, NULL);
	hpet_init(&hpet, &clock, NULL, NULL);
	for (unsigned i = 0; i < HPET_TIMERS; i++)
		hpet.timers[i].irq = (struct irq_line){ ioapic_set_pin, &ioapic, 0, false };
	ferr.irq = (struct irq_line){ pic_set_line, &pic, 13, false };
	testdev_init(&testdev);
	for (unsigned i = 0; i < 24; i++)
		testdev.irq[i] = (struct irq_line){ ioapic_set_pin, &ioapic, i, false };
	assert_true(fw_cfg_init(&fw_cfg, 1 << 20, 2, 2));
	bus_init(&bus);
	const struct { unsigned base, length; const struct bus_ops *ops; void *opaque; } ranges[] = {
		{ 0x20, 2, &pic_master_ops, &pic }, { 0xa0, 2, &pic_slave_ops, &pic }, { 0x4d0, 2, &pic_elcr_ops, &pic },
		{ 0x40, 4, &pit_ops, &pit }, { 0x61, 1, &pit_speaker_ops, &pit }, { 0x70, 2, &rtc_ops, &rtc },
		{ 0x600, 16, &pm_ops, &pm }, { 0x3f8, 8, &uart_ops, &uart }, { 0x3c0, 32, &vga_text_ops, &vga },
		{ 0x60, 1, &i8042_data_ops, &keyboard }, { 0x64, 1, &i8042_command_ops, &keyboard },
		{ 0x92, 1, &port92_ops, &port92 }, { 0xcf8, 8, &pci_ops, &pci }, { 0x510, 2, &fw_cfg_ops, &fw_cfg },
		{ 0xe0, 4, &testdev_latch_ops, &testdev }, { 0xe4, 4, &testdev_flush_ops, &testdev },
		{ 0xe8, 4, &testdev_byte_latch_ops, &testdev }, { 0x2000, 24, &testdev_irq_ops, &testdev },
		{ 0x100000, 0x1000, &lapic_ops, &lapics[0] }, { 0x200000, 0x1000, &lapic_ops, &lapics[1] },
		{ 0x80, 1, &post_ops, &post }, { 0xf0, 2, &ferr_ops, &ferr },
		{ 0x500000, HPET_SIZE, &hpet_ops, &hpet }, { 0x500400, HPET_SIZE, &hpet_ops, &hpet },
		{ 0x300000, 0x1000, &ioapic_ops, &ioapic }, { 0x400000, 0x10000, &testdev_memory_ops, &testdev },
	};
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		assert_true(bus_add(&bus, ranges[i].base, ranges[i].length, ranges[i].ops, ranges[i].opaque, "x"));
	uint64_t seed = 42;
	for (unsigned step = 0; step < 600000; step++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t r = hash_mix(seed), value = hash_mix(r), got;
		const size_t which = r % ARRAY_LEN(ranges);
		uint64_t offset = (r >> 8) % ranges[which].length;
		unsigned size = 1u << (r >> 40 & 3);
		if (ranges[which].length == 0x1000 && r >> 50 & 1) {
			offset &= 0xff0;
			size = 4;
		}
		/* The HPET: registers that exist, in the sizes that they take, with comparators near the counter. */
		if (ranges[which].ops == &hpet_ops && r >> 50 & 1) {
			static const uint16_t registers[] = { 0x10, 0x20, 0xf0, 0x100, 0x108, 0x120, 0x128, 0x140, 0x148, 0x14c };
			offset = registers[offset % ARRAY_LEN(registers)];
			size = offset & 4 || r >> 49 & 1 ? 4 : 8;
			if ((offset & 8) && r >> 48 & 1)
				value = hpet_ops.read(&hpet, 0xf0, 8) + (value & 0xfff);
		}
		if (r >> 51 & 1)
			value &= 0xff;
		if (r >> 52 & 1)
			assert_true(bus_write(&bus, ranges[which].base + offset, size, value));
		else
			assert_true(bus_read(&bus, ranges[which].base + offset, size, &got));
		switch (r >> 53 & 31) {
		case 0: clock.base += r >> 44 & 0xfff; break;
		case 1: clock.base += (r >> 20) % (CLOCK_HZ * 10); break;
		case 2: lapic_write_base(&lapics[step & 1], (value & 0xfee00fffull) | (step & 2 ? 0xc00 : 0x800)); break;
		case 3: lapic_write_msr(&lapics[step & 1], 0x800 + (r >> 30 & 0x3f), value); break;
		case 4: lapic_write_tsc_deadline(&lapics[step & 1], value >> (r & 63)); break;
		case 5: uart_receive(&uart, (uint8_t)r); break;
		case 10: ferr_set(&ferr, r & 1); break;
		case 6: lapic_receive_init(&lapics[step & 1]); break;
		case 7: case 8: case 9:
			if (lapic_has_intr(&lapics[step & 1]))
				assert_in_range(lapic_ack(&lapics[step & 1]), 0, 255);
			break;
		}
		expiries = 0;
		clock_run_due(&clock);
		/* Each timer runs about once, however much time passed. */
		assert_true(expiries < 20);
	}
	lapic_finish(&lapics[0]);
	lapic_finish(&lapics[1]);
	pit_finish(&pit);
	rtc_finish(&rtc);
	pm_finish(&pm);
	hpet_finish(&hpet);
	fw_cfg_finish(&fw_cfg);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_accesses) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
