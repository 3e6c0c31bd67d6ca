/* See post.h. */
#include "dev/post.h"

static uint64_t post_read(void *opaque, uint64_t offset, unsigned size)
{
	return ((struct post *)opaque)->code;
}

static void post_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	((struct post *)opaque)->code = (uint8_t)value;
}

const struct bus_ops post_ops = {post_read, post_write};

void post_state(struct post *post, struct pack *pack)
{
	PACK(pack, post->code);
}
