/*
 * Help for devices whose registers are bytes: an access of 2 or 4 bytes is that many accesses of one byte, lowest address
 * first, as the ISA bus does it.
 */
#ifndef UMBRA_DEV_PORT_H
#define UMBRA_DEV_PORT_H

#include "base/types.h"

static inline uint64_t port_read_bytes(uint8_t (*read)(void *, unsigned), void *opaque, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read(opaque, (unsigned)offset + i) << (8 * i);
	return value;
}

static inline void port_write_bytes(void (*write)(void *, unsigned, uint8_t), void *opaque, uint64_t offset, unsigned size,
				    uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		write(opaque, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
}

#endif
