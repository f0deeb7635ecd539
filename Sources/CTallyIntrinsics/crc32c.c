#include "CTallyIntrinsics.h"
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>

bool tally_crc32c_available(void) {
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2")))
uint32_t tally_crc32c_update(uint32_t state, const void *bytes, size_t count) {
    const uint8_t *next = bytes;
    uint64_t wide = state;
    for (; count >= 8; count -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    state = (uint32_t)wide;
    for (; count > 0; count--, next++) {
        state = _mm_crc32_u8(state, *next);
    }
    return state;
}

#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>

bool tally_crc32c_available(void) { return true; }

uint32_t tally_crc32c_update(uint32_t state, const void *bytes, size_t count) {
    const uint8_t *next = bytes;
    for (; count >= 8; count -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        state = __crc32cd(state, word);
    }
    for (; count > 0; count--, next++) {
        state = __crc32cb(state, *next);
    }
    return state;
}

#else

bool tally_crc32c_available(void) { return false; }

uint32_t tally_crc32c_update(uint32_t state, const void *bytes, size_t count) {
    (void)bytes;
    (void)count;
    return state;
}

#endif
