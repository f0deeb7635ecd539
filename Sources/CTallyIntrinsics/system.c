#define _GNU_SOURCE
#include "CTallyIntrinsics.h"
#include <malloc.h>
#include <pthread.h>

void tally_name_thread(const char *name) {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), name);
#else
    (void)name;
#endif
}

void tally_keep_large_memory_apart(size_t byte_count) {
#if defined(__GLIBC__)
    // Said once, it no longer follows what is freed.
    mallopt(M_MMAP_THRESHOLD, (int)byte_count);
#else
    (void)byte_count;
#endif
}

void tally_return_free_memory(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}
