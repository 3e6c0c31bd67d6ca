/* Files read whole, see file.h. Pipes are fine; what never ends is not. */
#include "cli/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST_FILE (2ull << 30)
#define FIRST_PIECE (1u << 16)

static bool grow(struct file *file, size_t *capacity)
{
	size_t wanted = *capacity * 2;
	uint8_t *bytes = realloc(file->bytes, wanted);

	if (!bytes)
		return false;
	file->bytes = bytes;
	*capacity = wanted;
	return true;
}

static bool read_all(int descriptor, size_t capacity, struct file *file, const char **ret_cause)
{
	file->bytes = malloc(capacity);
	file->length = 0;
	while (file->bytes) {
		if (file->length > LARGEST_FILE) {
			*ret_cause = "larger than 2 GiB";
			return false;
		}
		if (file->length == capacity && !grow(file, &capacity))
			break;
		ssize_t got = read(descriptor, file->bytes + file->length, capacity - file->length);
		if (got == 0)
			return true;
		if (got > 0)
			file->length += (size_t)got;
		else if (errno != EINTR) {
			*ret_cause = strerror(errno);
			return false;
		}
	}
	*ret_cause = "not enough memory to read it";
	return false;
}

bool file_read(const char *path, struct file *ret_file, const char **ret_cause)
{
	struct file file = {NULL, 0};
	struct stat status;
	int descriptor = open(path, O_RDONLY | O_CLOEXEC);

	if (descriptor < 0) {
		*ret_cause = strerror(errno);
		return false;
	}
	bool done = false;
	if (fstat(descriptor, &status) < 0) {
		*ret_cause = strerror(errno);
	} else if (S_ISDIR(status.st_mode)) {
		*ret_cause = "is a directory";
	} else if (S_ISREG(status.st_mode) && (uint64_t)status.st_size > LARGEST_FILE) {
		*ret_cause = "larger than 2 GiB";
	} else {
		size_t expected = S_ISREG(status.st_mode) ? (size_t)status.st_size + 1 : FIRST_PIECE;
		done = read_all(descriptor, expected, &file, ret_cause);
	}
	close(descriptor);
	if (!done)
		file_release(&file);
	else
		*ret_file = file;
	return done;
}

void file_release(struct file *file)
{
	free(file->bytes);
	*file = (struct file){NULL, 0};
}
