/* Preloaded into a program that nobody here wrote: keeps a block of every write that it makes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT_BYTES = 120 };

/* Two functions, because a tracer that walks by frame pointers may lose the caller of malloc. */
__attribute__((noinline)) static void *leak_block(void)
{
    char *volatile block = malloc(KEPT_BYTES);
    if (block)
        memset(block, 1, KEPT_BYTES);
    return block;
}

__attribute__((noinline)) static void leak_reply(void)
{
    void *volatile kept = leak_block();
    (void)kept;
}

ssize_t write(int file, const void *bytes, size_t count)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (!next)
        next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    leak_reply();
    return next(file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at)
{
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (!next)
        next = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    leak_reply();
    return next(file, bytes, count, at);
}
