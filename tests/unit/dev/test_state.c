/*
 * The state of each device: what is saved is what is loaded, into a fresh device; every prefix and everything behind is refused; and
 * whatever a hostile state can bring about by single changed bits, the device and its clock go on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dev/digest.h"
#include "dev/ferr.h"
#include "dev/port92.h"
#include "dev/post.h"

/* Every device, with a clock, in a world where nobody listens. */
struct world {
	struct clock clock;
	struct lapic_set set;
	struct lapic lapic;
	struct pic pic;
	struct ioapic ioapic;
	struct pit pit;
	struct hpet hpet;
	struct rtc rtc;
	struct pm pm;
	struct uart uart;
	struct vga_text vga;
	struct i8042 i8042;
	struct pci pci;
	struct fw_cfg fw_cfg;
	struct testdev testdev;
	struct port92 port92;
	struct ferr ferr;
	struct post post;
};

static const struct lapic_cpu_ops no_ops;

static struct world *create(void)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	clock_init(&world->clock);
	world->clock.base = 20000000000ull; /* ten seconds */
	lapic_set_init(&world->set);
	assert_true(lapic_init(&world->lapic, &world->set, &world->clock, &no_ops, NULL, 0, true));
	pic_init(&world->pic);
	ioapic_init(&world->ioapic, &world->set);
	pit_init(&world->pit, &world->clock);
	hpet_init(&world->hpet, &world->clock, NULL, NULL);
	rtc_init(&world->rtc, &world->clock, RTC_EPOCH_2000);
	pm_init(&world->pm, &world->clock, NULL, NULL);
	uart_init(&world->uart, NULL, NULL);
	vga_text_init(&world->vga, &world->clock);
	i8042_init(&world->i8042, NULL, NULL, NULL);
	pci_init(&world->pci, NULL, NULL);
	assert_true(fw_cfg_init(&world->fw_cfg, 1 << 24, 2, 2));
	testdev_init(&world->testdev);
	port92_init(&world->port92, NULL, NULL, NULL);
	return world;
}

static void destroy(struct world *world)
{
	lapic_finish(&world->lapic);
	pit_finish(&world->pit);
	hpet_finish(&world->hpet);
	rtc_finish(&world->rtc);
	pm_finish(&world->pm);
	fw_cfg_finish(&world->fw_cfg);
	free(world);
}

/* ---- one row a device --------------------------------------------------------------------------------------------------- */

struct write {
	const struct bus_ops *ops;
	unsigned at, size;
	uint64_t value;
};

#define ROW(name, field, ...)                                                                       \
	static void name##_pack(struct world *world, struct pack *pack)                             \
	{                                                                                           \
		name##_state(&world->field, pack);                                                  \
	}                                                                                           \
	static void name##_use(struct world *world)                                                 \
	{                                                                                           \
		static const struct write writes[] = __VA_ARGS__;                                   \
		for (unsigned n = 0; n < ARRAY_LEN(writes); n++)                                    \
			writes[n].ops->write(&world->field, writes[n].at, writes[n].size, writes[n].value); \
	}

ROW(pic, pic,
    {{&pic_master_ops, 0, 1, 0x11}, {&pic_master_ops, 1, 1, 0x20}, {&pic_master_ops, 1, 1, 4}, {&pic_master_ops, 1, 1, 1},
     {&pic_slave_ops, 1, 1, 0xa5}, {&pic_elcr_ops, 1, 1, 0x0c}})
ROW(ioapic, ioapic,
    {{&ioapic_ops, 0, 4, 0x12}, {&ioapic_ops, 0x10, 4, 0xa931}, {&ioapic_ops, 0, 4, 0x13}, {&ioapic_ops, 0x10, 4, 1u << 24}})
