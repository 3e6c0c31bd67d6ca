/*
 * libumbra: a userspace x86 virtual machine monitor as a library. This header brings all others.
 *
 * The order of a client's work: fill a struct umbra_config, umbra_vm_create(), give it memory and devices or an image
 * (umbra_vm_load()), umbra_vm_run() until it ends, umbra_vm_destroy(). A client that plays the board itself creates a machine
 * without a board and answers the exits of umbra_vcpu_run().
 *
 * Threads: a machine and everything in it belongs to one thread at a time; two machines may run in two threads. Only
 * umbra_vm_stop() may be called from any thread and from signal handlers. The library installs no signal handler, reads no host
 * clock (a client may hand one in, see umbra_config), opens no file but the snapshots that it is told of, and never ends the process.
 *
 * Structures with a field `size` grow with the library: the caller puts sizeof there (the *_init functions do it).
 */
#ifndef UMBRA_UMBRA_H
#define UMBRA_UMBRA_H

#include <umbra/device.h>
#include <umbra/error.h>
#include <umbra/mem.h>
#include <umbra/mmu.h>
#include <umbra/nested.h>
#include <umbra/snapshot.h>
#include <umbra/trace.h>
#include <umbra/vcpu.h>
#include <umbra/vm.h>

#define UMBRA_VERSION_MAJOR 0
#define UMBRA_VERSION_MINOR 1
#define UMBRA_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that is linked, "0.1.0". The text is constant. */
UMBRA_API const char *umbra_version(void);

#ifdef __cplusplus
}
#endif

#endif
