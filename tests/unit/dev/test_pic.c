/* The 8259 pair: initialization, priorities, cascade, modes, spurious interrupts, polling, edges and levels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/pic.h"

static void out(struct pic *pic, unsigned port, uint8_t value)
{
	const struct bus_ops *ops = port < 0xa0 ? &pic_master_ops : port < 0x400 ? &pic_slave_ops : &pic_elcr_ops;
	ops->write(pic, port & 1, 1, value);
}

static uint8_t in(struct pic *pic, unsigned port)
{
	const struct bus_ops *ops = port < 0xa0 ? &pic_master_ops : port < 0x400 ? &pic_slave_ops : &pic_elcr_ops;
	return (uint8_t)ops->read(pic, port & 1, 1);
}

static void pulse(struct pic *pic, unsigned n)
{
	pic_set_line(pic, n, true);
	pic_set_line(pic, n, false);
}

static void start(struct pic *pic)
{
	pic_init(pic);
	pic_program(pic, 0x08, 0x70, 0);
}

static void test_edge(void **state)
{
	struct pic pic;
	start(&pic);
	assert_false(pic_pending(&pic));
	pulse(&pic, 3);
	assert_true(pic_pending(&pic)); /* stays although the line fell */
	assert_int_equal(in(&pic, 0x20), 0x08);
	assert_int_equal(pic_ack(&pic), 0x0b);
	assert_false(pic_pending(&pic));
	out(&pic, 0x20, 0x0b);
	assert_int_equal(in(&pic, 0x20), 0x08);
	pulse(&pic, 3); /* the same again waits for the EOI */
	assert_false(pic_pending(&pic));
	pulse(&pic, 5);
	assert_false(pic_pending(&pic));
	pulse(&pic, 1); /* higher: nests */
	assert_int_equal(pic_ack(&pic), 0x09);
	out(&pic, 0x20, 0x20);
	assert_false(pic_pending(&pic));
	out(&pic, 0x20, 0x20);
	assert_int_equal(pic_ack(&pic), 0x0b);
	out(&pic, 0x20, 0x63); /* specific EOI */
	assert_int_equal(pic_ack(&pic), 0x0d);
	/* A line that stays high is one edge. */
	start(&pic);
	pic_set_line(&pic, 4, true);
	pic_set_line(&pic, 4, true);
	assert_int_equal(pic_ack(&pic), 0x0c);
	out(&pic, 0x20, 0x20);
	assert_false(pic_pending(&pic));
}

static void test_cascade_and_mask(void **state)
{
	struct pic pic;
	start(&pic);
	out(&pic, 0xa1, 0xf7); /* all but IRQ 11 */
	assert_int_equal(in(&pic, 0xa1), 0xf7);
	pulse(&pic, 12);
	assert_false(pic_pending(&pic));
	pulse(&pic, 11);
	assert_true(pic_pending(&pic));
	assert_int_equal(pic_ack(&pic), 0x73);
	out(&pic, 0xa1, 0);
	assert_false(pic_pending(&pic)); /* 12 is below 11, which is in service */
	out(&pic, 0xa0, 0x20);
	assert_false(pic_pending(&pic)); /* the first chip still serves input 2 */
	out(&pic, 0x20, 0x20);
	assert_int_equal(pic_ack(&pic), 0x74);
	pic_set_line(&pic, 2, true); /* not connected */
	pic_set_line(&pic, 99, true);
	assert_int_equal(in(&pic, 0x20), 0);
}

static void test_spurious(void **state)
{
	struct pic pic;
	start(&pic);
	pulse(&pic, 3);
	out(&pic, 0x21, 0xff);
	assert_false(pic_pending(&pic));
	assert_int_equal(pic_ack(&pic), 0x0f);
	out(&pic, 0x20, 0x0b);
	assert_int_equal(in(&pic, 0x20), 0);
	/* Of the second chip: the first one serves input 2 all the same. */
	start(&pic);
	out(&pic, 0x4d1, 0x08);
	pic_set_line(&pic, 11, true);
	assert_true(pic_pending(&pic));
	pic.chips[1].imr = 0xff; /* withdrawn between request and acknowledgement */
	assert_int_equal(pic_ack(&pic), 0x77);
	out(&pic, 0x20, 0x0b);
	assert_int_equal(in(&pic, 0x20), 0x04);
}

