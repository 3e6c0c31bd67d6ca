/* See fw_cfg.h. Numbers in plain items are little-endian, those in the file directory big-endian. */
#include "dev/fw_cfg.h"

#include <string.h>

#include "base/alloc.h"

#define ID_TRADITIONAL 1u /* bit 1 would announce DMA */
#define KEY_WRITE_CHANNEL 0x4000u

static struct fw_cfg_item *item_find(struct fw_cfg *device, uint16_t key)
{
	for (unsigned i = 0; i < device->count; i++)
		if (device->items[i].key == key)
			return &device->items[i];
	return NULL;
}

bool fw_cfg_set(struct fw_cfg *device, uint16_t key, const void *bytes, size_t length)
{
	struct fw_cfg_item *item = item_find(device, key);
	if (!item && device->count == FW_CFG_MAX_ITEMS)
		return false;
	uint8_t *data = mem_zalloc(length ? length : 1, 1);
	if (!data)
		return false;
	if (length)
		memcpy(data, bytes, length);
	if (item)
		mem_free(item->data);
	else
		item = &device->items[device->count++];
	*item = (struct fw_cfg_item){ key, length, data };
	return true;
}

static void put_be32(uint8_t *to, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* The directory: a count, then per file its size, its key, two reserved bytes and its name. */
static bool directory_update(struct fw_cfg *device)
{
	uint8_t directory[4 + FW_CFG_MAX_FILES * 64] = { 0 };

	put_be32(directory, device->file_count);
	for (unsigned i = 0; i < device->file_count; i++) {
		uint8_t *entry = directory + 4 + 64 * i;
		unsigned key = FW_CFG_FILE_FIRST + i;
		put_be32(entry, device->files[i].size);
		entry[4] = (uint8_t)(key >> 8);
		entry[5] = (uint8_t)key;
		memcpy(entry + 8, device->files[i].name, FW_CFG_NAME_SIZE);
	}
	return fw_cfg_set(device, FW_CFG_FILE_DIR, directory, 4 + 64 * (size_t)device->file_count);
}

bool fw_cfg_add_file(struct fw_cfg *device, const char *name, const void *bytes, size_t length)
{
	if (strlen(name) >= FW_CFG_NAME_SIZE || device->file_count == FW_CFG_MAX_FILES || length > UINT32_MAX)
		return false;
	for (unsigned i = 0; i < device->file_count; i++)
		if (!strcmp(device->files[i].name, name))
			return false;
	if (!fw_cfg_set(device, (uint16_t)(FW_CFG_FILE_FIRST + device->file_count), bytes, length))
		return false;
	strcpy(device->files[device->file_count].name, name);
	device->files[device->file_count++].size = (uint32_t)length;
	if (directory_update(device))
		return true;
	memset(&device->files[--device->file_count], 0, sizeof(device->files[0]));
	return false;
}

static bool set_number(struct fw_cfg *device, uint16_t key, uint64_t value, unsigned size)
{
	uint8_t bytes[8];
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	return fw_cfg_set(device, key, bytes, size);
}

bool fw_cfg_init(struct fw_cfg *device, uint64_t ram_bytes, unsigned cpus, unsigned max_cpus)
{
	memset(device, 0, sizeof(*device));
	if (fw_cfg_set(device, FW_CFG_SIGNATURE, "QEMU", 4) && set_number(device, FW_CFG_ID, ID_TRADITIONAL, 4) &&
	    set_number(device, FW_CFG_RAM_SIZE, ram_bytes, 8) && set_number(device, FW_CFG_NB_CPUS, cpus, 2) &&
	    set_number(device, FW_CFG_MAX_CPUS, max_cpus, 2) && set_number(device, FW_CFG_MAX_RAM, 0, 8) &&
	    directory_update(device)) {
		fw_cfg_reset(device);
		return true;
	}
	fw_cfg_finish(device);
	return false;
}

void fw_cfg_finish(struct fw_cfg *device)
{
	for (unsigned i = 0; i < device->count; i++)
		mem_free(device->items[i].data);
	memset(device, 0, sizeof(*device));
}

void fw_cfg_reset(struct fw_cfg *device)
{
	device->selected = item_find(device, FW_CFG_SIGNATURE);
	device->offset = 0;
}

static uint64_t fw_cfg_read(void *opaque, uint64_t offset, unsigned size)
{
	struct fw_cfg *device = opaque;

	if (offset != 1 || size != 1)
		return ~0ull;
	if (!device->selected || device->offset >= device->selected->length)
		return 0;
	return device->selected->data[device->offset++];
}

static void fw_cfg_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct fw_cfg *device = opaque;

	if (offset != 0 || size != 2)
		return;
	device->selected = item_find(device, (uint16_t)(value & ~(uint64_t)KEY_WRITE_CHANNEL));
	device->offset = 0;
}

const struct bus_ops fw_cfg_ops = { fw_cfg_read, fw_cfg_write };

/* What the items hold is the machine's configuration; only the place that is read from moves. */
void fw_cfg_state(struct fw_cfg *device, struct pack *pack)
{
	bool selected = device->selected;
	uint16_t key = selected ? device->selected->key : 0;
	uint64_t offset = device->offset;

	PACK(pack, selected);
	PACK(pack, key);
	PACK(pack, offset);
	if (!pack->loading)
		return;
	device->selected = selected ? item_find(device, key) : NULL;
	pack_check(pack, !selected == !device->selected, "fw_cfg: the item does not exist");
	pack_check(pack, offset <= (device->selected ? device->selected->length : 0), "fw_cfg: the place lies behind the item");
	device->offset = (size_t)offset;
}
