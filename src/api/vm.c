/* A machine for the client: umbra/vm.h over vm/ and view/. The machine itself is struct machine; this adds symbols and records. */
#include "api/internal.h"

#include <string.h>

#include "base/alloc.h"

#define KIB_FLAT 0x7c00

_Static_assert((int)UMBRA_END_BUG == (int)END_BUG && (int)UMBRA_END_EXIT == (int)END_EXIT && (int)UMBRA_END_HALTED == (int)END_HALTED,
	       "ends are the same");
_Static_assert(UMBRA_MAX_CPUS == MACHINE_MAX_CPUS && UMBRA_MAX_MEMORY == MACHINE_MAX_MEMORY, "limits are the same");
_Static_assert(UMBRA_INPUT_END == MACHINE_INPUT_END && UMBRA_INPUT_NONE == MACHINE_INPUT_NONE, "input answers are the same");
_Static_assert((int)UMBRA_MMU_SHADOW == (int)MMU_SHADOW, "modes are the same");
_Static_assert((int)UMBRA_SMRAM_NONE == (int)MACHINE_SMRAM_NONE && (int)UMBRA_SMRAM_TSEG == (int)MACHINE_SMRAM_TSEG, "kinds are the same");

/* ---- configuration ------------------------------------------------------------------------------------------------------ */

void umbra_config_init_sized(struct umbra_config *config, size_t size)
{
	struct machine_config usual;
	struct umbra_config full = {.size = size};

	machine_config_init(&usual);
	full.board = usual.board;
	full.memory = usual.memory;
	full.cpus = usual.cpus;
	full.debug_exit = usual.debug_exit;
	full.rtc_seconds = usual.rtc_seconds;
	memset(config, 0, size);
	memcpy(config, &full, MIN(size, sizeof(full)));
}

static void output(void *opaque, enum machine_console console, const void *bytes, size_t length)
{
	struct umbra_vm *vm = opaque;
	vm->output(vm->opaque, console == MACHINE_CONSOLE_SERIAL ? UMBRA_CONSOLE_SERIAL : UMBRA_CONSOLE_DEBUG, bytes, length);
}

static int input(void *opaque, bool wait)
{
	struct umbra_vm *vm = opaque;
	return vm->input(vm->opaque, wait);
}

static uint64_t outside_time(void *opaque)
{
	struct umbra_vm *vm = opaque;
	return vm->time(vm->opaque);
}

static void outside_sleep(void *opaque, uint64_t nanoseconds)
{
	struct umbra_vm *vm = opaque;
	vm->sleep(vm->opaque, nanoseconds);
}

static struct machine_config translate_config(struct umbra_vm *vm, const struct umbra_config *config)
{
	vm->output = config->output;
	vm->input = config->input;
	vm->time = config->time;
	vm->sleep = config->sleep;
	vm->opaque = config->opaque;
	return (struct machine_config){
		.board = config->board, .memory = config->memory, .cpus = config->cpus, .cpu = config->cpu,
		.cpu_is_qemu = config->qemu_cpu_names, .mmu_mode = (enum mmu_mode)config->mmu, .debug_exit = config->debug_exit,
		.unclaimed_exits = config->unclaimed_exits, .check_interval = config->check_interval,
		.shadow_page_quota = config->shadow_page_quota, .host_fpu = config->host_fpu,
		.smram = (enum machine_smram)config->smram, .tlb_entries = config->tlb_entries,
		.tlb_banks = config->tlb_banks, .rtc_seconds = config->rtc_seconds, .output = config->output ? output : NULL,
		.input = config->input ? input : NULL, .time = config->time ? outside_time : NULL,
		.wait = config->sleep ? outside_sleep : NULL, .opaque = vm,
	};
}

/* A client that was built with an older library has a shorter structure: what it lacks has its usual value. */
static bool copy_config(const struct umbra_config *config, struct umbra_config *ret, struct umbra_error *error)
{
	umbra_config_init(ret);
	if (config->size < offsetof(struct umbra_config, memory) || config->size > 4096)
		return api_refuse(error, "config: size %zu is not that of a struct umbra_config; call umbra_config_init", config->size);
	memcpy(ret, config, MIN(config->size, sizeof(*ret)));
	return true;
}

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static bool create_vcpus(struct umbra_vm *vm)
{
	unsigned count = vm->machine->count;

	vm->vcpus = mem_zalloc(count, sizeof(*vm->vcpus));
	vm->processors = mem_zalloc(count, sizeof(*vm->processors));
	if (!vm->vcpus || !vm->processors)
		return false;
	for (unsigned n = 0; n < count; n++) {
		vm->vcpus[n] = (struct umbra_vcpu){.vm = vm, .cpu = &vm->machine->cpus[n]};
		vm->processors[n] = vm->machine->cpus[n].v;
	}
	return true;
}

