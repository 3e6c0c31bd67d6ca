/* The local APIC: registers in both modes, mode changes, priorities, messages, errors, pins, timer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/msr.h"
#include "dev/lapic.h"

#define CPUS 4

struct cpu {
	struct lapic lapic;
	unsigned nmi, init, sipi, smi, base_changed, intr_changed;
	uint8_t sipi_vector;
	uint64_t tsc_offset;
};

struct machine {
	struct clock clock;
	struct lapic_set set;
	struct cpu cpus[CPUS];
	unsigned eois;
	uint8_t eoi_vector;
	int extint_vector;
};

static void cpu_intr_changed(void *cpu) { ((struct cpu *)cpu)->intr_changed++; }
static void cpu_nmi(void *cpu) { ((struct cpu *)cpu)->nmi++; }
static void cpu_init(void *cpu) { ((struct cpu *)cpu)->init++; }
static void cpu_smi(void *cpu) { ((struct cpu *)cpu)->smi++; }
static void cpu_base_changed(void *cpu) { ((struct cpu *)cpu)->base_changed++; }
static uint64_t cpu_tsc_offset(void *cpu) { return ((struct cpu *)cpu)->tsc_offset; }

static void cpu_sipi(void *opaque, uint8_t vector)
{
	struct cpu *cpu = opaque;
	cpu->sipi++;
	cpu->sipi_vector = vector;
}

static const struct lapic_cpu_ops cpu_ops = { cpu_intr_changed, cpu_nmi, cpu_init, cpu_sipi, cpu_smi, cpu_base_changed,
					     cpu_tsc_offset };

static void on_eoi(void *opaque, uint8_t vector)
{
	struct machine *m = opaque;
	m->eois++;
	m->eoi_vector = vector;
}

static int on_extint(void *opaque)
{
	return ((struct machine *)opaque)->extint_vector;
}

static void setup(struct machine *m)
{
	memset(m, 0, sizeof(*m));
	clock_init(&m->clock);
	lapic_set_init(&m->set);
	m->set.eoi = on_eoi;
	m->set.eoi_opaque = m->set.extint_opaque = m;
	m->set.extint_ack = on_extint;
	m->extint_vector = 0x08;
	for (unsigned i = 0; i < CPUS; i++)
		assert_true(lapic_init(&m->cpus[i].lapic, &m->set, &m->clock, &cpu_ops, &m->cpus[i], i, i == 0));
}

static uint32_t rd(struct machine *m, unsigned cpu, unsigned reg)
{
	return (uint32_t)lapic_ops.read(&m->cpus[cpu].lapic, reg, 4);
}

static void wr(struct machine *m, unsigned cpu, unsigned reg, uint32_t value)
{
	lapic_ops.write(&m->cpus[cpu].lapic, reg, 4, value);
}

static void enable(struct machine *m)
{
	for (unsigned i = 0; i < CPUS; i++)
		wr(m, i, 0xf0, 0x1ff);
}

static void enable_x2apic(struct machine *m, unsigned cpu)
{
	assert_true(lapic_write_base(&m->cpus[cpu].lapic, m->cpus[cpu].lapic.base | APIC_BASE_EXTD));
}

static bool rdx(struct machine *m, unsigned cpu, unsigned msr, uint64_t *value)
{
	return lapic_read_msr(&m->cpus[cpu].lapic, msr, value);
}

static bool wrx(struct machine *m, unsigned cpu, unsigned msr, uint64_t value)
{
	return lapic_write_msr(&m->cpus[cpu].lapic, msr, value);
}

static int ack(struct machine *m, unsigned cpu)
{
	bool has = lapic_has_intr(&m->cpus[cpu].lapic);
	int vector = lapic_ack(&m->cpus[cpu].lapic);
	assert_int_equal(has, vector >= 0);
	return vector;
}

static void test_reset_state(void **state)
{
	struct machine m;
	setup(&m);
	assert_int_equal(rd(&m, 2, 0x20), 2 << 24);
	assert_int_equal(rd(&m, 0, 0x30), 0x50014);
	assert_int_equal(rd(&m, 0, 0xf0), 0xff);
	assert_int_equal(rd(&m, 0, 0xe0), 0xffffffff);
	for (unsigned reg = 0x320; reg <= 0x370; reg += 0x10)
		assert_int_equal(rd(&m, 0, reg), 0x10000);
	assert_int_equal(lapic_read_base(&m.cpus[0].lapic), 0xfee00900);
	assert_int_equal(lapic_read_base(&m.cpus[1].lapic), 0xfee00800);
	assert_true(lapic_claims(&m.cpus[0].lapic, 0xfee00fff));
	assert_false(lapic_claims(&m.cpus[0].lapic, 0xfee01000));
	/* Software disabled: LVT masks stick, fixed interrupts are not taken. */
	wr(&m, 0, 0x350, 0x700);
	assert_int_equal(rd(&m, 0, 0x350), 0x10700);
	wr(&m, 0, 0xf0, 0x1ff);
	wr(&m, 0, 0x350, 0x700);
	assert_int_equal(rd(&m, 0, 0x350), 0x700);
	wr(&m, 0, 0xf0, 0xff);
	assert_int_equal(rd(&m, 0, 0x350), 0x10700);
	/* Accesses of other shapes. */
	wr(&m, 0, 0x80, 0xab);
	assert_int_equal(lapic_ops.read(&m.cpus[0].lapic, 0x30, 1) & 0xff, 0x14);
	assert_int_equal(lapic_ops.read(&m.cpus[0].lapic, 0x32, 1) & 0xff, 5);
	assert_int_equal(lapic_ops.read(&m.cpus[0].lapic, 0x34, 4), 0);
	assert_int_equal(lapic_ops.read(&m.cpus[0].lapic, 0x30, 8), 0x50014);
	lapic_ops.write(&m.cpus[0].lapic, 0x80, 1, 0);
	lapic_ops.write(&m.cpus[0].lapic, 0x84, 4, 0);
	lapic_ops.write(&m.cpus[0].lapic, 0x80, 8, 0);
	assert_int_equal(rd(&m, 0, 0x80), 0xab);
}

