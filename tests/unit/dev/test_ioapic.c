/* The I/O APIC with real local APICs behind it: registers, edges, levels, remote IRR, masks, reconfiguration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/msr.h"
#include "dev/ioapic.h"

struct cpu {
	struct lapic lapic;
	unsigned nmi;
};

struct machine {
	struct clock clock;
	struct lapic_set set;
	struct ioapic ioapic;
	struct cpu cpus[4];
};

static void cpu_nmi(void *cpu)
{
	((struct cpu *)cpu)->nmi++;
}

static int extint(void *opaque)
{
	return 0x33;
}

static const struct lapic_cpu_ops cpu_ops = { .nmi = cpu_nmi };

static void setup(struct machine *m)
{
	memset(m, 0, sizeof(*m));
	clock_init(&m->clock);
	lapic_set_init(&m->set);
	ioapic_init(&m->ioapic, &m->set);
	m->set.eoi = ioapic_eoi;
	m->set.eoi_opaque = &m->ioapic;
	m->set.extint_ack = extint;
	for (unsigned i = 0; i < 4; i++) {
		assert_true(lapic_init(&m->cpus[i].lapic, &m->set, &m->clock, &cpu_ops, &m->cpus[i], i, i == 0));
		lapic_ops.write(&m->cpus[i].lapic, 0xf0, 4, 0x1ff);
	}
}

static uint32_t rd(struct machine *m, unsigned reg)
{
	ioapic_ops.write(&m->ioapic, 0, 4, reg);
	return (uint32_t)ioapic_ops.read(&m->ioapic, 0x10, 4);
}

static void wr(struct machine *m, unsigned reg, uint32_t value)
{
	ioapic_ops.write(&m->ioapic, 0, 4, reg);
	ioapic_ops.write(&m->ioapic, 0x10, 4, value);
}

static void redirect(struct machine *m, unsigned pin, uint32_t low, uint32_t high)
{
	wr(m, 0x10 + 2 * pin, low);
	wr(m, 0x11 + 2 * pin, high);
}

static int ack(struct machine *m, unsigned cpu)
{
	return lapic_ack(&m->cpus[cpu].lapic);
}

static void eoi(struct machine *m, unsigned cpu)
{
	lapic_ops.write(&m->cpus[cpu].lapic, 0xb0, 4, 0);
}

static void test_registers(void **state)
{
	struct machine m;
	setup(&m);
	assert_int_equal(rd(&m, 1), 0x00170011);
	wr(&m, 1, ~0u);
	assert_int_equal(rd(&m, 1), 0x00170011);
	wr(&m, 0, ~0u);
	assert_int_equal(rd(&m, 0), 0x0f000000);
	assert_int_equal(rd(&m, 2), 0x0f000000);
	wr(&m, 2, 0);
	assert_int_equal(rd(&m, 2), 0x0f000000);
	assert_int_equal(rd(&m, 0x10), 0x10000);
	wr(&m, 0x3f, ~0u);
	wr(&m, 0x3e, ~0u);
	assert_int_equal(rd(&m, 0x3e), 0x1afff); /* status and remote IRR are not writable */
	assert_int_equal(rd(&m, 0x3f), 0xff000000);
	wr(&m, 0x40, 0);
	wr(&m, 0xff, 0);
	assert_int_equal(rd(&m, 0x40), 0xffffffff);
	assert_int_equal(ioapic_ops.read(&m.ioapic, 0, 4), 0x40);
	assert_int_equal(ioapic_ops.read(&m.ioapic, 0x20, 4), 0);
	ioapic_reset(&m.ioapic);
	assert_int_equal(rd(&m, 0x3e), 0x10000);
}

static void test_edge(void **state)
{
	struct machine m;
	setup(&m);
	redirect(&m, 14, 0x76, 0);
	ioapic_set_pin(&m.ioapic, 14, true);
	assert_int_equal(ack(&m, 0), 0x76);
	ioapic_set_pin(&m.ioapic, 14, true);
	eoi(&m, 0);
	assert_int_equal(ack(&m, 0), -1);
	ioapic_set_pin(&m.ioapic, 14, false);
	/* An edge while masked is lost. */
	wr(&m, 0x2c, 0x10076);
	ioapic_set_pin(&m.ioapic, 14, true);
	wr(&m, 0x2c, 0x76);
	assert_int_equal(ack(&m, 0), -1);
	ioapic_set_pin(&m.ioapic, 14, false);
	ioapic_set_pin(&m.ioapic, 14, true);
	assert_int_equal(ack(&m, 0), 0x76);
	ioapic_set_pin(&m.ioapic, 24, true);
	ioapic_set_pin(&m.ioapic, 1000, true);
}

