// Machine instructions that Swift has no spelling for. No logic lives here.
#ifndef CTALLY_INTRINSICS_H
#define CTALLY_INTRINSICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// Asks the memory system to load the cache line at `address`; never faults.
static inline void tally_prefetch(const void *address) {
    __builtin_prefetch(address);
}

/// The place of the set bit of `word` that has `rank` set bits below it; there must be one.
static inline uint32_t tally_select(uint64_t word, uint32_t rank) {
#if defined(__BMI2__) && defined(__BMI__)
    return (uint32_t)__builtin_ctzll(__builtin_ia32_pdep_di(1ull << rank, word));
#else
    // Byte-wise sums find the byte, a loop of at most seven steps the bit (Vigna, "Broadword
    // Implementation of Rank/Select Queries", 2008).
    uint64_t sums = word - ((word >> 1) & 0x5555555555555555ull);
    sums = (sums & 0x3333333333333333ull) + ((sums >> 2) & 0x3333333333333333ull);
    sums = ((sums + (sums >> 4)) & 0x0f0f0f0f0f0f0f0full) * 0x0101010101010101ull;
    const uint64_t ranks = rank * 0x0101010101010101ull;
    const uint64_t at_most = ((ranks | 0x8080808080808080ull) - sums) & 0x8080808080808080ull;
    const uint32_t byte = (uint32_t)__builtin_popcountll(at_most) * 8;
    uint32_t rest = rank - (uint32_t)(((sums << 8) >> byte) & 0xff);
    uint64_t bits = (word >> byte) & 0xff;
    while (rest--) bits &= bits - 1;
    return byte + (uint32_t)__builtin_ctzll(bits);
#endif
}

/// What sixteen hexadecimal digits are, if all of them are such digits.
typedef struct {
    uint64_t value;
    bool are_digits;
} tally_hexadecimal_result;

/// Reads sixteen hexadecimal digits, in any case, side by side; each word's first digit is its lowest byte.
static inline tally_hexadecimal_result tally_hexadecimal(uint64_t first, uint64_t second) {
    typedef uint8_t bytes __attribute__((vector_size(16)));
    typedef uint16_t pairs __attribute__((vector_size(16)));
    typedef uint8_t packed __attribute__((vector_size(8)));
    const uint64_t words[2] = {first, second};
    bytes text;
    memcpy(&text, words, sizeof text);
    const bytes decimals = text - '0';
    const bytes letters = (text | 0x20) - 'a';
    const bytes are_decimals = (bytes)(decimals < 10);
    const bytes are_letters = (bytes)(letters < 6);
    const pairs values = (pairs)((decimals & are_decimals) | ((letters + 10) & are_letters));
    const packed joined = __builtin_convertvector((values << 4 | values >> 8) & 0xff, packed);
    const bytes are_digits = are_decimals | are_letters;
    uint64_t value, checked[2];
    memcpy(&value, &joined, sizeof value);
    memcpy(checked, &are_digits, sizeof checked);
    return (tally_hexadecimal_result){
        __builtin_bswap64(value), (checked[0] & checked[1]) == UINT64_MAX};
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

/// The name of a machine instruction set that this program was built for and that this machine lacks;
/// NULL if it lacks none.
const char *tally_missing_instructions(void);

/// Has the allocator take pieces of this many bytes or more from the system one by one, so that each goes
/// back to it as soon as it is freed.
void tally_keep_large_memory_apart(size_t byte_count);

/// Gives memory that the allocator holds and nobody uses back to the system.
void tally_return_free_memory(void);

/// Reads `count` bytes at `offset` of a file of a directory if the system has them, and the file's name, in
/// memory, so that the device need not be waited for.
bool tally_read_cached(int directory, const char *name, int64_t offset, void *bytes, size_t count);

/// Gives the calling thread a name of at most 15 bytes, for debuggers and `top`.
void tally_name_thread(const char *name);

#endif
