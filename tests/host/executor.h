/*
 * Instructions on the host processor, in a child process that can do nothing else.
 *
 * The child executes batches: one instruction, many states. What cannot fault costs a few dozen nanoseconds; a fault enters a signal
 * handler that keeps what it finds. A seccomp filter leaves the child reading, writing and returning from signals. If it dies, the batch is
 * reported as lost and a new child is made.
 */
#ifndef UMBRA_TEST_HOST_EXECUTOR_H
#define UMBRA_TEST_HOST_EXECUTOR_H

#include "state.h"

#define EXECUTOR_BATCH 512

struct executor_batch {
	uint8_t bytes[16];
	uint32_t length, count;
	uint32_t extended; /* load and save x87 and vector state; without it only general registers and flags */
	struct host_state in[EXECUTOR_BATCH], out[EXECUTOR_BATCH];
};

struct executor;

/* NULL: the host does not give the addresses, or has no XSAVE. */
struct executor *executor_create(void);
void executor_destroy(struct executor *executor);
/* Two batches in shared memory, so that one is filled and compared while the other executes. */
struct executor_batch *executor_batch(struct executor *executor, unsigned which);
/* Starts batch `which`; executor_finish() waits for it. False: the child died in it (and was replaced); its outputs mean nothing. */
void executor_start(struct executor *executor, unsigned which);
bool executor_finish(struct executor *executor);

#endif