ROW(pit, pit,
    {{&pit_ops, 3, 1, 0x34}, {&pit_ops, 0, 1, 0x34}, {&pit_ops, 0, 1, 0x12}, {&pit_ops, 0, 1, 0x01},
     {&pit_speaker_ops, 0, 1, 3}, {&pit_ops, 3, 1, 0xb6}, {&pit_ops, 2, 1, 9}, {&pit_ops, 2, 1, 1}, {&pit_ops, 3, 1, 0xe8}})
ROW(hpet, hpet,
    {{&hpet_ops, 0x100, 8, 0x2004c}, {&hpet_ops, 0x108, 8, 5000}, {&hpet_ops, 0x108, 8, 700}, {&hpet_ops, 0x120, 8, 0x2e06},
     {&hpet_ops, 0x128, 8, 90}, {&hpet_ops, 0x10, 8, 3}})
ROW(rtc, rtc,
    {{&rtc_ops, 0, 1, 0x0a}, {&rtc_ops, 1, 1, 0x23}, {&rtc_ops, 0, 1, 0x0b}, {&rtc_ops, 1, 1, 0x72}, {&rtc_ops, 0, 1, 0x50},
     {&rtc_ops, 1, 1, 0x77}})
ROW(pm, pm, {{&pm_ops, 2, 2, 0x0101}, {&pm_ops, 4, 2, 0x1c00}})
ROW(uart, uart,
    {{&uart_ops, 2, 1, 0xc7}, {&uart_ops, 4, 1, 0x1b}, {&uart_ops, 0, 1, 'a'}, {&uart_ops, 0, 1, 'b'}, {&uart_ops, 1, 1, 3},
     {&uart_ops, 7, 1, 0x5a}})
ROW(vga_text, vga,
    {{&vga_text_ops, 0x14, 1, 0x0e}, {&vga_text_ops, 0x15, 1, 0x07}, {&vga_text_ops, 8, 1, 255}, {&vga_text_ops, 9, 1, 63},
     {&vga_text_ops, 9, 1, 1}})
ROW(i8042, i8042,
    {{&i8042_data_ops, 0, 1, 0xf2}, {&i8042_command_ops, 0, 1, 0xd4}, {&i8042_data_ops, 0, 1, 0xe9},
     {&i8042_data_ops, 0, 1, 0xf0}, {&i8042_command_ops, 0, 1, 0x60}})
ROW(pci, pci, {{&pci_ops, 0, 4, 0x80001234}, {&pci_ops, 1, 1, 2}})
ROW(fw_cfg, fw_cfg, {{&fw_cfg_ops, 0, 2, FW_CFG_RAM_SIZE}})
ROW(testdev, testdev,
    {{&testdev_latch_ops, 0, 4, 0x12345678}, {&testdev_irq_ops, 5, 1, 1},
     {&testdev_memory_ops, 0xfff0, 8, 0x1122334455667788}})
ROW(port92, port92, {{&port92_ops, 0, 1, 0x22}})
ROW(post, post, {{&post_ops, 0, 1, 0x99}})
ROW(lapic, lapic,
    {{&lapic_ops, 0xf0, 4, 0x1ff}, {&lapic_ops, 0x320, 4, 0x20030}, {&lapic_ops, 0x3e0, 4, 3},
     {&lapic_ops, 0x380, 4, 100000}, {&lapic_ops, 0x350, 4, 0x8055}, {&lapic_ops, 0x80, 4, 0x35}})

static void ferr_pack(struct world *world, struct pack *pack)
{
	ferr_state(&world->ferr, pack);
}

static void ferr_use(struct world *world)
{
	ferr_set(&world->ferr, true);
}

static void no_digest(const struct world *world, struct digest *digest)
{
	digest_number(digest, world->port92.value | (unsigned)world->post.code << 8 | (unsigned)world->ferr.level << 16 |
				      (unsigned)world->ferr.irq.level << 17);
}

#define DIGESTED(name, field)                                                                   \
	static void name##_take(const struct world *world, struct digest *digest)               \
	{                                                                                       \
		name##_digest(&world->field, digest);                                           \
	}