static void test_base_transitions(void **state)
{
	struct machine m;
	setup(&m);
	struct lapic *lapic = &m.cpus[1].lapic;
	const uint64_t page = 0xfee00000, en = APIC_BASE_EN, extd = APIC_BASE_EXTD;
	lapic->maxphyaddr = 36;
	assert_false(lapic_write_base(lapic, page | en | 1ull << 36));
	assert_false(lapic_write_base(lapic, page | en | 1));
	assert_false(lapic_write_base(lapic, page | en | 0x200));
	assert_false(lapic_write_base(lapic, page | extd));
	assert_true(lapic_write_base(lapic, page | en | extd));
	assert_true(lapic_is_x2apic(lapic));
	assert_int_equal(m.cpus[1].base_changed, 2); /* the reset was the first */
	assert_true(lapic_ops.read(lapic, 0x30, 4) == ~0ull);
	assert_false(lapic_claims(lapic, page));
	assert_false(lapic_write_base(lapic, page | extd));
	assert_false(lapic_write_base(lapic, page | en));
	assert_true(lapic_write_base(lapic, page));
	assert_false(lapic_enabled(lapic));
	assert_true(lapic_ops.read(lapic, 0x80, 4) == ~0ull);
	assert_false(lapic_write_base(lapic, page | extd));
	assert_false(lapic_write_base(lapic, page | en | extd));
	/* While disabled CR8 still works, and its value is there afterwards. */
	lapic_set_cr8(lapic, 9);
	assert_int_equal(lapic_cr8(lapic), 9);
	assert_true(lapic_write_base(lapic, 0xfed40000 | en));
	assert_true(lapic_claims(lapic, 0xfed40030));
	assert_int_equal(rd(&m, 1, 0x80), 0x90);
	/* Disabling forgot the rest. */
	wr(&m, 1, 0x20, 0x77000000);
	wr(&m, 1, 0xf0, 0x1ff);
	wr(&m, 1, 0xd0, 0x01000000);
	assert_int_equal(rd(&m, 1, 0x20), 0x77000000);
	assert_true(lapic_write_base(lapic, page));
	assert_true(lapic_write_base(lapic, page | en));
	assert_int_equal(rd(&m, 1, 0x20), 0x01000000);
	assert_int_equal(rd(&m, 1, 0xf0), 0xff);
	assert_int_equal(rd(&m, 1, 0xd0), 0);
	lapic->x2apic_supported = false;
	assert_false(lapic_write_base(lapic, page | en | extd));
}

