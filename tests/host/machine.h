/* The same instructions and states in a machine of one processor, with short handlers or plain ones. */
#ifndef UMBRA_TEST_HOST_MACHINE_H
#define UMBRA_TEST_HOST_MACHINE_H

#include "generate.h"
#include "state.h"

struct machine;

/*
 * A processor as much like the host's as the machine can be; ret_env: how it decodes. host_fpu: with the host's approximations, so that they too
 * agree to the bit.
 */
struct machine *machine_create(bool host_fpu, struct decode_env *ret_env);
void machine_destroy(struct machine *machine);
/* Places an instruction for the runs that follow. */
void machine_place(struct machine *machine, const struct test_code *code);
/*
 * Runs it once: as part of a block with a warm TLB, which takes the short handlers, or stepped, which takes the plain ones. Without `extended`
 * x87 and vector state is left alone. False: it did not end.
 */
bool machine_run(struct machine *machine, const struct host_state *in, bool extended, bool stepped, struct host_state *ret_out);
/* Seeds a fault: from now on results of one operation are wrong in one bit for an eighth of all inputs. Returns the operation. */
unsigned machine_corrupt(struct machine *machine, uint64_t seed, const uint16_t *rows, unsigned row_count);

#endif
