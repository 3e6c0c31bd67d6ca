/*
 * A snapshot in a file. It is written under another name in the same directory, brought to the disk, and only then given its name: at any
 * moment the name stands for the snapshot before or for the one after, and both are complete. (POSIX, "rename": atomic; the directory is
 * synced so that the new name survives a loss of power.)
 *
 * Who writes a part holds a lock on it until it has its name, and a lock ends with its process. So the part that a killed process left is
 * one that can be locked, and the next snapshot of that name removes it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/snapshot.h"

#define PART_SUFFIX ".part"
#define PART_LETTERS "XXXXXX" /* what mkostemp() replaces by six letters and digits */
#define PART_MODE 0600        /* as it makes them */
#define PART_ATTEMPTS 100u

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

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static int open_directory(const char *path)
{
	char directory[PATH_MAX];
	size_t length = (size_t)(base_name(path) - path);

	snprintf(directory, sizeof(directory), "%.*s", length ? (int)length : 1, length ? path : ".");
	return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool sync_directory(const char *path)
{
	int file = open_directory(path);
	if (file < 0)
		return false;
	bool good = !fsync(file) || errno == EINVAL; /* some file systems have nothing to sync there */
	close(file);
	return good;
}

/* ---- parts -------------------------------------------------------------------------------------------------------------- */

static bool is_part_name(const char *name, const char *base)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t length = strlen(base), suffix = strlen(PART_SUFFIX);

	if (strncmp(name, base, length) || strncmp(name + length, PART_SUFFIX, suffix))
		return false;
	name += length + suffix;
	return strlen(name) == strlen(PART_LETTERS) && strspn(name, letters) == strlen(PART_LETTERS);
}

/* An own file as a part is made, which has no other name. */
static bool is_part(const struct stat *status)
{
	return S_ISREG(status->st_mode) && (status->st_mode & 07777) == PART_MODE && status->st_uid == geteuid() && status->st_nlink == 1;
}

/* Nothing yet, or the beginning of a snapshot: whatever else has such a name is not ours. */
static bool begins_as_snapshot(int file)
{
	char start[sizeof(SNAPSHOT_MAGIC) - 1];
	ssize_t length = pread(file, start, sizeof(start), 0);
	return length >= 0 && !memcmp(start, SNAPSHOT_MAGIC, (size_t)length);
}

/* With the lock no process can be writing to it, or giving it its name: if it has this one still, it stays. */
static bool is_abandoned(int directory, const char *name, int file)
{
	struct stat opened, named;

	return !flock(file, LOCK_EX | LOCK_NB) && !fstat(file, &opened) && is_part(&opened) && begins_as_snapshot(file) &&
	       !fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) && named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

static void remove_if_abandoned(int directory, const char *name)
{
	struct stat status;

	if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) || !is_part(&status))
		return;
	int file = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (file < 0)
		return;
	if (is_abandoned(directory, name, file))
		unlinkat(directory, name, 0);
	close(file);
}

/* What cannot be removed does no harm, and is no reason not to save. */
static void remove_abandoned_parts(const char *path)
{
	const char *base = base_name(path);
	int file = open_directory(path);
	DIR *directory = file < 0 ? NULL : fdopendir(file);

	if (!directory) {
		if (file >= 0)
			close(file);
		return;
	}
	for (const struct dirent *entry; (entry = readdir(directory));)
		if (is_part_name(entry->d_name, base))
			remove_if_abandoned(file, entry->d_name);
	closedir(directory);
}

/* Whether another process that looks for abandoned parts has not been faster. A file system without locks has no such processes. */
static bool lock_part(int file)
{
	struct stat status;

	if (flock(file, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		return false;
	return !fstat(file, &status) && status.st_nlink;
}

/* A new part of the snapshot, locked. Its descriptor, or -1 with errno set. */
static int create_part(const char *path, char ret_name[PATH_MAX])
{
	for (unsigned n = 0; n < PART_ATTEMPTS; n++) {
		int length = snprintf(ret_name, PATH_MAX, "%s" PART_SUFFIX PART_LETTERS, path);
		if (length < 0 || length >= PATH_MAX) {
			errno = ENAMETOOLONG;
			return -1;
		}
		int file = mkostemp(ret_name, O_CLOEXEC);
		if (file < 0 || lock_part(file))
			return file;
		close(file); /* it is gone, or going */
	}
	errno = EBUSY;
	return -1;
}

/* ---- saving and restoring ----------------------------------------------------------------------------------------------- */

static bool system_error(struct err *err, const char *path)
{
	return err_set(err, ERR_OPEN, "%.300s: %s; choose another file for the snapshot", path, strerror(errno));
}

/* Saves into an open file and brings it to the disk. */
static bool fill(struct machine *machine, int file, const char *path, struct err *err)
{
	const struct snapshot_sink sink = {.write = file_write, .opaque = &file};

	if (!machine_save(machine, &sink, path, err))
		return false;
	return !fsync(file) || system_error(err, path);
}

bool machine_save_file(struct machine *machine, const char *path, struct err *err)
{
	char part[PATH_MAX];

	remove_abandoned_parts(path);
	int file = create_part(path, part);
	if (file < 0)
		return system_error(err, path);
	bool good = fill(machine, file, path, err);
	if (good && rename(part, path))
		good = system_error(err, path);
	if (!good)
		unlink(part);
	close(file); /* the lock ends only now; what is on the disk cannot fail any more */
	return good && (sync_directory(path) || system_error(err, path));
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
