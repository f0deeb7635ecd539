#define _GNU_SOURCE
#include "CTallyIntrinsics.h"
#include <malloc.h>
#include <pthread.h>
#if defined(__linux__)
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#endif

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

bool tally_read_cached(int directory, const char *name, int64_t offset, void *bytes, size_t count) {
#if defined(__linux__) && defined(SYS_openat2) && defined(RESOLVE_CACHED) && defined(RWF_NOWAIT)
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_CACHED};
    const int file = (int)syscall(SYS_openat2, directory, name, &how, sizeof how);
    if (file < 0) return false;
    const struct iovec piece = {.iov_base = bytes, .iov_len = count};
    const ssize_t read = preadv2(file, &piece, 1, offset, RWF_NOWAIT);
    close(file);
    return read >= 0 && (size_t)read == count;
#else
    (void)directory, (void)name, (void)offset, (void)bytes, (void)count;
    return false;
#endif
}
