/* Snapshots through the library: a client's slots, files, and what may not be saved. */
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

static const uint8_t count_code[] = {0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa}; /* again: inc word [2000h]; jmp again */

static void a_file_comes_back(void **state)
{
	struct guest guest = guest_create(count_code, sizeof(count_code), 2);
	char path[] = P_tmpdir "/umbra-test-XXXXXX";
	struct umbra_error error;
	struct stat status;

	close(mkstemp(path));
	umbra_vcpu_run(guest.vcpu, 1000);
	if (!umbra_vm_save(guest.vm, path, &error))
		fail_msg("%s", error.text);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 077, 0); /* a guest's memory is nobody else's business */
	struct umbra_vm *other = umbra_vm_restore(path, NULL, &error);
	if (!other)
		fail_msg("%s", error.text);
	assert_int_equal(umbra_vm_cpu_count(other), 2);
	assert_int_equal(umbra_vm_digest(other), umbra_vm_digest(guest.vm));
	assert_int_equal(umbra_vcpu_run(umbra_vm_cpu(other, 0), 1000)->reason, UMBRA_EXIT_BUDGET);
	umbra_vcpu_run(guest.vcpu, 1000);
	assert_int_equal(umbra_vm_digest(other), umbra_vm_digest(guest.vm));
	assert_int_equal(guest.memory[0x2000] | guest.memory[0x2001] << 8, 1000);
	umbra_vm_destroy(other);
	guest_destroy(&guest);
	unlink(path);
}

/* An access that the client has not performed is no boundary between instructions. */
static void an_open_exit_is_refused(void **state)
{
	static const uint8_t code[] = {0xe4, 0x10, 0xf4}; /* in al,10h; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_error error = {.text = ""};
	char path[] = P_tmpdir "/umbra-test-XXXXXX";

	close(mkstemp(path));
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_IO);
	assert_false(umbra_vm_save(guest.vm, path, &error));
	assert_int_equal(error.code, UMBRA_ERROR_USAGE);
	assert_non_null(strstr(error.text, "an access waits for the client's answer"));
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, 0); /* the file that was there is */
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_true(umbra_vm_save(guest.vm, path, &error));
	guest_destroy(&guest);
	unlink(path);
}

static bool broken_sink(void *opaque, const void *bytes, size_t length)
{
	size_t *left = opaque;
	bool good = *left >= length;
	*left -= good ? length : 0;
	return good;
}

static void a_broken_sink_is_told_of(void **state)
{
	struct guest guest = guest_create(count_code, sizeof(count_code), 1);
	struct umbra_error error;
	size_t room = 0, left = 0;

	for (; !umbra_vm_save_to(guest.vm, broken_sink, &left, &error); left = room += 37)
		assert_int_equal(error.code, UMBRA_ERROR_OPEN);
	assert_in_range(room, 1000, 10000);
	assert_false(umbra_vm_save(guest.vm, "/nonexistent/file", &error));
	assert_int_equal(error.code, UMBRA_ERROR_OPEN);
	assert_null(umbra_vm_restore("/nonexistent/file", NULL, &error));
	assert_int_equal(error.code, UMBRA_ERROR_OPEN);
	guest_destroy(&guest);
}

struct saver {
	struct umbra_vm *vm;
	unsigned count;
	uint64_t at[8];
};

static void note(void *opaque)
{
	struct saver *saver = opaque;
	if (saver->count < 8)
		saver->at[saver->count] = umbra_vm_instructions(saver->vm);
	saver->count++;
}

static void saves_are_due_now_and_then(void **state)
{
	struct guest guest = guest_create(count_code, sizeof(count_code), 2);
	struct saver saver = {.vm = guest.vm};
	struct umbra_run_limits limits = {
		.size = sizeof(limits), .instructions = 50000, .opaque = &saver, .save_interval = 10000, .save = note};

	assert_int_equal(umbra_vm_run(guest.vm, &limits).reason, UMBRA_END_TIMEOUT);
	assert_int_equal(saver.count, 4);
	for (unsigned n = 0; n < 4; n++)
		assert_in_range(saver.at[n], (n + 1) * 10000, (n + 1) * 10000 + 4096);
	guest_destroy(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_comes_back), cmocka_unit_test(an_open_exit_is_refused), cmocka_unit_test(a_broken_sink_is_told_of),
		cmocka_unit_test(saves_are_due_now_and_then),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
