/*
 * A handler of system-management interrupts, for the test guests: SMM_HANDLER(text) assembles it in 16-bit code, and install_handler() puts
 * it where a processor with that SMBASE enters it. One a guest. (AMD manual volume 2, "SMM Operating-Environment".)
 */
#ifndef TESTS_SMM_H
#define TESTS_SMM_H

#include "guest.h"

enum { APM_CONTROL = 0xb2, SMM_ENTRY = 0x8000, MSR_SMBASE = 0xc0010111u };

extern const uint8_t handler_start[], handler_end[];

#ifdef __x86_64__
#define SMM_CODE_BEHIND ".code64\n"
#else
#define SMM_CODE_BEHIND ".code32\n"
#endif
/* text: lines of assembly, the last one RSM. */
#define SMM_HANDLER(text) __asm__(".text\n.code16\nhandler_start:\n" text "handler_end:\n" SMM_CODE_BEHIND)

static inline void install_handler(word base)
{
	copy_code((void *)(base + SMM_ENTRY), handler_start, handler_end);
}

#endif
