/* See ferr.h (IBM AT technical reference, "Coprocessor"; SDM 1, "MS-DOS Compatibility Sub-mode"). */
#include "dev/ferr.h"

static uint64_t ferr_read(void *opaque, uint64_t offset, unsigned size)
{
	return ~0ull;
}

static void ferr_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ferr *ferr = opaque;

	if (offset)
		return;
	irq_set(&ferr->irq, false);
	if (ferr->ignore)
		ferr->ignore(ferr->opaque);
}

const struct bus_ops ferr_ops = {ferr_read, ferr_write};

void ferr_set(struct ferr *ferr, bool level)
{
	if (level && !ferr->level)
		irq_set(&ferr->irq, true);
	ferr->level = level;
}

void ferr_reset(struct ferr *ferr)
{
	ferr->level = false;
	irq_set(&ferr->irq, false);
}

void ferr_state(struct ferr *ferr, struct pack *pack)
{
	PACK(pack, ferr->level);
	PACK(pack, ferr->irq.level);
}
