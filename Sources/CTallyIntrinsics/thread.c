#define _GNU_SOURCE
#include "CTallyIntrinsics.h"
#include <pthread.h>

void tally_name_thread(const char *name) {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), name);
#else
    (void)name;
#endif
}