static void test_level(void **state)
{
	struct pic pic;
	start(&pic);
	out(&pic, 0x4d0, 0xff);
	out(&pic, 0x4d1, 0xff);
	assert_int_equal(in(&pic, 0x4d0), 0xf8);
	assert_int_equal(in(&pic, 0x4d1), 0xde);
	pic_set_line(&pic, 5, true);
	assert_int_equal(pic_ack(&pic), 0x0d);
	out(&pic, 0x20, 0x20);
	assert_true(pic_pending(&pic)); /* still high */
	pic_set_line(&pic, 5, false);
	assert_false(pic_pending(&pic));
}

static void test_modes(void **state)
{
	struct pic pic;
	pic_init(&pic);
	out(&pic, 0x20, 0x11);
	out(&pic, 0x21, 0x20);
	pulse(&pic, 1);
	assert_false(pic_pending(&pic)); /* not before it is initialized */
	out(&pic, 0x21, 0x04);
	out(&pic, 0x21, 0x03); /* automatic EOI */
	assert_true(pic_pending(&pic)); /* the edge came after ICW1, so it was not forgotten */
	assert_int_equal(pic_ack(&pic), 0x21);
	out(&pic, 0x20, 0x0b);
	assert_int_equal(in(&pic, 0x20), 0);
	/* Rotation: what was acknowledged becomes the lowest. */
	out(&pic, 0x20, 0x80);
	pulse(&pic, 1);
	assert_int_equal(pic_ack(&pic), 0x21);
	pulse(&pic, 1);
	pulse(&pic, 4);
	assert_int_equal(pic_ack(&pic), 0x24);
	assert_int_equal(pic_ack(&pic), 0x21);
	out(&pic, 0x20, 0x00); /* rotation off */
	pulse(&pic, 1);
	pulse(&pic, 4);
	assert_int_equal(pic_ack(&pic), 0x24); /* 1 is still the lowest */
	assert_int_equal(pic_ack(&pic), 0x21);
	start(&pic);
	out(&pic, 0x20, 0xc3); /* set priority: 3 lowest, 4 highest */
	pulse(&pic, 3);
	pulse(&pic, 4);
	assert_int_equal(pic_ack(&pic), 0x0c);
	out(&pic, 0x20, 0xa0); /* rotate on EOI: 4 lowest */
	pulse(&pic, 4);
	assert_int_equal(pic_ack(&pic), 0x0b);
	/* Special mask: a masked input in service does not hold back lower ones. */
	start(&pic);
	pulse(&pic, 1);
	pic_ack(&pic);
	pulse(&pic, 6);
	assert_false(pic_pending(&pic));
	out(&pic, 0x20, 0x68);
	out(&pic, 0x21, 0x02);
	assert_int_equal(pic_ack(&pic), 0x0e);
	/* Special fully nested: a higher input of the second chip gets through. */
	pic_init(&pic);
	pic_program(&pic, 8, 0x70, 0);
	pic.chips[0].fully_nested = true;
	pulse(&pic, 12);
	assert_int_equal(pic_ack(&pic), 0x74);
	pulse(&pic, 9);
	assert_int_equal(pic_ack(&pic), 0x71);
}

static void test_poll(void **state)
{
	struct pic pic;
	start(&pic);
	out(&pic, 0x20, 0x0c);
	assert_int_equal(in(&pic, 0x20), 0);
	pulse(&pic, 6);
	out(&pic, 0x20, 0x0c);
	assert_int_equal(in(&pic, 0x20), 0x86);
	assert_false(pic_pending(&pic));
	out(&pic, 0x20, 0x0b);
	assert_int_equal(in(&pic, 0x20), 0x40);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_edge), cmocka_unit_test(test_cascade_and_mask),
					    cmocka_unit_test(test_spurious), cmocka_unit_test(test_level),
					    cmocka_unit_test(test_modes), cmocka_unit_test(test_poll) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
