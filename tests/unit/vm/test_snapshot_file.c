/*
 * Snapshots as files: a name stands for a complete one, a save that fails leaves nothing behind, and the parts that killed processes left
 * go with the next save: those, and no other file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm/snapshot.h"

#define NAME "the.snapshot"

static char directory[] = "/tmp/umbra-snapshot-file-XXXXXX";
static struct machine *machine;

static int set_up(void **state)
{
	struct machine_config config;
	struct err err;

	machine_config_init(&config);
	config.memory = 1 << 20;
	machine = machine_create(&config, &err);
	return !machine || !mkdtemp(directory) || chdir(directory);
}

static int tear_down(void **state)
{
	machine_destroy(machine);
	return chdir("/") || rmdir(directory);
}

static void save(const char *path)
{
	struct err err = {.text = ""};

	if (!machine_save_file(machine, path, &err))
		fail_msg("%s", err.text);
}

static bool exists(const char *name)
{
	struct stat status;
	return !lstat(name, &status);
}

static void put_file(const char *name, const char *bytes, mode_t mode)
{
	int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	assert_true(file >= 0);
	assert_int_equal(write(file, bytes, strlen(bytes)), strlen(bytes));
	assert_int_equal(close(file), 0);
}

/* ---- what goes and what stays ------------------------------------------------------------------------------------------- */

static void abandoned_parts_go(void **state)
{
	put_file(NAME ".partabcXY9", "UMBRASNP and some more", 0600);
	put_file(NAME ".part000000", "UMB", 0600);
	put_file(NAME ".partZZZZZZ", "", 0600);
	save(NAME);
	assert_false(exists(NAME ".partabcXY9") || exists(NAME ".part000000") || exists(NAME ".partZZZZZZ"));
	assert_true(exists(NAME));
	put_file(NAME ".partabcXY9", "", 0600);
	char path[100];
	snprintf(path, sizeof(path), "%s/" NAME, directory);
	save(path); /* found in another directory than the present one, too */
	assert_false(exists(NAME ".partabcXY9"));
	assert_int_equal(unlink(NAME), 0);
}

static void other_files_stay(void **state)
{
	static const struct {
		const char *name, *bytes;
		mode_t mode;
	} files[] = {
		{"other.snapshot.partabcdef", "UMBRASNP", 0600}, {"xthe.snapshot.partabcdef", "UMBRASNP", 0600},
		{NAME ".partabcdefg", "UMBRASNP", 0600},         {NAME ".partabcde", "UMBRASNP", 0600},
		{NAME ".partabc-ef", "UMBRASNP", 0600},          {NAME ".part", "UMBRASNP", 0600},
		{NAME ".bartabcdef", "UMBRASNP", 0600},          {NAME ".partabcde0", "UMBRASNP", 0640},
		{NAME ".partabcde1", "UMBRASNQ", 0600},          {NAME ".partabcde2", "V", 0600},
	};

	for (size_t n = 0; n < ARRAY_LEN(files); n++)
		put_file(files[n].name, files[n].bytes, files[n].mode);
	save(NAME);
	for (size_t n = 0; n < ARRAY_LEN(files); n++) {
		if (!exists(files[n].name))
			fail_msg("%s is gone", files[n].name);
		assert_int_equal(unlink(files[n].name), 0);
	}
	assert_int_equal(unlink(NAME), 0);
}

/* Directories, pipes, links: not ours, and a pipe without a writer must not be waited for. */
static void other_kinds_stay(void **state)
{
	put_file("target", "UMBRASNP", 0600);
	assert_int_equal(symlink("target", NAME ".partlink00"), 0);
	put_file("twice", "UMBRASNP", 0600);
	assert_int_equal(link("twice", NAME ".parttwice0"), 0);
	assert_int_equal(mkdir(NAME ".partfolder", 0600), 0);
	assert_int_equal(mkfifo(NAME ".partpipe00", 0600), 0);
	save(NAME);
	assert_true(exists(NAME ".partlink00") && exists("target") && exists(NAME ".parttwice0") && exists(NAME ".partfolder"));
	assert_true(exists(NAME ".partpipe00"));
	assert_int_equal(rmdir(NAME ".partfolder"), 0);
	assert_false(unlink("target") || unlink("twice") || unlink(NAME ".partlink00") || unlink(NAME ".parttwice0"));
	assert_false(unlink(NAME ".partpipe00") || unlink(NAME));
}

/* The part of a process that lives is locked. When the process ends, however it does, it is abandoned. */
static void living_writer_keeps_its_part(void **state)
{
	int ready[2], hold[2];
	char byte;

	assert_false(pipe(ready) || pipe(hold));
	put_file(NAME ".partliving", "UMBRASNP", 0600);
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		int file = open(NAME ".partliving", O_RDWR | O_CLOEXEC);
		bool good = file >= 0 && !flock(file, LOCK_EX | LOCK_NB) && write(ready[1], "", 1) == 1;
		_exit(close(hold[1]) || !good || read(hold[0], &byte, 1));
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	save(NAME);
	assert_true(exists(NAME ".partliving"));
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	save(NAME);
	assert_false(exists(NAME ".partliving"));
	assert_false(close(ready[0]) || close(ready[1]) || close(hold[0]) || close(hold[1]) || unlink(NAME));
}

/* ---- saves that fail, and saves at the same time ------------------------------------------------------------------------ */

/* The directory, which is removed at the end only when it is empty, is looked at there. */
static void failed_saves_leave_nothing(void **state)
{
	char long_name[5000];
	struct err err = {.text = ""};

	assert_int_equal(mkdir("folder", 0700), 0);
	assert_false(machine_save_file(machine, "folder", &err)); /* cannot be replaced by a file */
	assert_int_equal(err.code, ERR_OPEN);
	assert_int_equal(rmdir("folder"), 0);
	assert_false(machine_save_file(machine, "nowhere/" NAME, &err));
	assert_int_equal(err.code, ERR_OPEN);
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = 0;
	assert_false(machine_save_file(machine, long_name, &err));
	assert_int_equal(err.code, ERR_OPEN);
	long_name[250] = 0;
	assert_false(machine_save_file(machine, long_name, &err));
	assert_int_equal(err.code, ERR_OPEN);
}

/* Four processes that save under one name do not take each other's parts away. */
static void saves_at_the_same_time(void **state)
{
	struct err err;
	pid_t children[4];

	for (size_t n = 0; n < ARRAY_LEN(children); n++) {
		children[n] = fork();
		assert_true(children[n] >= 0);
		if (children[n])
			continue;
		bool good = true;
		for (unsigned turn = 0; turn < 50 && good; turn++)
			good = machine_save_file(machine, NAME, &err);
		_exit(!good);
	}
	for (size_t n = 0; n < ARRAY_LEN(children); n++) {
		int status;
		assert_int_equal(waitpid(children[n], &status, 0), children[n]);
		assert_int_equal(status, 0);
	}
	const struct machine_config config = {.mmu_mode = MMU_TDP};
	struct machine *again = machine_restore_file(NAME, &config, &err);
	assert_non_null(again);
	machine_destroy(again);
	assert_int_equal(unlink(NAME), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(abandoned_parts_go), cmocka_unit_test(other_files_stay), cmocka_unit_test(other_kinds_stay),
		cmocka_unit_test(living_writer_keeps_its_part), cmocka_unit_test(failed_saves_leave_nothing),
		cmocka_unit_test(saves_at_the_same_time),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
