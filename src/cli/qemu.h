/* QEMU's options, as far as they mean something here; each refusal is one line that says what to do instead. */
#ifndef UMBRA_CLI_QEMU_H
#define UMBRA_CLI_QEMU_H

#include "cli/settings.h"

/* Whether a program of this name (argv[0]) is a stand-in for QEMU. */
bool qemu_is_name(const char *program);
/* "help" or "?". */
bool qemu_asks_for_list(const char *value);
/* Rows of the table of options, see opt.h. */
bool qemu_serial(struct settings *settings, const char *option, const char *value);
bool qemu_device(struct settings *settings, const char *option, const char *value);
bool qemu_machine(struct settings *settings, const char *option, const char *value);
bool qemu_accel(struct settings *settings, const char *option, const char *value);
bool qemu_enable_kvm(struct settings *settings, const char *option, const char *value);
bool qemu_debugcon(struct settings *settings, const char *option, const char *value);
bool qemu_none(struct settings *settings, const char *option, const char *value);
bool qemu_vga(struct settings *settings, const char *option, const char *value);
bool qemu_ignored(struct settings *settings, const char *option, const char *value);
/* Writes the devices, or the machines, to standard output. */
void qemu_list_devices(void);
void qemu_list_machines(void);
/* The text for umbra_config.cpu: the forced-emulation prefix and KVM's hypercalls are on, unless the caller's text says otherwise. */
void qemu_cpu_text(const char *cpu, char *ret_text, unsigned size);

#endif