static void test_x2apic_registers(void **state)
{
	struct machine m;
	uint64_t value;
	setup(&m);
	for (unsigned msr = 0x800; msr < 0x900; msr++) {
		assert_false(rdx(&m, 1, msr, &value));
		assert_false(wrx(&m, 1, msr, 0));
	}
	enable_x2apic(&m, 1);
	/* 1 readable, 2 writable; what is not listed does not exist (SDM 3, "x2APIC Register Address Space"). */
	uint8_t want[256] = { 0 };
	want[2] = want[3] = want[0xa] = want[0xd] = want[0x39] = 1;
	want[0x8] = want[0xf] = want[0x28] = want[0x30] = want[0x38] = want[0x3e] = 3;
	want[0xb] = want[0x3f] = 2;
	for (unsigned i = 0x10; i < 0x28; i++)
		want[i] = 1;
	for (unsigned i = 0x32; i < 0x38; i++)
		want[i] = 3;
	for (unsigned i = 0; i < 256; i++) {
		bool readable = rdx(&m, 1, 0x800 + i, &value);
		if (readable != (want[i] & 1))
			fail_msg("read %#x", 0x800 + i);
		if (wrx(&m, 1, 0x800 + i, readable && i != 0x28 ? value : 0) != !!(want[i] & 2))
			fail_msg("write %#x", 0x800 + i);
		if (i != 0x30 && wrx(&m, 1, 0x800 + i, 1ull << 32))
			fail_msg("upper half of %#x", 0x800 + i);
		if (i != 0x30 && wrx(&m, 1, 0x800 + i, ~0ull))
			fail_msg("all ones to %#x", 0x800 + i);
	}
	assert_false(rdx(&m, 1, 0x7ff, &value));
	assert_false(rdx(&m, 1, 0x900, &value));
	assert_false(wrx(&m, 1, 0x83f, 0x100));
	assert_false(wrx(&m, 1, 0x80b, 1));
	assert_false(wrx(&m, 1, 0x828, 1));
	assert_false(wrx(&m, 1, 0x808, 0x100));
	assert_false(wrx(&m, 1, 0x83e, 4));
	assert_false(wrx(&m, 1, 0x80f, 0x1000));
	assert_false(wrx(&m, 1, 0x830, 0x2000));
	assert_false(wrx(&m, 1, 0x830, 0x10000));
	assert_false(wrx(&m, 1, 0x832, 0x400ee | 0x80000));
	assert_true(wrx(&m, 1, 0x832, 0x400ee));
	m.cpus[1].lapic.deadline_supported = false;
	assert_false(wrx(&m, 1, 0x832, 0x400ee));
	assert_true(rdx(&m, 1, 0x802, &value));
	assert_int_equal(value, 1);
	assert_true(rdx(&m, 1, 0x80d, &value));
	assert_int_equal(value, 2);
	/* The logical id of higher ids. */
	m.cpus[2].lapic.initial_id = 0x123;
	enable_x2apic(&m, 2);
	assert_true(rdx(&m, 2, 0x80d, &value));
	assert_int_equal(value, 0x12 << 16 | 8);
	/* INIT keeps mode and ids. */
	lapic_receive_init(&m.cpus[2].lapic);
	assert_true(rdx(&m, 2, 0x80d, &value));
	assert_int_equal(value, 0x12 << 16 | 8);
}

static void self_ipi(struct machine *m, unsigned cpu, uint8_t vector)
{
	wr(m, cpu, 0x300, 0x40000u | vector);
}

static void test_priorities(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	assert_int_equal(ack(&m, 0), -1);
	self_ipi(&m, 0, 0x31);
	self_ipi(&m, 0, 0x35);
	self_ipi(&m, 0, 0x61);
	assert_int_equal(rd(&m, 0, 0x210), 0x220000);
	assert_int_equal(rd(&m, 0, 0x230), 0x2);
	assert_int_equal(ack(&m, 0), 0x61);
	assert_int_equal(rd(&m, 0, 0x230), 0);
	assert_int_equal(rd(&m, 0, 0x130), 0x2);
	assert_int_equal(rd(&m, 0, 0xa0), 0x60);
	assert_int_equal(ack(&m, 0), -1); /* lower ones wait */
	self_ipi(&m, 0, 0x6f);
	assert_int_equal(ack(&m, 0), -1); /* the same class too */
	self_ipi(&m, 0, 0x70);
	assert_int_equal(ack(&m, 0), 0x70);
	wr(&m, 0, 0xb0, 0);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(ack(&m, 0), 0x6f);
	wr(&m, 0, 0xb0, 0);
	wr(&m, 0, 0x80, 0x30);
	assert_int_equal(ack(&m, 0), -1); /* TPR holds its own class */
	assert_int_equal(rd(&m, 0, 0xa0), 0x30);
	assert_int_equal(lapic_cr8(&m.cpus[0].lapic), 3);
	lapic_set_cr8(&m.cpus[0].lapic, 2);
	assert_int_equal(ack(&m, 0), 0x35);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(ack(&m, 0), 0x31);
	wr(&m, 0, 0xb0, 0);
	wr(&m, 0, 0xb0, 0); /* one too many */
	assert_int_equal(ack(&m, 0), -1);
	assert_int_equal(m.eois, 0); /* edges are not broadcast */
	self_ipi(&m, 0, 0xff);
	assert_int_equal(ack(&m, 0), 0xff);
}

