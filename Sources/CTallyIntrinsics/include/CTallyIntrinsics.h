// Machine instructions that Swift has no spelling for. No logic lives here.
#ifndef CTALLY_INTRINSICS_H
#define CTALLY_INTRINSICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Asks the memory system to load the cache line at `address`; never faults.
static inline void tally_prefetch(const void *address) {
    __builtin_prefetch(address);
}

/// Whether `tally_crc32c_update` runs in hardware on this machine.
bool tally_crc32c_available(void);

/// Folds `count` bytes into a raw (not inverted) CRC-32C state with the machine's own instruction.
/// Call only when `tally_crc32c_available` says yes.
uint32_t tally_crc32c_update(uint32_t state, const void *bytes, size_t count);

/// Whether `tally_crc16` runs in hardware on this machine.
bool tally_crc16_available(void);

/// CRC-16 (polynomial 0x1021, not reflected, from zero) of `count` bytes by carry-less
/// multiplication. Call only when `tally_crc16_available` says yes.
uint16_t tally_crc16(const void *bytes, size_t count);

/// Gives the calling thread a name of at most 15 bytes, for debuggers and `top`.
void tally_name_thread(const char *name);

#endif
