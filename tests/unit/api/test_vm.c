/* Machines with the PC board: configurations, loading, every way to end, determinism, several machines, input. */
#include "guest.h"

struct host {
	struct text serial, debug;
	const char *input;
	struct umbra_vm *vm;
	unsigned polls;
};

static void output(void *opaque, enum umbra_console console, const void *bytes, size_t length)
{
	struct host *host = opaque;
	collect(console == UMBRA_CONSOLE_SERIAL ? &host->serial : &host->debug, bytes, length);
}

static int input(void *opaque, bool wait)
{
	struct host *host = opaque;
	return *host->input ? *host->input++ : UMBRA_INPUT_END;
}

static struct umbra_vm *board_create(struct host *host, unsigned cpus)
{
	struct umbra_config config;
	struct umbra_error error;

	memset(host, 0, sizeof(*host));
	umbra_config_init(&config);
	config.memory = 2 << 20;
	config.cpus = cpus;
	config.output = output;
	config.opaque = host;
	host->vm = umbra_vm_create(&config, &error);
	assert_non_null(host->vm);
	return host->vm;
}

/* Loads real-mode code at 0x7c00. */
static void load(struct umbra_vm *vm, const void *code, size_t length)
{
	struct umbra_image image;
	struct umbra_error error;

	umbra_image_init(&image);
	image.name = "code";
	image.kind = "flat";
	image.bytes = code;
	image.length = length;
	if (!umbra_vm_load(vm, &image, &error))
		fail_msg("%s", error.text);
}

static struct umbra_end run_code(struct umbra_vm *vm, const void *code, size_t length)
{
	const struct umbra_run_limits limits = {.size = sizeof(limits), .instructions = 100000};
	load(vm, code, length);
	return umbra_vm_run(vm, &limits);
}

static void expect_end(const char *code, size_t length, enum umbra_end_reason reason, int status)
{
	struct host host;
	struct umbra_vm *vm = board_create(&host, 1);
	struct umbra_end end = run_code(vm, code, length);

	assert_int_equal(end.reason, reason);
	assert_int_equal(end.exit_status, status);
	assert_int_equal(umbra_vm_end(vm).reason, reason);
	assert_true(end.text[0] != 0);
	umbra_vm_destroy(vm);
}

#define EXPECT_END(code, reason, status) expect_end(code, sizeof(code) - 1, reason, status)

static void every_end(void **state)
{
	EXPECT_END("\xb0\x05\xe6\xf4\xf4", UMBRA_END_DEBUG_EXIT, 11);                             /* out f4h,5 */
	EXPECT_END("\xba\x04\x06\xb8\x00\x20\xef\xf4", UMBRA_END_POWER_OFF, 0);                   /* out 604h,2000h */
	EXPECT_END("\x0f\x01\x1e\x00\x10\x0f\x0b", UMBRA_END_TRIPLE_FAULT, 100);                  /* lidt of zeros; ud2 */
	EXPECT_END("\xba\x05\x05\xb0\x01\xee\xf4", UMBRA_END_PANIC, 102);                         /* pvpanic */
	EXPECT_END("\xfa\xf4\xeb\xfd", UMBRA_END_HALTED, 104);                                    /* cli; hlt */
	EXPECT_END("\xfb\xf4\xeb\xfd", UMBRA_END_HALTED, 104);                                    /* sti; hlt: but no timer runs */
	EXPECT_END("\xb0\xfe\xe6\x64\xf4", UMBRA_END_RESET, 106);                                 /* the keyboard controller's reset */
	EXPECT_END("\xb0\x01\xe6\x92\xf4", UMBRA_END_RESET, 106);                                 /* port 92h */
	EXPECT_END("\xba\xf9\x0c\xb0\x06\xee\xf4", UMBRA_END_RESET, 106);                         /* port cf9h */
	EXPECT_END("\xeb\xfe", UMBRA_END_TIMEOUT, 124);                                           /* jmp $ */
}