static unsigned count_waiting(struct machine *m)
{
	unsigned bits = 0;
	for (unsigned i = 0; i < CPUS; i++)
		while (lapic_ack(&m->cpus[i].lapic) >= 0) {
			bits |= 1u << i;
			lapic_ops.write(&m->cpus[i].lapic, 0xb0, 4, 0);
		}
	return bits;
}

static unsigned xsend(struct machine *m, unsigned from, uint32_t dest, uint32_t icr)
{
	wr(m, from, 0x310, dest << 24);
	wr(m, from, 0x300, icr | 0xf1);
	assert_int_equal(rd(m, from, 0x300) & 0x1000, 0);
	return count_waiting(m);
}

static void test_physical_destinations(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	assert_int_equal(xsend(&m, 0, 2, 0x4000), 4);
	assert_int_equal(xsend(&m, 0, 0, 0x4000), 1);
	assert_int_equal(xsend(&m, 0, 9, 0x4000), 0);
	assert_int_equal(xsend(&m, 0, 0xff, 0x4000), 15);
	assert_int_equal(xsend(&m, 1, 0, 0x40000), 2);
	assert_int_equal(xsend(&m, 1, 0, 0x80000), 15);
	assert_int_equal(xsend(&m, 1, 0, 0xc0000), 13);
	/* Two that share an id both get it; 0xff is everybody. */
	wr(&m, 3, 0x20, 2u << 24);
	assert_int_equal(xsend(&m, 0, 2, 0), 12);
	assert_int_equal(xsend(&m, 0, 3, 0), 0);
	wr(&m, 2, 0xf0, 0xff); /* software disabled */
	assert_int_equal(xsend(&m, 0, 2, 0), 8);
	lapic_write_base(&m.cpus[3].lapic, 0xfee00000);
	assert_int_equal(xsend(&m, 0, 2, 0), 0);
	/* The illegal vectors. */
	wr(&m, 0, 0x300, 0x4000f);
	assert_int_equal(ack(&m, 0), -1);
	assert_int_equal(rd(&m, 0, 0x280), 0);
	wr(&m, 0, 0x280, 0);
	assert_int_equal(rd(&m, 0, 0x280), 0x20);
	wr(&m, 0, 0x280, 0);
	assert_int_equal(rd(&m, 0, 0x280), 0);
}

static void test_logical_destinations(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	/* Flat: each destination against each pair of ids. */
	for (unsigned i = 0; i < 8; i++)
		for (unsigned dest = 0; dest < 0x100; dest++) {
			wr(&m, 1, 0xd0, 1u << (24 + i));
			wr(&m, 2, 0xd0, 0x81u << 24);
			unsigned want = (dest >> i & 1 ? 2u : 0) | (dest & 0x81 ? 4u : 0);
			if (dest == 0xff)
				want = 15;
			assert_int_equal(xsend(&m, 0, dest, 0x800), want);
		}
	/* Cluster. */
	for (unsigned i = 0; i < CPUS; i++)
		wr(&m, i, 0xe0, 0x0fffffff);
	assert_int_equal(rd(&m, 0, 0xe0), 0x0fffffff);
	wr(&m, 0, 0xd0, 0x31000000);
	wr(&m, 1, 0xd0, 0x32000000);
	wr(&m, 2, 0xd0, 0x42000000);
	wr(&m, 3, 0xd0, 0x00000000);
	for (unsigned dest = 0; dest < 0xff; dest++) {
		unsigned want = dest >> 4 == 3 ? dest & 3 : dest >> 4 == 4 ? (dest & 2) << 1 : 0;
		assert_int_equal(xsend(&m, 0, dest, 0x800), want);
	}
	assert_int_equal(xsend(&m, 0, 0xff, 0x800), 15);
	/* Models are each receiver's own. */
	wr(&m, 1, 0xe0, 0xffffffff);
	assert_int_equal(xsend(&m, 0, 0x12, 0x800), 2);
}

static unsigned x2send(struct machine *m, unsigned from, uint32_t dest, uint32_t icr)
{
	assert_true(wrx(m, from, 0x830, (uint64_t)dest << 32 | icr | 0xf1));
	unsigned bits = 0;
	for (unsigned i = 0; i < CPUS; i++)
		while (lapic_ack(&m->cpus[i].lapic) >= 0) {
			bits |= 1u << i;
			if (lapic_is_x2apic(&m->cpus[i].lapic))
				assert_true(wrx(m, i, 0x80b, 0));
			else
				wr(m, i, 0xb0, 0);
		}
	return bits;
}

