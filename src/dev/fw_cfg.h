/*
 * fw_cfg: what the machine is, as items of bytes behind a selector port (0x510) and a data port (0x511). There is no DMA
 * interface, and the item "ID" says so.
 */
#ifndef UMBRA_DEV_FW_CFG_H
#define UMBRA_DEV_FW_CFG_H

#include "base/pack.h"
#include "mem/bus.h"

#define FW_CFG_PORT 0x510u
#define FW_CFG_PORTS 2u
#define FW_CFG_MAX_ITEMS 48
#define FW_CFG_MAX_FILES 24
#define FW_CFG_NAME_SIZE 56

enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NB_CPUS = 0x05, FW_CFG_MAX_CPUS = 0x0f,
	FW_CFG_MAX_RAM = 0x11, FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20,
};

struct fw_cfg_item {
	uint16_t key;
	size_t length;
	uint8_t *data; /* owned */
};

struct fw_cfg {
	struct fw_cfg_item items[FW_CFG_MAX_ITEMS];
	unsigned count;
	struct {
		char name[FW_CFG_NAME_SIZE];
		uint32_t size;
	} files[FW_CFG_MAX_FILES];
	unsigned file_count;
	const struct fw_cfg_item *selected; /* NULL: an item that does not exist, reads as zeros */
	size_t offset;
};

extern const struct bus_ops fw_cfg_ops;

/* Fills in the items that every machine has. False without memory. */
bool fw_cfg_init(struct fw_cfg *device, uint64_t ram_bytes, unsigned cpus, unsigned max_cpus);
void fw_cfg_finish(struct fw_cfg *device);
void fw_cfg_reset(struct fw_cfg *device);
/* Adds or replaces an item, copying the bytes. False without memory or room. */
bool fw_cfg_set(struct fw_cfg *device, uint16_t key, const void *bytes, size_t length);
/* Adds a named file. False if the name is too long or in use, or without memory or room. */
bool fw_cfg_add_file(struct fw_cfg *device, const char *name, const void *bytes, size_t length);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void fw_cfg_state(struct fw_cfg *device, struct pack *pack);

#endif