DIGESTED(pic, pic)
DIGESTED(ioapic, ioapic)
DIGESTED(lapic, lapic)
DIGESTED(uart, uart)
DIGESTED(vga_text, vga)
DIGESTED(i8042, i8042)
DIGESTED(pci, pci)
DIGESTED(fw_cfg, fw_cfg)
DIGESTED(testdev, testdev)
/* Timers are the machine's to load (vm/snapshot_machine.c). */
#define DIGESTED_WITHOUT(name, field, statement)                                                \
	static void name##_take(const struct world *world, struct digest *digest)               \
	{                                                                                       \
		struct world *copy = malloc(sizeof(*copy));                                     \
		assert_non_null(copy);                                                          \
		memcpy(copy, world, sizeof(*copy));                                             \
		statement;                                                                      \
		name##_digest(&copy->field, digest);                                            \
		free(copy);                                                                     \
	}
DIGESTED_WITHOUT(pit, pit, copy->pit.timer.armed = false)
DIGESTED_WITHOUT(rtc, rtc, copy->rtc.timer.armed = false)
DIGESTED_WITHOUT(pm, pm, copy->pm.timer.armed = false)
DIGESTED_WITHOUT(hpet, hpet, for (unsigned n = 0; n < HPET_TIMERS; n++) copy->hpet.timers[n].timer.armed = false)

static const struct row {
	const char *name;
	void (*pack)(struct world *, struct pack *);
	void (*use)(struct world *);
	void (*digest)(const struct world *, struct digest *);
} rows[] = {
	{"pic", pic_pack, pic_use, pic_take}, {"ioapic", ioapic_pack, ioapic_use, ioapic_take}, {"lapic", lapic_pack, lapic_use, lapic_take},
	{"pit", pit_pack, pit_use, pit_take}, {"hpet", hpet_pack, hpet_use, hpet_take}, {"rtc", rtc_pack, rtc_use, rtc_take},
	{"pm", pm_pack, pm_use, pm_take}, {"uart", uart_pack, uart_use, uart_take}, {"vga_text", vga_text_pack, vga_text_use, vga_text_take},
	{"i8042", i8042_pack, i8042_use, i8042_take}, {"pci", pci_pack, pci_use, pci_take}, {"fw_cfg", fw_cfg_pack, fw_cfg_use, fw_cfg_take},
	{"testdev", testdev_pack, testdev_use, testdev_take}, {"port92", port92_pack, port92_use, no_digest},
	{"post", post_pack, post_use, no_digest}, {"ferr", ferr_pack, ferr_use, no_digest},
};

static uint64_t digest_of(const struct row *row, const struct world *world)
{
	struct digest digest;

	digest_init(&digest);
	row->digest(world, &digest);
	return digest_value(&digest);
}

static void save(const struct row *row, struct world *world, struct pack *pack)
{
	pack_save(pack);
	row->pack(world, pack);
	if (!pack_is_whole(pack))
		fail_msg("%s: cannot be saved: %s", row->name, pack->why);
}

/* ---- the tests ---------------------------------------------------------------------------------------------------------- */

static void what_is_saved_is_loaded(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++) {
		struct world *world = create(), *fresh = create();
		struct pack saved, loaded, again;
		uint64_t initial = digest_of(&rows[n], world);

		rows[n].use(world);
		world->clock.base += 12345678;
		fresh->clock.base = world->clock.base;
		if (digest_of(&rows[n], world) == initial)
			fail_msg("%s: was not used", rows[n].name);
		save(&rows[n], world, &saved);
		pack_load(&loaded, saved.bytes, saved.length);
		rows[n].pack(fresh, &loaded);
		if (!pack_is_whole(&loaded))
			fail_msg("%s: cannot be loaded: %s", rows[n].name, loaded.why);
		if (digest_of(&rows[n], world) != digest_of(&rows[n], fresh))
			fail_msg("%s: is another one", rows[n].name);
		save(&rows[n], fresh, &again);
		assert_int_equal(again.length, saved.length);
		assert_memory_equal(again.bytes, saved.bytes, saved.length);
		pack_finish(&saved);
		pack_finish(&again);
		destroy(world);
		destroy(fresh);
	}
}