static void test_x2apic_destinations(void **state)
{
	struct machine m;
	uint64_t value;
	setup(&m);
	enable(&m);
	m.cpus[3].lapic.initial_id = 0x13;
	for (unsigned i = 0; i < CPUS; i++)
		enable_x2apic(&m, i);
	assert_int_equal(x2send(&m, 0, 2, 0x4000), 4);
	assert_true(rdx(&m, 0, 0x830, &value));
	assert_true(value == 0x2000040f1ull);
	assert_int_equal(x2send(&m, 0, 0x13, 0), 8);
	assert_int_equal(x2send(&m, 0, 0xff, 0), 0);
	assert_int_equal(x2send(&m, 0, 0x102, 0), 0);
	assert_int_equal(x2send(&m, 0, 0xffffffff, 0), 15);
	assert_int_equal(x2send(&m, 0, 0x00000005, 0x800), 5);
	assert_int_equal(x2send(&m, 0, 0x0001000f, 0x800), 8);
	assert_int_equal(x2send(&m, 0, 0x00020008, 0x800), 0);
	assert_true(wrx(&m, 1, 0x83f, 0x44));
	assert_int_equal(ack(&m, 1), 0x44);
	assert_true(wrx(&m, 1, 0x80b, 0));
	/* One of them in xAPIC mode: full ids reach it too, 8-bit ids reach the others. */
	assert_true(lapic_write_base(&m.cpus[1].lapic, 0xfee00000));
	assert_true(lapic_write_base(&m.cpus[1].lapic, 0xfee00800));
	wr(&m, 1, 0xf0, 0x1ff);
	assert_int_equal(x2send(&m, 0, 1, 0), 2);
	assert_int_equal(x2send(&m, 0, 0xffffffff, 0), 15);
	wr(&m, 1, 0x310, 0xff000000);
	wr(&m, 1, 0x300, 0xf1);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(ack(&m, i), 0xf1);
}

static void test_other_messages(void **state)
{
	struct machine m;
	setup(&m);
	/* INIT and SIPI reach software-disabled APICs: that is how APs start. */
	wr(&m, 0, 0xf0, 0x1ff);
	wr(&m, 0, 0x300, 0xc4500);
	wr(&m, 0, 0x300, 0xc4600 | 0x9f);
	for (unsigned i = 1; i < CPUS; i++) {
		assert_int_equal(m.cpus[i].init, 1);
		assert_int_equal(m.cpus[i].sipi, 1);
		assert_int_equal(m.cpus[i].sipi_vector, 0x9f);
	}
	assert_int_equal(m.cpus[0].init + m.cpus[0].sipi, 0);
	wr(&m, 0, 0x300, 0xc8500); /* level, de-asserted */
	assert_int_equal(m.cpus[1].init, 1);
	wr(&m, 0, 0x310, 0x02000000);
	wr(&m, 0, 0x300, 0x400); /* NMI, whatever the level bit says */
	wr(&m, 0, 0x300, 0x4400);
	wr(&m, 0, 0x300, 0x200);
	assert_int_equal(m.cpus[2].nmi, 2);
	assert_int_equal(m.cpus[2].smi, 1);
	wr(&m, 0, 0x300, 0x300); /* reserved */
	wr(&m, 0, 0x300, 0x700); /* ExtINT is not for IPIs */
	assert_int_equal(ack(&m, 2), -1);
	lapic_write_base(&m.cpus[2].lapic, 0xfee00000);
	wr(&m, 0, 0x300, 0x4400);
	assert_int_equal(m.cpus[2].nmi, 2); /* a disabled APIC hears nothing */
}

static void test_lowest_priority(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	wr(&m, 0, 0x80, 0x20);
	wr(&m, 1, 0x80, 0x40);
	struct lapic_message message = { .destination = 0xff, .mode = LAPIC_LOWEST, .vector = 0x51 };
	unsigned hits[CPUS] = { 0 };
	for (unsigned n = 0; n < 10; n++) {
		assert_int_equal(lapic_set_deliver(&m.set, &message), 1);
		for (unsigned i = 0; i < CPUS; i++)
			if (lapic_ack(&m.cpus[i].lapic) == 0x51) {
				hits[i]++;
				wr(&m, i, 0xb0, 0);
			}
	}
	assert_int_equal(hits[0] + hits[1], 0);
	assert_int_equal(hits[2], 5); /* equals take turns */
	assert_int_equal(hits[3], 5);
	wr(&m, 2, 0xf0, 0xff);
	wr(&m, 3, 0xf0, 0xff);
	assert_int_equal(lapic_set_deliver(&m.set, &message), 1);
	assert_int_equal(ack(&m, 0), 0x51);
	message.destination = 0x77;
	assert_int_equal(lapic_set_deliver(&m.set, &message), 0);
}