static void test_level(void **state)
{
	struct machine m;
	setup(&m);
	redirect(&m, 14, 0x8077, 0);
	ioapic_set_pin(&m.ioapic, 14, true);
	assert_int_equal(rd(&m, 0x2c), 0xc077);
	assert_int_equal(ack(&m, 0), 0x77);
	/* Down and up inside the handler, and down before its end: one interrupt. */
	ioapic_set_pin(&m.ioapic, 14, false);
	ioapic_set_pin(&m.ioapic, 14, true);
	ioapic_set_pin(&m.ioapic, 14, false);
	eoi(&m, 0);
	assert_int_equal(rd(&m, 0x2c), 0x8077);
	assert_int_equal(ack(&m, 0), -1);
	/* Still up at the end: again at once. */
	ioapic_set_pin(&m.ioapic, 14, true);
	assert_int_equal(ack(&m, 0), 0x77);
	eoi(&m, 0);
	assert_int_equal(ack(&m, 0), 0x77);
	/* Masked in the handler: not again until it is unmasked. */
	wr(&m, 0x2c, 0x18077);
	eoi(&m, 0);
	assert_int_equal(ack(&m, 0), -1);
	assert_int_equal(rd(&m, 0x2c), 0x18077);
	wr(&m, 0x2c, 0x8077);
	assert_int_equal(ack(&m, 0), 0x77);
	/* Turned into an edge, it forgets that it waited. */
	wr(&m, 0x2c, 0x77);
	assert_int_equal(rd(&m, 0x2c), 0x77);
	eoi(&m, 0);
	assert_int_equal(ack(&m, 0), -1);
}

/* The end of an interrupt is matched by vector: the destination may have changed meanwhile. */
static void test_reconfigure_in_service(void **state)
{
	struct machine m;
	setup(&m);
	redirect(&m, 13, 0x8064, 0);
	redirect(&m, 14, 0x8084, 0);
	ioapic_set_pin(&m.ioapic, 13, true);
	assert_int_equal(ack(&m, 0), 0x64);
	ioapic_set_pin(&m.ioapic, 14, true);
	for (unsigned pin = 13; pin <= 14; pin++) {
		ioapic_set_pin(&m.ioapic, pin, false);
		assert_true(rd(&m, 0x10 + 2 * pin) & 0x4000);
		wr(&m, 0x11 + 2 * pin, 0x01000000);
		assert_true(rd(&m, 0x10 + 2 * pin) & 0x4000);
	}
	/* 0x84 is of a higher class, so it may nest; here it is served first and ended first. */
	assert_int_equal(ack(&m, 0), 0x84);
	eoi(&m, 0);
	assert_false(rd(&m, 0x2c) & 0x4000);
	assert_true(rd(&m, 0x2a) & 0x4000);
	eoi(&m, 0);
	assert_false(rd(&m, 0x2a) & 0x4000);
	ioapic_set_pin(&m.ioapic, 13, true);
	assert_int_equal(ack(&m, 0), -1);
	assert_int_equal(ack(&m, 1), 0x64);
}

static void test_destinations(void **state)
{
	struct machine m;
	setup(&m);
	for (unsigned i = 0; i < 4; i++)
		assert_true(lapic_write_base(&m.cpus[i].lapic, m.cpus[i].lapic.base | APIC_BASE_EXTD));
	redirect(&m, 14, 0x8886, 0x0d000000); /* logical, in x2APIC mode: cluster 0, members 0, 2 and 3 */
	ioapic_set_pin(&m.ioapic, 14, true);
	ioapic_set_pin(&m.ioapic, 14, false);
	assert_int_equal(ack(&m, 0), 0x86);
	assert_int_equal(ack(&m, 1), -1);
	assert_int_equal(ack(&m, 2), 0x86);
	assert_int_equal(ack(&m, 3), 0x86);
	assert_true(lapic_write_msr(&m.cpus[0].lapic, 0x80b, 0));
	assert_false(rd(&m, 0x2c) & 0x4000);
	/* Nobody there: no remote IRR, and it is tried again. */
	redirect(&m, 15, 0x18087, 0x20000000);
	wr(&m, 0x2e, 0x8087);
	ioapic_set_pin(&m.ioapic, 15, true);
	assert_false(rd(&m, 0x2e) & 0x4000);
	wr(&m, 0x2f, 0x01000000);
	assert_int_equal(ack(&m, 1), 0x87);
}

static void test_other_modes(void **state)
{
	struct machine m;
	setup(&m);
	redirect(&m, 3, 0x0400, 0x02000000);
	ioapic_set_pin(&m.ioapic, 3, true);
	assert_int_equal(m.cpus[2].nmi, 1);
	redirect(&m, 4, 0x18700, 0x01000000); /* ExtINT is an edge whatever the entry says */
	wr(&m, 0x18, 0x0700);
	ioapic_set_pin(&m.ioapic, 4, true);
	assert_true(lapic_has_intr(&m.cpus[1].lapic));
	assert_int_equal(ack(&m, 1), 0x33);
	assert_int_equal(ack(&m, 1), -1);
	redirect(&m, 5, 0x0600, 0); /* no such mode here */
	ioapic_set_pin(&m.ioapic, 5, true);
	redirect(&m, 6, 0x8105, 0); /* lowest priority with an illegal vector */
	ioapic_set_pin(&m.ioapic, 6, true);
	assert_int_equal(ack(&m, 0), -1);
	assert_false(rd(&m, 0x1c) & 0x4000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_registers), cmocka_unit_test(test_edge), cmocka_unit_test(test_level),
					    cmocka_unit_test(test_reconfigure_in_service), cmocka_unit_test(test_destinations),
					    cmocka_unit_test(test_other_modes) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