/* A periodic timer that nobody takes: interrupts are off, or its input is masked. */
static void halts_with_a_running_timer(void **state)
{
	EXPECT_END("\xb0\x34\xe6\x43\xb0\xff\xe6\x40\xe6\x40\xfa\xf4\xeb\xfd", UMBRA_END_HALTED, 104);
	EXPECT_END("\xb0\x34\xe6\x43\xb0\xff\xe6\x40\xe6\x40\xfb\xf4\xeb\xfd", UMBRA_END_HALTED, 104);
}

/* The timer's interrupt ends a halt, at the tick that it was programmed for. */
static void timer_wakes_a_halt(void **state)
{
	static const char code[] = "\xb8\x23\x7c\xa3\x20\x00\xc7\x06\x22\x00\x00\x00" /* vector 8 to 0:7c23 */
				   "\xb0\xfe\xe6\x21"                                 /* unmask input 0 */
				   "\xb0\x30\xe6\x43\xb0\x00\xe6\x40\xb0\x80\xe6\x40" /* counter 0: once, 8000h */
				   "\xfb\xf4\xfa\xb0\x01\xe6\xf4"                     /* sti; hlt; cli; out f4h,1 */
				   "\xb0\x02\xe6\xf4\xcf";                            /* 7c23: out f4h,2; iret */
	struct host host;
	struct umbra_vm *vm = board_create(&host, 1);
	struct umbra_end end = run_code(vm, code, sizeof(code) - 1);

	assert_int_equal(end.reason, UMBRA_END_DEBUG_EXIT);
	assert_int_equal(end.value, 2);
	/* 32768 cycles of 1.193182 MHz are 54.925 million ticks of 2 GHz. */
	assert_in_range(umbra_vm_ticks(vm), 54925000, 54928000);
	end = umbra_vm_run(vm, NULL); /* goes on behind the access */
	assert_int_equal(end.value, 1);
	umbra_vm_destroy(vm);
}

static void runs_on_after_limits(void **state)
{
	struct host host;
	struct umbra_vm *vm = board_create(&host, 1);
	struct umbra_run_limits limits = {.size = sizeof(limits), .instructions = 12345};

	load(vm, "\x40\xeb\xfd", 3);
	for (unsigned n = 1; n <= 3; n++) {
		assert_int_equal(umbra_vm_run(vm, &limits).reason, UMBRA_END_TIMEOUT);
		assert_int_equal(umbra_vm_instructions(vm), n * 12345);
	}
	umbra_vm_stop(vm);
	assert_int_equal(umbra_vm_run(vm, NULL).reason, UMBRA_END_STOPPED);
	umbra_vm_destroy(vm);
}

static bool expire_later(void *opaque)
{
	struct host *host = opaque;
	return ++host->polls == 3;
}

static bool stop_from_outside(void *opaque)
{
	struct host *host = opaque;
	if (++host->polls == 2)
		umbra_vm_stop(host->vm);
	return false;
}

static void the_client_ends_a_run(void **state)
{
	struct host host;
	struct umbra_vm *vm = board_create(&host, 2);
	struct umbra_run_limits limits = {.size = sizeof(limits), .expired = expire_later, .opaque = &host};

	load(vm, "\xeb\xfe", 2);
	assert_int_equal(umbra_vm_run(vm, &limits).reason, UMBRA_END_TIMEOUT);
	assert_int_equal(host.polls, 3);
	host.polls = 0;
	limits.expired = stop_from_outside;
	assert_int_equal(umbra_vm_run(vm, &limits).reason, UMBRA_END_STOPPED);
	umbra_vm_destroy(vm);
}

static void consoles(void **state)
{
	static const char code[] = "\xba\xf8\x03\xb0\x73\xee\xb0\x64\xe6\xe9\xb0\x00\xe6\xf4"; /* 's' to 3f8h, 'd' to e9h */
	struct host host;
	struct umbra_vm *vm = board_create(&host, 1);

	run_code(vm, code, sizeof(code) - 1);
	assert_string_equal(host.serial.bytes, "s");
	assert_string_equal(host.debug.bytes, "d");
	umbra_vm_destroy(vm);
}