static void test_level_and_eoi(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	struct lapic_message message = { .destination = 1, .mode = LAPIC_FIXED, .vector = 0x79, .level = true };
	assert_int_equal(lapic_set_deliver(&m.set, &message), 1);
	assert_int_equal(rd(&m, 1, 0x1b0), 1u << 25);
	assert_int_equal(ack(&m, 1), 0x79);
	wr(&m, 1, 0xb0, 0);
	assert_int_equal(m.eois, 1);
	assert_int_equal(m.eoi_vector, 0x79);
	assert_int_equal(rd(&m, 1, 0x1b0), 1u << 25); /* stays until the next of this vector */
	message.level = false;
	lapic_set_deliver(&m.set, &message);
	assert_int_equal(rd(&m, 1, 0x1b0), 0);
	ack(&m, 1);
	wr(&m, 1, 0xb0, 0);
	assert_int_equal(m.eois, 1);
}

static void test_errors(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	wr(&m, 0, 0x370, 0xfe);
	assert_int_equal(rd(&m, 0, 0x40), 0); /* no such register */
	assert_int_equal(ack(&m, 0), 0xfe);
	wr(&m, 0, 0xb0, 0);
	wr(&m, 0, 0x3f0, 5); /* self IPI exists in x2APIC mode only */
	rd(&m, 0, 0xff0);
	wr(&m, 0, 0x280, 0);
	assert_int_equal(rd(&m, 0, 0x280), 0x80);
	wr(&m, 0, 0x370, 0x05); /* an illegal vector for errors: no recursion */
	struct lapic_message message = { .destination = 0, .vector = 3 };
	assert_int_equal(lapic_set_deliver(&m.set, &message), 0);
	wr(&m, 0, 0x280, 0);
	assert_int_equal(rd(&m, 0, 0x280), 0x40);
	assert_int_equal(ack(&m, 0), -1);
	/* Registers that can be written or read only give no error. */
	wr(&m, 0, 0x30, 5);
	assert_int_equal(rd(&m, 0, 0xb0), 0);
	wr(&m, 0, 0x280, 0);
	assert_int_equal(rd(&m, 0, 0x280), 0);
}

static void test_pins(void **state)
{
	struct machine m;
	setup(&m);
	struct lapic *lapic = &m.cpus[0].lapic;
	/* Masked: nothing. */
	lapic_set_lint(lapic, 0, true);
	assert_int_equal(ack(&m, 0), -1);
	/* Virtual wire, although software has not enabled the APIC. */
	lapic_virtual_wire(lapic);
	assert_int_equal(ack(&m, 0), 0x08);
	lapic_set_lint(lapic, 0, false);
	assert_int_equal(ack(&m, 0), -1);
	lapic_set_lint(lapic, 1, true);
	assert_int_equal(m.cpus[0].nmi, 1);
	lapic_set_lint(lapic, 1, true);
	assert_int_equal(m.cpus[0].nmi, 1);
	/* The 8259 comes before the APIC's own. */
	wr(&m, 0, 0xf0, 0x1ff);
	lapic_lint0_line(lapic, 7, true);
	self_ipi(&m, 0, 0x90);
	assert_int_equal(ack(&m, 0), 0x08);
	lapic_lint0_line(lapic, 7, false);
	assert_int_equal(ack(&m, 0), 0x90);
	wr(&m, 0, 0xb0, 0);
	/* Fixed, edge and level. */
	wr(&m, 0, 0x350, 0x45);
	lapic_set_lint(lapic, 0, true);
	assert_int_equal(ack(&m, 0), 0x45);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(ack(&m, 0), -1);
	wr(&m, 0, 0x350, 0x8046);
	assert_int_equal(rd(&m, 0, 0x350), 0xc046);
	assert_int_equal(ack(&m, 0), 0x46);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(ack(&m, 0), 0x46);
	lapic_set_lint(lapic, 0, false);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(ack(&m, 0), -1);
	assert_int_equal(rd(&m, 0, 0x350), 0x8046);
	/* Disabled, the pins are INTR and NMI of the processor. */
	lapic_set_lint(lapic, 1, false);
	lapic_write_base(lapic, 0xfee00000 | APIC_BASE_BSP);
	lapic_set_lint(lapic, 0, true);
	assert_int_equal(ack(&m, 0), 0x08);
	lapic_set_lint(lapic, 1, true);
	assert_int_equal(m.cpus[0].nmi, 2);
	m.set.extint_ack = NULL;
	assert_false(lapic_has_intr(lapic));
}

