/*
 * What the program on /dev/kvm (monitor.c, session.c) and the nested guest it runs (nested.c) have agreed on: ports, addresses, requests.
 */
#ifndef TESTS_GUEST_KVM_PROTOCOL_H
#define TESTS_GUEST_KVM_PROTOCOL_H

#define PORT_TEXT 0xe9     /* out: a character for the console */
#define PORT_NUMBERS 0x504 /* in: the next of a sequence of numbers; out: mixed into what port_digest reads */
#define PORT_DIGEST 0x508  /* in: a digest of all that went out through PORT_NUMBERS */
#define PORT_REQUEST 0x500 /* out: a request, by its number; its arguments and its answer are in the page of arguments */
#define PORT_END 0xf4      /* out: the end; 0 means that nothing failed */

#define ARGUMENTS 0x7000 /* guest-physical: eight 64-bit words */
#define ENTRY 0x8000     /* guest-physical: where the program is loaded and entered, in real mode */

#define LOW_SIZE 0x100000
#define LARGE_BASE 0x200000 /* memory that the host may map by 2 MiB pages */
#define LARGE_SIZE 0x2000000
#define SMALL_BASE 0x8000000 /* memory that it maps by 4 KiB pages */
#define SMALL_SIZE 0x400000
#define HIGH_BASE 0x100000000 /* above 4 GiB */
#define HIGH_SIZE 0x200000
#define ROM_BASE 0xc0000000 /* read-only memory: a write is a device's */
#define ROM_SIZE 0x10000
#define DEVICE_BASE 0xd0000000 /* no memory */
#define DEVICE_SIZE 0x1000

#define CPUID_LEAF 0x40000100 /* a leaf with the four words below, whatever the host's processor */
#define CPUID_EAX 0x554d4252
#define CPUID_EBX 0x13572468
#define CPUID_ECX 0x89abcdef
#define CPUID_EDX 0x0badcafe

#ifndef __ASSEMBLER__
enum request {
	REQUEST_INTERRUPT = 1, /* arguments[0]: the vector; taken as soon as the guest can */
	REQUEST_NMI,
	REQUEST_LOG,    /* begin to log writes to SMALL */
	REQUEST_LOGGED, /* arguments: the first page written since, the step to the next; answer: how many of them the log lacks */
	REQUEST_DISCARD, /* arguments[0], arguments[1]: address and bytes in LARGE whose contents are to be lost */
	REQUEST_SWAP,    /* HIGH gets other memory, filled with arguments[0] + its page's number in each word */
	REQUEST_UNPLUG,  /* HIGH loses its memory and becomes a device */
	REQUEST_SPLIT,   /* arguments[0], arguments[1]: a range of LARGE that the host protects for a moment and then gives back */
	REQUEST_SHUTDOWN, /* the next thing that happens must be a triple fault */
};
#endif

#endif
