/* The records of the staleness oracle, shared by stale.c (which writes them) and stale_search.c (which reads them). */
#ifndef UMBRA_SPEC_STALE_HISTORY_H
#define UMBRA_SPEC_STALE_HISTORY_H

#include "spec/stale.h"

#define STALE_STILL UINT64_MAX /* the end of what is current */

/* Memory had `before` there until `time`. */
struct stale_store {
	uint64_t time, gpa, before;
	unsigned size;
};

enum stale_cache { STALE_TLB, STALE_GLOBAL_TLB, STALE_STRUCTURES, STALE_NESTED };

/* One kind of cached information that was removed at `time`, for one ASID or all, one PCID or all, a range of addresses or all. */
struct stale_flush {
	uint64_t time;
	enum stale_cache cache;
	bool every_asid;
	uint32_t asid;
	bool every_pcid, every_address;
	unsigned pcid;
	uint64_t first, last; /* the page that maps the address below, as the tables were */
	uint64_t linear;
};

/* The registers that decided translations, and from when until when. The last context is the present one. */
struct stale_context {
	struct spec_regs regs;
	struct spec_world world;
	uint64_t begin, end;
};

struct spec_stale {
	struct spec_memory memory;
	uint64_t now;
	struct stale_store *stores;
	struct stale_flush *flushes;
	struct stale_context *contexts;
	size_t store_count, store_room;
	size_t flush_count, flush_room;
	size_t context_count, context_room;
};

/* Whether two snapshots start walks from the same root, under the same PCID. */
bool stale_same_root(const struct spec_regs *a, const struct spec_regs *b);
/* Whether they read entries alike, apart from the root. */
bool stale_same_format(const struct spec_regs *a, const struct spec_regs *b);

/* Whether what was cached in one surrounding may be used in the other. */
bool stale_same_tag(const struct spec_world *a, const struct spec_world *b);

#endif
