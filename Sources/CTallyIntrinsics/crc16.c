#include "CTallyIntrinsics.h"
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#include <wmmintrin.h>

bool tally_crc16_available(void) {
    return __builtin_cpu_supports("pclmul");
}

// The remainder of word * x^16 by x^16 + x^12 + x^5 + 1 over GF(2), by Barrett's method: the
// quotient is the high half of word times floor(x^80 / divisor), whose bit 64 is added apart.
__attribute__((target("pclmul")))
static inline uint16_t remainder16(uint64_t word) {
    const __m128i constants = _mm_set_epi64x(0x1021, 0x11303471a041b343);
    const __m128i input = _mm_cvtsi64_si128((long long)word);
    const __m128i product = _mm_clmulepi64_si128(input, constants, 0x00);
    const __m128i quotient = _mm_xor_si128(_mm_srli_si128(product, 8), input);
    return (uint16_t)_mm_cvtsi128_si32(_mm_clmulepi64_si128(quotient, constants, 0x10));
}

static inline uint64_t big_endian(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return __builtin_bswap64(word);
}

__attribute__((target("pclmul")))
uint16_t tally_crc16(const void *bytes, size_t count) {
    const uint8_t *next = bytes;
    const uint8_t *end = next + count;
    // What does not fill a word comes first: leading zeros do not change this checksum.
    const size_t odd = count & 7;
    uint16_t state = 0;
    if (odd > 0) {
        uint64_t word = 0;
        if (count >= 8) {
            word = big_endian(next) >> (64 - 8 * odd);
        } else {
            for (size_t index = 0; index < odd; index++) word = word << 8 | next[index];
        }
        state = remainder16(word);
        next += odd;
    }
    for (; next < end; next += 8) {
        state = remainder16(big_endian(next) ^ (uint64_t)state << 48);
    }
    return state;
}

#else

bool tally_crc16_available(void) { return false; }

uint16_t tally_crc16(const void *bytes, size_t count) {
    (void)bytes;
    (void)count;
    return 0;
}

#endif
