/*
 * Nested guests for test_toctou.c, of many kinds: without and with nested paging, in each mode, with events that VMRUN injects or that
 * wait, leaving by instructions, faults and arrivals, or refused.
 */
#ifndef UMBRA_TEST_SVM_TOCTOU_GUESTS_H
#define UMBRA_TEST_SVM_TOCTOU_GUESTS_H

#include "nested.h"

#define TOCTOU_IO_MAP 0x153000u
#define TOCTOU_MSR_MAP 0x156000u
#define TOCTOU_STATE_PAGE 0x158000u /* of VMLOAD and VMSAVE */
/* The guests use nothing outside of these two pieces of RAM. */
#define TOCTOU_LOW_END 0x40000u
#define TOCTOU_HIGH_BEGIN 0x100000u
#define TOCTOU_HIGH_END 0x160000u

struct toctou_guest {
	const char *name;
	void (*prepare)(struct fixture *f); /* on top of nested_rewind(), each time */
	uint64_t exit_code;
};
extern const struct toctou_guest toctou_guests[];
extern const unsigned toctou_guest_count;

/* Some of them by name, and what they are made of. */
void toctou_intercept(struct fixture *f, unsigned number);
void toctou_port(struct fixture *f);
void toctou_register(struct fixture *f);
void toctou_exception(struct fixture *f);
void toctou_cut_off(struct fixture *f);
#define TOCTOU_CODE(f, ...) \
	fixture_code_at(f, NESTED_CODE, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#endif
