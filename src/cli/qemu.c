/* What QEMU's options mean here, see qemu.h. Works with opt_table.c, whose rows these functions stand in. */
#include "cli/qemu.h"

#include <stdio.h>
#include <string.h>

#include "cli/message.h"
#include "cli/value.h"

bool qemu_is_name(const char *program)
{
	const char *slash = strrchr(program, '/');
	return strstr(slash ? slash + 1 : program, "qemu");
}

bool qemu_asks_for_list(const char *value)
{
	return !strcmp(value, "help") || !strcmp(value, "?");
}

bool qemu_ignored(struct settings *settings, const char *option, const char *value)
{
	return true;
}

bool qemu_none(struct settings *settings, const char *option, const char *value)
{
	return !strcmp(value, "none") ||
	       message_false("%s %s: there is nothing of that kind; say %s none", option, value, option);
}

bool qemu_vga(struct settings *settings, const char *option, const char *value)
{
	return !strcmp(value, "none") || !strcmp(value, "std") ||
	       message_false("%s %s: there is text memory only; say %s std", option, value, option);
}

bool qemu_serial(struct settings *settings, const char *option, const char *value)
{
	settings->serial = !strcmp(value, "stdio") || !strcmp(value, "mon:stdio");
	return settings->serial || !strcmp(value, "null") || !strcmp(value, "none") ||
	       message_false("%s %s: the serial port is standard input and output, or nothing; say stdio or null", option, value);
}

bool qemu_debugcon(struct settings *settings, const char *option, const char *value)
{
	settings->debug_console = !strcmp(value, "stdio") || !strcmp(value, "mon:stdio");
	return settings->debug_console || !strcmp(value, "null") || !strcmp(value, "none") ||
	       message_false("%s %s: the debug console is standard output, or nothing; say stdio or null", option, value);
}

/* ---- accelerators and machines ---------------------------------------------------------------------------------------------- */

/*
 * The runner of kvm-unit-tests asks for KVM wherever the host has it, and leaves no other choice than to say so; it takes a line with the
 * word "warning" for no failure.
 */
static bool refuse_accelerator(const struct settings *settings, const char *option, const char *name)
{
	if (settings->qemu) {
		message_error("warning: %s%s: no accelerator is used, umbra executes the guest itself", option, name);
		return true;
	}
	return message_false("%s%s: no accelerator is used, umbra executes the guest itself; leave the option out or say tcg",
			     option, name);
}

/* QEMU takes a list of accelerators, separated by colons, and uses the first that works. */
static bool accelerator_is_ours(const char *value)
{
	char names[64];
	const char *list = value;

	if (!value_item(&list, names, sizeof(names)))
		return false;
	for (char *at = names, *end; at; at = end) {
		end = strchr(at, ':');
		if (end)
			*end++ = 0;
		if (!strcmp(at, "tcg") || !strcmp(at, "interp"))
			return true;
	}
	return false;
}

bool qemu_accel(struct settings *settings, const char *option, const char *value)
{
	char text[80];

	snprintf(text, sizeof(text), " %s", value);
	return accelerator_is_ours(value) || refuse_accelerator(settings, option, text);
}

bool qemu_enable_kvm(struct settings *settings, const char *option, const char *value)
{
	return refuse_accelerator(settings, option, "");
}

static bool machine_is_known(const char *name)
{
	static const char *const names[] = {"pc", "q35", "pc-i440fx", "pc-q35", "isapc", "microvm"};
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		size_t length = strlen(names[n]);
		if (!strncmp(name, names[n], length) && (!name[length] || name[length] == '-'))
			return true;
	}
	return false;
}

/* Of the properties only the accelerator matters; the others name parts that this machine has, or has not, whatever they say. */
bool qemu_machine(struct settings *settings, const char *option, const char *value)
{
	const char *list = value;
	char item[80];

	if (qemu_asks_for_list(value)) {
		settings->listing = LIST_MACHINES;
		return true;
	}
	while (value_item(&list, item, sizeof(item))) {
		const char *name = strncmp(item, "type=", 5) ? item : item + 5;
		if (!strncmp(item, "accel=", 6)) {
			if (!accelerator_is_ours(item + 6) && !refuse_accelerator(settings, option, ""))
				return false;
		} else if ((name != item || !strchr(item, '=')) && !machine_is_known(name)) {
			return message_false("%s %s: no such machine; there is one, call it pc or q35", option, name);
		}
	}
	return !*list || message_false("%s: a property is too long; leave it out", option);
}

void qemu_list_machines(void)
{
	printf("Supported machines are:\npc                   the machine (default)\nq35                  the same\n");
}

/* ---- devices ---------------------------------------------------------------------------------------------------------------- */

struct device_row {
	const char *name, *bus, *help;
	const char *iobase; /* where it has to be, NULL if that is nobody's business */
};

static const struct device_row devices[] = {
	{"isa-debug-exit", "ISA", "ends the run: status (value << 1) | 1", "0xf4"},
	{"isa-debugcon", "ISA", "debug console", "0xe9"},
	{"isa-serial", "ISA", "the first serial port", "0x3f8"},
	{"pc-testdev", "ISA", "test device of kvm-unit-tests, always present", NULL},
	{"pci-testdev", "PCI", "accepted; there is no PCI bus for it to be found on", NULL},
	{"VGA", "PCI", "accepted; text memory is always present", NULL},
};

static const char *device_name(unsigned n)
{
	return n < sizeof(devices) / sizeof(devices[0]) ? devices[n].name : NULL;
}

void qemu_list_devices(void)
{
	for (size_t n = 0; n < sizeof(devices) / sizeof(devices[0]); n++)
		printf("name \"%s\", bus %s, desc \"%s\"\n", devices[n].name, devices[n].bus, devices[n].help);
}

static bool check_iobase(const struct device_row *row, const char *option, const char *list)
{
	char item[80];
	uint64_t asked, have;

	while (value_item(&list, item, sizeof(item))) {
		if (strncmp(item, "iobase=", 7) || !row->iobase)
			continue;
		if (!value_number(item + 7, &asked) || !value_number(row->iobase, &have) || asked != have)
			return message_false("%s %s: %s is impossible here; say iobase=%s", option, row->name, item, row->iobase);
	}
	return true;
}

bool qemu_device(struct settings *settings, const char *option, const char *value)
{
	const char *list = value;
	char name[80];

	if (qemu_asks_for_list(value)) {
		settings->listing = LIST_DEVICES;
		return true;
	}
	if (!value_item(&list, name, sizeof(name)))
		return message_false("%s: the device has no name; '%s help' lists them", option, option);
	for (size_t n = 0; n < sizeof(devices) / sizeof(devices[0]); n++) {
		if (strcmp(devices[n].name, name))
			continue;
		if (n == 0)
			settings->debug_exit = true;
		return check_iobase(&devices[n], option, list);
	}
	const char *nearest = value_nearest(name, device_name);
	return message_false("%s %s: no such device; %s%s%s", option, name, nearest ? "did you mean " : "",
			     nearest ? nearest : option, nearest ? "?" : " help lists them");
}

/* ---- processors ------------------------------------------------------------------------------------------------------------- */

void qemu_cpu_text(const char *cpu, char *ret_text, unsigned size)
{
	const char *comma = strchr(cpu, ',');
	int name = comma ? (int)(comma - cpu) : (int)strlen(cpu);

	snprintf(ret_text, size, "%.*s,+fep,+kvm-hypercall%s", name, cpu, comma ? comma : "");
}
