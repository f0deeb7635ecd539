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

void tally_return_free_memory(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}
