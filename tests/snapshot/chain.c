/*
 * Two machines run the same image. One is left alone; the other is saved, destroyed and restored again and again, in turns under either
 * MMU mode, so that every link of the chain goes on from a snapshot of the one before. At each boundary both must have the same digest.
 *
 * usage: chain IMAGE FROM STRIDE COUNT [-cpu MODEL] [-append TEXT] [-smp N] [-m MIB] [-empty]
 *   FROM    instructions before the first boundary
 *   STRIDE  instructions between two boundaries; with 1, every boundary is tried
 *   -empty  the machine that is left alone has its TLBs emptied at each boundary (its registers are set to what they are), as the
 *           snapshot's are: for guests that leave out flushes
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umbra/umbra.h>

struct options {
	const char *image, *cpu, *append;
	uint64_t from, stride, count;
	unsigned cpus;
	uint64_t memory;
	bool empty;
};

struct bytes {
	uint8_t *at;
	size_t length, capacity, read;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "chain: %s: %s\n", what, why);
	exit(2);
}

static void grow(struct bytes *bytes, size_t length)
{
	while (bytes->length + length > bytes->capacity) {
		bytes->capacity = bytes->capacity ? 2 * bytes->capacity : 1 << 20;
		bytes->at = realloc(bytes->at, bytes->capacity);
		if (!bytes->at)
			die("memory", "none is left");
	}
}

static bool put(void *opaque, const void *from, size_t length)
{
	struct bytes *bytes = opaque;

	grow(bytes, length);
	memcpy(bytes->at + bytes->length, from, length);
	bytes->length += length;
	return true;
}

static size_t get(void *opaque, void *to, size_t length)
{
	struct bytes *bytes = opaque;
	size_t left = bytes->length - bytes->read, some = length < left ? length : left;

	memcpy(to, bytes->at + bytes->read, some);
	bytes->read += some;
	return some;
}

static struct bytes read_image(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct bytes bytes = {NULL};
	char piece[65536];
	size_t some;

	if (!file)
		die(path, "cannot be read");
	while ((some = fread(piece, 1, sizeof(piece), file)))
		put(&bytes, piece, some);
	fclose(file);
	return bytes;
}

static struct umbra_vm *boot(const struct options *options, const struct bytes *bytes)
{
	struct umbra_config config;
	struct umbra_image image;
	struct umbra_error error;

	umbra_config_init(&config);
	config.memory = options->memory;
	config.cpus = options->cpus;
	config.cpu = options->cpu;
	struct umbra_vm *vm = umbra_vm_create(&config, &error);
	if (!vm)
		die("machine", error.text);
	umbra_image_init(&image);
	image.name = options->image;
	image.bytes = bytes->at;
	image.length = bytes->length;
	image.cmdline = options->append;
	if (!umbra_vm_load(vm, &image, &error))
		die(options->image, error.text);
	return vm;
}

/* False: the guest has ended. */
static bool go(struct umbra_vm *vm, uint64_t instructions)
{
	struct umbra_run_limits limits = {.size = sizeof(limits), .instructions = instructions};

	return umbra_vm_run(vm, &limits).reason == UMBRA_END_TIMEOUT;
}

static void empty(struct umbra_vm *vm)
{
	for (unsigned n = 0; n < umbra_vm_cpu_count(vm); n++) {
		struct umbra_sregs sregs;
		umbra_vcpu_get_sregs(umbra_vm_cpu(vm, n), &sregs);
		umbra_vcpu_set_sregs(umbra_vm_cpu(vm, n), &sregs, NULL);
	}
}

/* Destroys the machine; the one that is returned goes on in its place. */
static struct umbra_vm *replace(struct umbra_vm *vm, enum umbra_mmu_mode mode, struct bytes *snapshot)
{
	struct umbra_config config;
	struct umbra_error error;

	snapshot->length = snapshot->read = 0;
	if (!umbra_vm_save_to(vm, put, snapshot, &error))
		die("save", error.text);
	umbra_vm_destroy(vm);
	umbra_restore_init(&config);
	config.mmu = mode;
	vm = umbra_vm_restore_from(get, snapshot, &config, &error);
	if (!vm)
		die("restore", error.text);
	return vm;
}

static struct options parse(int argc, char **argv)
{
	struct options options = {.cpus = 1, .memory = 32 << 20};

	if (argc < 5)
		die("usage", "chain IMAGE FROM STRIDE COUNT [-cpu MODEL] [-append TEXT] [-smp N] [-m MIB] [-empty]");
	options.image = argv[1];
	options.from = strtoull(argv[2], NULL, 0);
	options.stride = strtoull(argv[3], NULL, 0);
	options.count = strtoull(argv[4], NULL, 0);
	for (int n = 5; n < argc; n++) {
		const char *value = n + 1 < argc ? argv[n + 1] : "";
		if (!strcmp(argv[n], "-empty")) {
			options.empty = true;
			continue;
		}
		n++;
		if (!strcmp(argv[n - 1], "-cpu"))
			options.cpu = value;
		else if (!strcmp(argv[n - 1], "-append"))
			options.append = value;
		else if (!strcmp(argv[n - 1], "-smp"))
			options.cpus = (unsigned)strtoul(value, NULL, 0);
		else if (!strcmp(argv[n - 1], "-m"))
			options.memory = strtoull(value, NULL, 0) << 20;
		else
			die(argv[n - 1], "unknown option");
	}
	return options;
}

int main(int argc, char **argv)
{
	const struct options options = parse(argc, argv);
	struct bytes image = read_image(options.image), snapshot = {NULL};
	struct umbra_vm *alone = boot(&options, &image), *link = boot(&options, &image);
	uint64_t nested = 0, first = 0, boundaries = 0;
	bool same = true;

	go(alone, options.from);
	go(link, options.from);
	while (same && boundaries < options.count) {
		link = replace(link, boundaries & 1 ? UMBRA_MMU_SHADOW : UMBRA_MMU_TDP, &snapshot);
		if (options.empty)
			empty(alone);
		boundaries++;
		same = umbra_vm_digest(alone) == umbra_vm_digest(link);
		struct umbra_nested state;
		umbra_vcpu_get_nested(umbra_vm_cpu(link, 0), &state);
		if ((state.flags & UMBRA_NESTED_GUEST_MODE) && !nested++)
			first = umbra_vm_instructions(link);
		bool more = go(alone, options.stride);
		if (go(link, options.stride) != more || !more)
			break;
	}
	same = same && umbra_vm_digest(alone) == umbra_vm_digest(link);
	printf("%s: %" PRIu64 " boundaries up to instruction %" PRIu64 ": %s\n", options.image, boundaries, umbra_vm_instructions(alone),
	       same ? "equal" : "NOT EQUAL");
	if (nested)
		printf("%" PRIu64 " of them in a nested guest, the first at instruction %" PRIu64 "\n", nested, first);
	if (umbra_vm_end(alone).reason != UMBRA_END_TIMEOUT)
		printf("the guest ended: %s\n", umbra_vm_end(alone).text);
	umbra_vm_destroy(alone);
	umbra_vm_destroy(link);
	free(image.at);
	free(snapshot.at);
	return !same;
}