static void run_to(struct machine *m, uint64_t tick)
{
	while (clock_next_deadline(&m->clock) <= tick) {
		m->clock.base = MAX(m->clock.base, clock_next_deadline(&m->clock));
		clock_run_due(&m->clock);
	}
	m->clock.base = tick;
}

static void test_timer_counts(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	wr(&m, 0, 0x3e0, 0xb); /* divide by 1: a count is 2 ticks */
	wr(&m, 0, 0x320, 0xee);
	wr(&m, 0, 0x380, 1000);
	assert_int_equal(rd(&m, 0, 0x390), 1000);
	run_to(&m, 2);
	assert_int_equal(rd(&m, 0, 0x390), 999);
	run_to(&m, 1999);
	assert_int_equal(rd(&m, 0, 0x390), 1);
	assert_int_equal(ack(&m, 0), -1);
	run_to(&m, 2000);
	assert_int_equal(rd(&m, 0, 0x390), 0);
	assert_int_equal(ack(&m, 0), 0xee);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(clock_next_deadline(&m.clock), CLOCK_NEVER);
	/* Changing to periodic after the end does not start it again. */
	wr(&m, 0, 0x320, 0x200ee);
	assert_int_equal(rd(&m, 0, 0x390), 0);
	assert_int_equal(rd(&m, 0, 0x380), 1000);
	/* Periodic, then one shot in the middle of a period. */
	wr(&m, 0, 0x380, 1000);
	run_to(&m, m.clock.base + 5000);
	assert_int_equal(rd(&m, 0, 0x390), 500);
	assert_int_equal(ack(&m, 0), 0xee);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(ack(&m, 0), -1);
	wr(&m, 0, 0x320, 0xee);
	assert_int_equal(rd(&m, 0, 0x390), 500);
	/* Another divider: what is left goes on at the new rate. */
	wr(&m, 0, 0x3e0, 0x0);
	assert_int_equal(rd(&m, 0, 0x390), 500);
	run_to(&m, m.clock.base + 1000);
	assert_int_equal(rd(&m, 0, 0x390), 250);
	wr(&m, 0, 0x380, 0);
	assert_int_equal(rd(&m, 0, 0x390), 0);
	const unsigned divides[8][2] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 } };
	for (unsigned i = 0; i < 8; i++) {
		wr(&m, 0, 0x3e0, divides[i][0]);
		wr(&m, 0, 0x380, 100);
		run_to(&m, m.clock.base + 2 * divides[i][1] * 40);
		assert_int_equal(rd(&m, 0, 0x390), 60);
	}
}

static void test_timer_masked(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	wr(&m, 0, 0x3e0, 0xb);
	wr(&m, 0, 0x320, 0x300ee); /* periodic, masked: counts, and costs the host nothing */
	wr(&m, 0, 0x380, 1);
	assert_int_equal(clock_next_deadline(&m.clock), CLOCK_NEVER);
	run_to(&m, 1001);
	assert_int_equal(rd(&m, 0, 0x390), 1);
	assert_int_equal(ack(&m, 0), -1);
	wr(&m, 0, 0x320, 0x200ee);
	assert_int_equal(ack(&m, 0), -1);
	run_to(&m, 1002);
	assert_int_equal(ack(&m, 0), 0xee);
	/* The shortest period does not run once for each that was missed. */
	m.cpus[0].intr_changed = 0;
	m.clock.base += 1000000000;
	clock_run_due(&m.clock);
	assert_int_equal(m.cpus[0].intr_changed, 1);
	/* Software disable masks it, reset stops it. */
	wr(&m, 0, 0xf0, 0xff);
	assert_int_equal(clock_next_deadline(&m.clock), CLOCK_NEVER);
	wr(&m, 0, 0xf0, 0x1ff);
	wr(&m, 0, 0x320, 0x200ee);
	assert_true(clock_next_deadline(&m.clock) != CLOCK_NEVER);
	lapic_receive_init(&m.cpus[0].lapic);
	assert_int_equal(clock_next_deadline(&m.clock), CLOCK_NEVER);
	assert_int_equal(rd(&m, 0, 0x380), 0);
}

