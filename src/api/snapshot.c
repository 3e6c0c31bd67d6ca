/* Snapshots for the client: umbra/snapshot.h over vm/snapshot. */
#include "api/internal.h"

#include <string.h>

#include "vm/snapshot.h"

/* ---- saving ------------------------------------------------------------------------------------------------------------- */

bool umbra_vm_save(struct umbra_vm *vm, const char *path, struct umbra_error *error)
{
	struct err err = {.code = ERR_NONE};

	return api_at_rest(vm, path, error) && (machine_save_file(vm->machine, path, &err) || api_fail(error, &err));
}

bool umbra_vm_save_to(struct umbra_vm *vm, bool (*write)(void *opaque, const void *bytes, size_t length), void *opaque,
		      struct umbra_error *error)
{
	const struct snapshot_sink sink = {.write = write, .opaque = opaque};
	struct err err = {.code = ERR_NONE};

	return api_at_rest(vm, "snapshot", error) && (machine_save(vm->machine, &sink, "snapshot", &err) || api_fail(error, &err));
}

/* ---- restoring ---------------------------------------------------------------------------------------------------------- */

void umbra_restore_init_sized(struct umbra_config *config, size_t size)
{
	umbra_config_init_sized(config, size);
	config->memory = 0;
	config->cpus = 0;
}

static struct machine *from_file(const struct machine_config *config, const void *opaque, struct err *err)
{
	return machine_restore_file(opaque, config, err);
}

static struct machine *from_source(const struct machine_config *config, const void *opaque, struct err *err)
{
	return machine_restore(opaque, config, "snapshot", err);
}

static struct umbra_vm *restore(const struct umbra_config *config, api_make_function *make, const void *opaque, struct umbra_error *error)
{
	struct umbra_config usual;

	if (!config) {
		umbra_restore_init(&usual);
		config = &usual;
	}
	return api_create(config, make, opaque, error);
}

struct umbra_vm *umbra_vm_restore(const char *path, const struct umbra_config *config, struct umbra_error *error)
{
	return restore(config, from_file, path, error);
}

struct umbra_vm *umbra_vm_restore_from(size_t (*read)(void *opaque, void *bytes, size_t length), void *opaque,
				       const struct umbra_config *config, struct umbra_error *error)
{
	const struct snapshot_source source = {.read = read, .opaque = opaque};

	return restore(config, from_source, &source, error);
}