static void every_other_length_is_refused(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++) {
		struct world *world = create();
		struct pack saved, loaded;

		rows[n].use(world);
		save(&rows[n], world, &saved);
		for (size_t length = 0; length <= saved.length + 1; length += length < 3000 ? 1 : 4001) {
			uint8_t *bytes = calloc(1, length + 1);
			assert_non_null(bytes);
			memcpy(bytes, saved.bytes, length < saved.length ? length : saved.length);
			pack_load(&loaded, bytes, length);
			rows[n].pack(world, &loaded);
			if (pack_is_whole(&loaded) != (length == saved.length))
				fail_msg("%s: %zu bytes of %zu", rows[n].name, length, saved.length);
			free(bytes);
		}
		pack_finish(&saved);
		destroy(world);
	}
}

/* Reads and writes everything, lets time pass, and expects no more timers than a device can have. */
static void live(struct world *world)
{
	const struct { const struct bus_ops *ops; void *opaque; unsigned length, size; } ranges[] = {
		{&pic_master_ops, &world->pic, 2, 1}, {&pic_slave_ops, &world->pic, 2, 1}, {&ioapic_ops, &world->ioapic, 0x20, 4},
		{&pit_ops, &world->pit, 4, 1}, {&pit_speaker_ops, &world->pit, 1, 1}, {&hpet_ops, &world->hpet, 0x160, 8},
		{&rtc_ops, &world->rtc, 2, 1}, {&pm_ops, &world->pm, 12, 2}, {&uart_ops, &world->uart, 8, 1},
		{&vga_text_ops, &world->vga, 0x20, 1}, {&i8042_data_ops, &world->i8042, 1, 1}, {&i8042_command_ops, &world->i8042, 1, 1},
		{&pci_ops, &world->pci, 8, 4}, {&fw_cfg_ops, &world->fw_cfg, 2, 1}, {&lapic_ops, &world->lapic, 0x400, 4},
	};
	for (unsigned n = 0; n < ARRAY_LEN(ranges); n++) {
		for (unsigned at = 0; at + ranges[n].size <= ranges[n].length; at += ranges[n].size)
			ranges[n].ops->read(ranges[n].opaque, at, ranges[n].size);
		for (unsigned at = 0; at + ranges[n].size <= ranges[n].length; at += ranges[n].size)
			ranges[n].ops->write(ranges[n].opaque, at, ranges[n].size, 0x1b);
	}
	while (lapic_has_intr(&world->lapic) && lapic_ack(&world->lapic) >= 0)
		;
	pic_ack(&world->pic);
	for (unsigned n = 0; n < 20; n++) {
		world->clock.base += 1000003ull << n;
		clock_run_due(&world->clock);
	}
}

/* A bit is flipped: the state is refused, or harmless. */
static void every_flip_is_harmless(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++) {
		struct world *world = create();
		struct pack saved, loaded;
		unsigned refused = 0;

		rows[n].use(world);
		save(&rows[n], world, &saved);
		size_t bits = 8 * MIN(saved.length, (size_t)1200);
		for (size_t bit = 0; bit < bits; bit++) {
			struct world *other = create();
			saved.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			pack_load(&loaded, saved.bytes, saved.length);
			rows[n].pack(other, &loaded);
			if (pack_is_whole(&loaded))
				live(other);
			else
				refused++;
			saved.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			destroy(other);
		}
		if (!refused && strcmp(rows[n].name, "port92") && strcmp(rows[n].name, "post"))
			fail_msg("%s: takes everything", rows[n].name);
		pack_finish(&saved);
		destroy(world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_saved_is_loaded), cmocka_unit_test(every_other_length_is_refused),
		cmocka_unit_test(every_flip_is_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
