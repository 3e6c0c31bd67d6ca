/*
 * A snapshot in a file. It is written under another name in the same directory, brought to the disk, and only then given its name: at any
 * moment the name stands for the snapshot before or for the one after, and both are complete. (POSIX, "rename": atomic; the directory is
 * synced so that the new name survives a loss of power.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/snapshot.h"

#define TEMPORARY_SUFFIX ".part"

static bool write_all(int file, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length) {
		ssize_t done = write(file, at, length);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += done;
		length -= (size_t)done;
	}
	return true;
}

static bool file_write(void *opaque, const void *bytes, size_t length)
{
	return write_all(*(const int *)opaque, bytes, length);
}

static size_t file_read(void *opaque, void *bytes, size_t length)
{
	char *at = bytes;
	size_t left = length;

	while (left) {
		ssize_t done = read(*(const int *)opaque, at, left);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			break;
		at += done;
		left -= (size_t)done;
	}
	return length - left;
}

static bool sync_directory(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(directory, sizeof(directory), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file < 0)
		return false;
	bool good = !fsync(file) || errno == EINVAL; /* some file systems have nothing to sync there */
	close(file);
	return good;
}

static bool system_error(struct err *err, const char *path)
{
	return err_set(err, ERR_OPEN, "%.300s: %s; choose another file for the snapshot", path, strerror(errno));
}

/* Saves into an open file and brings it to the disk; closes it in any case. */
static bool fill(struct machine *machine, int file, const char *path, struct err *err)
{
	const struct snapshot_sink sink = {.write = file_write, .opaque = &file};
	bool good = machine_save(machine, &sink, path, err);

	if (good && fsync(file))
		good = system_error(err, path);
	if (close(file) && good)
		good = system_error(err, path);
	return good;
}

bool machine_save_file(struct machine *machine, const char *path, struct err *err)
{
	char temporary[PATH_MAX];
	int length = snprintf(temporary, sizeof(temporary), "%s" TEMPORARY_SUFFIX "XXXXXX", path);

	if (length < 0 || (size_t)length >= sizeof(temporary))
		return err_set(err, ERR_USAGE, "%.100s...: the name is too long for a snapshot", path);
	int file = mkostemp(temporary, O_CLOEXEC);
	if (file < 0)
		return system_error(err, path);
	bool good = fill(machine, file, path, err);
	if (good && rename(temporary, path))
		good = system_error(err, path);
	if (!good) {
		unlink(temporary);
		return false;
	}
	return sync_directory(path) || system_error(err, path);
}

struct machine *machine_restore_file(const char *path, const struct machine_config *config, struct err *err)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0) {
		err_set(err, ERR_OPEN, "%.300s: %s; name a snapshot that can be read", path, strerror(errno));
		return NULL;
	}
	const struct snapshot_source source = {.read = file_read, .opaque = &file};
	struct machine *machine = machine_restore(&source, config, path, err);
	close(file);
	return machine;
}