struct umbra_vm *api_create(const struct umbra_config *config, api_make_function *make, const void *opaque, struct umbra_error *error)
{
	struct umbra_config full;
	struct err err = {.code = ERR_NONE};

	if (!copy_config(config, &full, error))
		return NULL;
	struct umbra_vm *vm = mem_zalloc(1, sizeof(*vm));
	if (vm) {
		struct machine_config inner = translate_config(vm, &full);
		vm->machine = make(&inner, opaque, &err);
		if (vm->machine && create_vcpus(vm))
			return vm;
	}
	if (err.code == ERR_NONE)
		err_set(&err, ERR_INTERNAL, "machine: the host has no memory for it");
	api_fail(error, &err);
	umbra_vm_destroy(vm);
	return NULL;
}

static struct machine *make_new(const struct machine_config *config, const void *opaque, struct err *err)
{
	return machine_create(config, err);
}

struct umbra_vm *umbra_vm_create(const struct umbra_config *config, struct umbra_error *error)
{
	return api_create(config, make_new, NULL, error);
}

void umbra_vm_destroy(struct umbra_vm *vm)
{
	if (!vm)
		return;
	machine_destroy(vm->machine);
	symbols_destroy(vm->symbols);
	mem_free(vm->vcpus);
	mem_free(vm->processors);
	mem_free(vm);
}

unsigned umbra_vm_cpu_count(const struct umbra_vm *vm)
{
	return vm->machine->count;
}

struct umbra_vcpu *umbra_vm_cpu(struct umbra_vm *vm, unsigned index)
{
	return index < vm->machine->count ? &vm->vcpus[index] : NULL;
}

_Static_assert(offsetof(struct umbra_image, entry) >= offsetof(struct umbra_image, module_count) + sizeof(void *),
	       "an older client's structure ends before the field");

/* ---- loading ------------------------------------------------------------------------------------------------------------ */

void umbra_image_init_sized(struct umbra_image *image, size_t size)
{
	struct umbra_image full = {.size = size, .flat_address = KIB_FLAT};

	memset(image, 0, size);
	memcpy(image, &full, MIN(size, sizeof(full)));
}

static bool copy_image(const struct umbra_image *image, struct umbra_image *ret, struct umbra_error *error)
{
	umbra_image_init(ret);
	if (image->size < offsetof(struct umbra_image, kind) || image->size > 4096)
		return api_refuse(error, "image: size %zu is not that of a struct umbra_image; call umbra_image_init", image->size);
	memcpy(ret, image, MIN(image->size, sizeof(*ret)));
	if (!ret->name)
		ret->name = "kernel";
	if (!ret->bytes && ret->length)
		return api_refuse(error, "%s: has a length but no bytes", ret->name);
	if (ret->module_count > LOAD_MAX_MODULES || (ret->module_count && !ret->modules))
		return api_refuse(error, "%s: %u modules; at most %u", ret->name, ret->module_count, LOAD_MAX_MODULES);
	return true;
}

static bool make_request(const struct umbra_image *image, struct load_module modules[LOAD_MAX_MODULES], struct load_request *ret,
			 struct umbra_error *error)
{
	*ret = (struct load_request){
		.name = image->name, .bytes = image->bytes, .length = image->length, .kind = IMAGE_AUTO,
		.flat_address = image->flat_address, .cmdline = image->cmdline, .modules = modules, .module_count = image->module_count,
	};
	if (image->entry && image->entry != 32 && image->entry != 64)
		return api_refuse(error, "%s: there is no entry %llu; say 32 or 64", image->name, (unsigned long long)image->entry);
	ret->entry = image->entry == 32 ? LOAD_ENTRY_32 : image->entry == 64 ? LOAD_ENTRY_64 : LOAD_ENTRY_AUTO;
	if (image->kind && !image_kind_from_name(image->kind, &ret->kind))
		return api_refuse(error, "%s: there is no kind of image called \"%s\"", image->name, image->kind);
	for (unsigned n = 0; n < image->module_count; n++)
		modules[n] = (struct load_module){image->modules[n].text, image->modules[n].bytes, image->modules[n].length};
	return true;
}

/* A flat image is taken as it is; of any other kind, a gzip file holds one. */
static bool unpack(const struct umbra_vm *vm, struct load_request *request, uint8_t **ret_owned, struct umbra_error *error)
{
	struct err err = {.code = ERR_NONE};

	*ret_owned = NULL;
	if (request->kind == IMAGE_FLAT || !image_is_packed(request->bytes, request->length))
		return true;
	if (!image_unpack(request->name, request->bytes, request->length, vm->machine->config.memory, ret_owned, &request->length, &err))
		return api_fail(error, &err);
	request->bytes = *ret_owned;
	return true;
}