/* Echoes input until a full stop; while it waits nothing else happens. */
static void input_reaches_the_guest(void **state)
{
	static const char code[] = "\xba\xfd\x03\xec\xa8\x01\x74\xfb\xba\xf8\x03\xec\xee\x3c\x2e\x75\xef\xe6\xf4";
	struct umbra_config config;
	struct umbra_error error;
	struct host host;

	umbra_vm_destroy(board_create(&host, 1));
	umbra_config_init(&config);
	config.memory = 1 << 20;
	config.output = output;
	config.input = input;
	config.opaque = &host;
	host.input = "hello from a person at a terminal.";
	host.vm = umbra_vm_create(&config, &error);
	load(host.vm, code, sizeof(code) - 1);
	assert_int_equal(umbra_vm_run(host.vm, NULL).reason, UMBRA_END_DEBUG_EXIT);
	assert_string_equal(host.serial.bytes, "hello from a person at a terminal.");
	umbra_vm_destroy(host.vm);
}

/* Two machines, run in turns of their own, keep apart and count alike; what one does the other repeats to the instruction. */
static void two_machines(void **state)
{
	struct host first, second;
	struct umbra_vm *a = board_create(&first, 1), *b = board_create(&second, 3);
	struct umbra_run_limits limits = {.size = sizeof(limits), .instructions = 5001};
	struct umbra_regs regs_a, regs_b;

	load(a, "\x40\xeb\xfd", 3);
	load(b, "\x40\xeb\xfd", 3);
	for (unsigned n = 0; n < 10; n++) {
		assert_int_equal(umbra_vm_run(a, &limits).reason, UMBRA_END_TIMEOUT);
		assert_int_equal(umbra_vm_run(b, &limits).reason, UMBRA_END_TIMEOUT);
	}
	umbra_vcpu_get_regs(umbra_vm_cpu(a, 0), &regs_a);
	umbra_vcpu_get_regs(umbra_vm_cpu(b, 0), &regs_b);
	assert_memory_equal(&regs_a, &regs_b, sizeof(regs_a));
	assert_int_equal(umbra_vm_ticks(a), umbra_vm_ticks(b));
	umbra_vm_destroy(a);
	assert_int_equal(umbra_vm_run(b, &limits).reason, UMBRA_END_TIMEOUT);
	umbra_vm_destroy(b);
}

static void bad_configurations(void **state)
{
	struct umbra_config config;
	struct umbra_error error;

#define BAD(change, word)                                           \
	do {                                                        \
		umbra_config_init(&config);                         \
		change;                                             \
		memset(&error, 0, sizeof(error));                   \
		assert_null(umbra_vm_create(&config, &error));      \
		assert_int_equal(error.code, UMBRA_ERROR_USAGE);    \
		assert_non_null(strstr(error.text, word));          \
		assert_null(umbra_vm_create(&config, NULL));        \
	} while (0)
	BAD(config.size = 3, "size");
	BAD(config.memory = 0, "memory");
	BAD(config.memory = UMBRA_MAX_MEMORY + 4096, "memory");
	BAD(config.memory = (1 << 20) + 1, "memory");
	BAD(config.cpus = 0, "cpus");
	BAD(config.cpus = 256, "cpus");
	BAD(config.cpu = "z80", "z80");
	BAD(config.cpu = "amd,+flying", "flying");
	BAD(config.tlb_entries = 3, "tlb");
	BAD(config.tlb_banks = 1, "tlb");
	BAD(config.mmu = (enum umbra_mmu_mode)7, "mmu");
	umbra_vm_destroy(NULL);
}

static void bad_images(void **state)
{
	struct host host;
	struct umbra_vm *vm = board_create(&host, 1);
	struct umbra_image image;
	struct umbra_error error;

	umbra_image_init(&image);
	image.name = "poem.txt";
	image.bytes = "roses are red";
	image.length = 13;
	assert_false(umbra_vm_load(vm, &image, &error));
	assert_int_equal(error.code, UMBRA_ERROR_IMAGE);
	assert_memory_equal(error.text, "poem.txt: ", 10);
	image.kind = "tarball";
	assert_false(umbra_vm_load(vm, &image, &error));
	assert_int_equal(error.code, UMBRA_ERROR_USAGE);
	image.kind = "flat";
	image.flat_address = 0xa0000; /* nobody's memory */
	assert_false(umbra_vm_load(vm, &image, &error));
	assert_int_equal(error.code, UMBRA_ERROR_IMAGE);
	image.size = 1;
	assert_false(umbra_vm_load(vm, &image, &error));
	assert_int_equal(error.code, UMBRA_ERROR_USAGE);
	umbra_vm_destroy(vm);

	struct guest guest = guest_create("\xf4", 1, 1);
	umbra_image_init(&image);
	image.name = "x";
	image.kind = "flat";
	image.bytes = "x";
	image.length = 1;
	assert_false(umbra_vm_load(guest.vm, &image, &error)); /* no board */
	guest_destroy(&guest);
}

