/*
 * The state of each device, as far as a guest could ever come to see it, for digests of the whole machine. Wires and callbacks are
 * left out: they are where the board put them; so is what follows from the rest.
 */
#ifndef UMBRA_DEV_DIGEST_H
#define UMBRA_DEV_DIGEST_H

#include "base/digest.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/pci.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "dev/vga_text.h"

void fw_cfg_digest(const struct fw_cfg *device, struct digest *digest);
void hpet_digest(const struct hpet *hpet, struct digest *digest);
void i8042_digest(const struct i8042 *device, struct digest *digest);
void ioapic_digest(const struct ioapic *ioapic, struct digest *digest);
void lapic_digest(const struct lapic *lapic, struct digest *digest);
void pci_digest(const struct pci *device, struct digest *digest);
void pic_digest(const struct pic *pic, struct digest *digest);
void pit_digest(const struct pit *pit, struct digest *digest);
void pm_digest(const struct pm *pm, struct digest *digest);
void rtc_digest(const struct rtc *rtc, struct digest *digest);
void testdev_digest(const struct testdev *device, struct digest *digest);
void uart_digest(const struct uart *uart, struct digest *digest);
void vga_text_digest(const struct vga_text *vga, struct digest *digest);

#endif