bool umbra_vm_load(struct umbra_vm *vm, const struct umbra_image *image, struct umbra_error *error)
{
	struct load_module modules[LOAD_MAX_MODULES];
	struct load_request request;
	struct umbra_image full;
	struct err err = {.code = ERR_NONE};
	uint8_t *owned;

	if (!copy_image(image, &full, error) || !api_at_rest(vm, full.name, error) || !make_request(&full, modules, &request, error) ||
	    !unpack(vm, &request, &owned, error))
		return false;
	API_ENTER(vm, image_release(owned); return api_refuse(error, "%s", vm->machine->end.text));
	bool good = machine_load(vm->machine, &request, &err);
	API_LEAVE();
	if (good) {
		symbols_destroy(vm->symbols);
		vm->symbols = symbols_create(request.bytes, request.length);
	}
	image_release(owned);
	return good || api_fail(error, &err);
}

bool umbra_vm_symbol(const struct umbra_vm *vm, const char *name, uint64_t *ret_address)
{
	return vm->symbols && symbols_find(vm->symbols, name, ret_address);
}

/* ---- running ------------------------------------------------------------------------------------------------------------ */

static struct umbra_end translate_end(const struct machine_end *end)
{
	struct umbra_end result = {
		.reason = (enum umbra_end_reason)end->reason, .exit_status = end->exit_status, .vcpu = end->vcpu, .value = end->value,
	};
	_Static_assert(sizeof(result.text) == sizeof(end->text), "texts are as long");
	memcpy(result.text, end->text, sizeof(result.text));
	return result;
}

static struct machine_limits translate_limits(const struct umbra_run_limits *limits)
{
	struct umbra_run_limits full = {0};

	if (limits)
		memcpy(&full, limits, MIN(limits->size, sizeof(full)));
	bool checkpoints = full.checkpoint && full.checkpoint_interval, saves = full.save && full.save_interval;
	return (struct machine_limits){
		.instructions = full.instructions, .expired = full.expired, .opaque = full.opaque,
		.checkpoint_interval = checkpoints ? full.checkpoint_interval : 0, .checkpoint = full.checkpoint,
		.save_interval = saves ? full.save_interval : 0, .save = full.save,
	};
}

struct umbra_end umbra_vm_run(struct umbra_vm *vm, const struct umbra_run_limits *limits)
{
	struct machine *machine = vm->machine;
	struct machine_limits inner = translate_limits(limits);

	if (!machine->running) { /* a device's function may not run the machine that runs it */
		for (unsigned n = 0; n < machine->count; n++)
			machine_answer(&machine->cpus[n], vm->vcpus[n].exit.data);
		machine_run(machine, &inner);
		for (unsigned n = 0; n < machine->count; n++)
			api_record_exit(&vm->vcpus[n], machine->cpus[n].exit);
	}
	return translate_end(&machine->end);
}

void umbra_vm_stop(struct umbra_vm *vm)
{
	machine_stop(vm->machine);
}

struct umbra_end umbra_vm_end(const struct umbra_vm *vm)
{
	return translate_end(&vm->machine->end);
}

const char *umbra_end_name(enum umbra_end_reason reason)
{
	return machine_end_name((enum machine_end_reason)reason);
}

const char *umbra_cpu_model_name(unsigned n)
{
	return cpu_model_name(n);
}

const char *umbra_cpu_feature_name(unsigned n)
{
	return cpu_feature_name(n);
}

uint64_t umbra_vm_instructions(const struct umbra_vm *vm)
{
	return vm->machine->instructions;
}

uint64_t umbra_vm_ticks(const struct umbra_vm *vm)
{
	return clock_now(&vm->machine->clock);
}

uint64_t umbra_vm_digest(const struct umbra_vm *vm)
{
	return machine_digest(vm->machine);
}

/* ---- reports ------------------------------------------------------------------------------------------------------------ */

void umbra_vm_report(struct umbra_vm *vm, umbra_write_function *write, void *opaque)
{
	struct machine *machine = vm->machine;
	uint8_t screen[VIEW_SCREEN_BYTES];
	struct strbuf text;
	struct view_machine view = {
		.space = &machine->space, .vcpus = vm->processors, .count = machine->count, .subject = machine->end.vcpu,
		.symbols = vm->symbols, .screen = board_screen(machine, screen, sizeof(screen)) ? screen : NULL,
		.end = machine_end_name(machine->end.reason), .reason = machine->end.text,
	};

	strbuf_init(&text);
	API_ENTER(vm, return);
	view_fault_report(&text, &view);
	API_LEAVE();
	api_write(&text, write, opaque);
}

bool umbra_vm_screen(struct umbra_vm *vm, umbra_write_function *write, void *opaque)
{
	uint8_t screen[VIEW_SCREEN_BYTES];
	struct strbuf text;

	strbuf_init(&text);
	bool visible = board_screen(vm->machine, screen, sizeof(screen)) && view_screen(&text, screen);
	api_write(&text, write, opaque);
	return visible;
}