static void large_memory_is_sparse(void **state)
{
	struct umbra_config config;
	struct umbra_error error;
	uint64_t value = 0;

	umbra_config_init(&config);
	config.memory = UMBRA_MAX_MEMORY;
	struct umbra_vm *vm = umbra_vm_create(&config, &error);
	assert_non_null(vm);
	assert_true(umbra_mem_write(vm, (61ull << 30) + (4ull << 30) - 8, "12345678", 8)); /* the last bytes: 3 GiB lie below 4 GiB */
	assert_false(umbra_mem_write(vm, (61ull << 30) + (4ull << 30) - 7, "12345678", 8));
	assert_false(umbra_mem_read(vm, 0xc0000000, &value, 8));
	assert_true(umbra_mem_read(vm, 0xbffffff8, &value, 8));
	umbra_vm_destroy(vm);
}

static void reports(void **state)
{
	static const char code[] = "\xb8\x00\xb8\x8e\xc0\x26\xc7\x06\x00\x00\x41\x07\xfa\xf4"; /* 'A' on the screen; cli; hlt */
	struct host host;
	struct text text = {.length = 0};
	struct umbra_vm *vm = board_create(&host, 1);

	assert_false(umbra_vm_screen(vm, collect, &text));
	assert_int_equal(text.length, 0);
	assert_int_equal(run_code(vm, code, sizeof(code) - 1).reason, UMBRA_END_HALTED);
	assert_true(umbra_vm_screen(vm, collect, &text));
	assert_non_null(strchr(text.bytes, 'A'));
	text.length = 0;
	umbra_vm_report(vm, collect, &text);
	assert_non_null(strstr(text.bytes, "halted"));
	assert_non_null(strstr(text.bytes, "rip="));
	uint64_t address;
	assert_false(umbra_vm_symbol(vm, "main", &address));
	umbra_vm_destroy(vm);
}

static void unclaimed_accesses(void **state)
{
	static const char code[] = "\xba\x99\x09\xed\xe7\xf4"; /* in ax,999h; out f4h,ax */
	struct host host;
	struct umbra_vm *vm = board_create(&host, 1);
	struct umbra_config config;
	struct umbra_end end = run_code(vm, code, sizeof(code) - 1);

	assert_int_equal(end.value, 0xffff);
	umbra_vm_destroy(vm);
	umbra_config_init(&config);
	config.unclaimed_exits = true;
	vm = umbra_vm_create(&config, NULL);
	end = run_code(vm, code, sizeof(code) - 1);
	assert_int_equal(end.reason, UMBRA_END_EXIT);
	expect_exit(umbra_vcpu_exit(umbra_vm_cpu(vm, end.vcpu)), UMBRA_EXIT_IO, false, 2, 0x999);
	umbra_vcpu_exit(umbra_vm_cpu(vm, 0))->data = 0x77;
	end = umbra_vm_run(vm, NULL);
	assert_int_equal(end.reason, UMBRA_END_DEBUG_EXIT);
	assert_int_equal(end.value, 0x77);
	umbra_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_end), cmocka_unit_test(halts_with_a_running_timer), cmocka_unit_test(timer_wakes_a_halt),
		cmocka_unit_test(runs_on_after_limits), cmocka_unit_test(the_client_ends_a_run), cmocka_unit_test(consoles),
		cmocka_unit_test(input_reaches_the_guest), cmocka_unit_test(two_machines), cmocka_unit_test(bad_configurations),
		cmocka_unit_test(bad_images), cmocka_unit_test(large_memory_is_sparse), cmocka_unit_test(reports),
		cmocka_unit_test(unclaimed_accesses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