static void test_deadline(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	struct lapic *lapic = &m.cpus[0].lapic;
	m.clock.base = 5000;
	m.cpus[0].tsc_offset = 1000000;
	lapic_write_tsc_deadline(lapic, 99); /* another mode: ignored */
	assert_int_equal(lapic_read_tsc_deadline(lapic), 0);
	wr(&m, 0, 0x320, 0x400ef);
	wr(&m, 0, 0x380, 77); /* ignored in this mode */
	assert_int_equal(rd(&m, 0, 0x380), 0);
	lapic_write_tsc_deadline(lapic, 1005000); /* now */
	assert_int_equal(ack(&m, 0), 0xef);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(lapic_read_tsc_deadline(lapic), 0);
	lapic_write_tsc_deadline(lapic, 1006000);
	assert_int_equal(clock_next_deadline(&m.clock), 6000);
	assert_int_equal(lapic_read_tsc_deadline(lapic), 1006000);
	assert_int_equal(rd(&m, 0, 0x390), 0);
	m.cpus[0].tsc_offset = 1000500; /* the guest wrote its TSC */
	lapic_tsc_changed(lapic);
	assert_int_equal(clock_next_deadline(&m.clock), 5500);
	run_to(&m, 5500);
	assert_int_equal(ack(&m, 0), 0xef);
	wr(&m, 0, 0xb0, 0);
	assert_int_equal(lapic_read_tsc_deadline(lapic), 0);
	lapic_write_tsc_deadline(lapic, 0x7000000);
	lapic_write_tsc_deadline(lapic, 0); /* disarms */
	assert_int_equal(clock_next_deadline(&m.clock), CLOCK_NEVER);
	lapic_write_tsc_deadline(lapic, UINT64_MAX);
	assert_true(clock_next_deadline(&m.clock) > UINT64_MAX / 2);
	wr(&m, 0, 0x320, 0xef); /* leaving the mode disarms */
	assert_int_equal(clock_next_deadline(&m.clock), CLOCK_NEVER);
	wr(&m, 0, 0x320, 0x400ef);
	assert_int_equal(lapic_read_tsc_deadline(lapic), 0);
}

static void test_pv_ipi(void **state)
{
	struct machine m;
	setup(&m);
	enable(&m);
	assert_int_equal(lapic_set_send_pv(&m.set, 0xffffffff, 0, 0xffffffff, 0), 0);
	assert_int_equal(lapic_set_send_pv(&m.set, ~0ull, ~0ull, 0, 0xf1), 4);
	assert_int_equal(count_waiting(&m), 15);
	assert_int_equal(lapic_set_send_pv(&m.set, 5, 0, 1, 0xf1), 2);
	assert_int_equal(count_waiting(&m), 10);
	assert_int_equal(lapic_set_send_pv(&m.set, 1, 0, 2, 0x400), 1);
	assert_int_equal(m.cpus[2].nmi, 1);
	assert_int_equal(lapic_set_send_pv(&m.set, 1, 0, 2, 0x8f1), 0);
	assert_int_equal(lapic_set_send_pv(&m.set, 1, 0, 2, 0x800f1), 0);
	wr(&m, 3, 0x20, 70u << 24);
	assert_int_equal(lapic_set_send_pv(&m.set, 0, 1 << 6, 0, 0xf1), 1);
	assert_int_equal(ack(&m, 3), 0xf1);
}

static void test_set_limits(void **state)
{
	static struct lapic lapics[LAPIC_MAX + 1];
	struct clock clock;
	struct lapic_set set;
	struct lapic_cpu_ops none = { 0 };
	clock_init(&clock);
	lapic_set_init(&set);
	for (unsigned i = 0; i < LAPIC_MAX; i++)
		assert_true(lapic_init(&lapics[i], &set, &clock, &none, NULL, i, i == 0));
	assert_false(lapic_init(&lapics[LAPIC_MAX], &set, &clock, &none, NULL, 1000, false));
	struct lapic_message message = { .destination = 7, .mode = LAPIC_NMI };
	assert_int_equal(lapic_set_deliver(&set, &message), 1); /* without callbacks too */
	lapic_finish(&lapics[7]);
	lapic_finish(&lapics[7]);
	assert_int_equal(set.count, LAPIC_MAX - 1);
	assert_int_equal(lapic_set_deliver(&set, &message), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_state), cmocka_unit_test(test_base_transitions), cmocka_unit_test(test_x2apic_registers),
		cmocka_unit_test(test_priorities), cmocka_unit_test(test_physical_destinations),
		cmocka_unit_test(test_logical_destinations), cmocka_unit_test(test_x2apic_destinations),
		cmocka_unit_test(test_other_messages), cmocka_unit_test(test_lowest_priority), cmocka_unit_test(test_level_and_eoi),
		cmocka_unit_test(test_errors), cmocka_unit_test(test_pins), cmocka_unit_test(test_timer_counts),
		cmocka_unit_test(test_timer_masked), cmocka_unit_test(test_deadline), cmocka_unit_test(test_pv_ipi),
		cmocka_unit_test(test_set_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
