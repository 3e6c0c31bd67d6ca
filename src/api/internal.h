/* What the files of api/ share: what stands behind the opaque types. */
#ifndef UMBRA_API_INTERNAL_H
#define UMBRA_API_INTERNAL_H

#include <umbra/umbra.h>

#include "base/bug.h"
#include "base/strbuf.h"
#include "load/symbols.h"
#include "view/view.h"
#include "vm/board.h"
#include "vm/vm.h"

#define CLIENT_RANGES_MAX 32
#define CLIENT_NAME_SIZE 24

struct umbra_vcpu {
	struct umbra_vm *vm;
	struct machine_cpu *cpu;
	struct umbra_exit exit;
};

/* A client's device behind a range of a bus. */
struct client_range {
	bool used;
	uint64_t base;
	struct bus *bus;
	struct umbra_device device;
	char name[CLIENT_NAME_SIZE];
};

struct umbra_vm {
	struct machine *machine;
	struct umbra_vcpu *vcpus;
	struct vcpu **processors; /* the same, as view/ takes them */
	struct symbols *symbols;  /* of the loaded image, or NULL */
	struct client_range ranges[CLIENT_RANGES_MAX];
	void (*output)(void *opaque, enum umbra_console console, const void *bytes, size_t length);
	int (*input)(void *opaque, bool wait);
	uint64_t (*time)(void *opaque);
	void (*sleep)(void *opaque, uint64_t nanoseconds);
	void *opaque;
};

/*
 * Around work on a machine that asserts: a bug of ours there leaves the machine dead, and the function returns what `otherwise`
 * says. Variables of the function must not change between the two.
 */
#define API_ENTER(vm, otherwise)                                                    \
	struct bug_trap api_trap;                                                   \
	bug_trap_arm(&api_trap);                                                    \
	if (setjmp(api_trap.env)) {                                                 \
		machine_end_bug((vm)->machine, api_trap.file, api_trap.line, api_trap.what); \
		otherwise;                                                          \
	}
#define API_LEAVE() bug_trap_disarm(&api_trap)

/* A client's machine around one that `make` makes of the configuration. (vm.c) */
typedef struct machine *api_make_function(const struct machine_config *config, const void *opaque, struct err *err);
struct umbra_vm *api_create(const struct umbra_config *config, api_make_function *make, const void *opaque, struct umbra_error *error);

/* Fills *error (may be NULL) from an error of the lower layers; returns false. */
bool api_fail(struct umbra_error *error, const struct err *err);
bool api_refuse(struct umbra_error *error, const char *format, ...) PRINTF_LIKE(2, 3);
/* What the instruction under way has been told is void: it starts anew. (vcpu.c) */
void api_drop_answers(struct umbra_vcpu *vcpu);
/* Whether nothing runs, so that slots, registers and devices may change; otherwise fills *error. */
bool api_at_rest(const struct umbra_vm *vm, const char *what, struct umbra_error *error);
/* Hands a text to the client and releases it. */
void api_write(struct strbuf *text, umbra_write_function *write, void *opaque);
/* Turns the reason of the last turn into the client's record. */
void api_record_exit(struct umbra_vcpu *vcpu, enum run_exit exit);

#endif
