/* Leaks until the kernel kills it, unevenly, beside a cache that is full and requests that come and go.
 * Arguments: bytes a second, a number that the unevenness comes from. */
#include "protocol.h"
#include <time.h>

enum { ROUNDS_A_SECOND = 50, CACHE = 64, CACHE_BYTES = 40000 };

static uint64_t state;

/* From 0 to below. */
static uint64_t any(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

NOINLINE static void leaks(uint64_t bytes)
{
    for (uint64_t left = bytes; left > 0;) {
        uint64_t size = 64 + any(4000);
        keep(memset(malloc(size), 1, size));
        left -= left < size ? left : size;
    }
}

NOINLINE static void caches(void)
{
    static void *cache[CACHE];
    void **place = &cache[any(CACHE)];
    free(*place);
    *place = memset(malloc(CACHE_BYTES), 1, CACHE_BYTES);
}

NOINLINE static void serves(void)
{
    for (int i = 0; i < 20; i++) {
        void *block = malloc(1 + any(30000));
        keep(block);
        free(block);
    }
}

int main(int argc, char **argv)
{
    uint64_t rate = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    state = 88172645463325252 + (argc > 2 ? strtoull(argv[2], NULL, 10) : 0) * 2654435761;
    for (int i = 0; i < 1000; i++)
        caches();
    begin();
    for (;;) {
        leaks(any(2 * rate / ROUNDS_A_SECOND) + 1);
        caches();
        serves();
        nanosleep(&(struct timespec){.tv_nsec = 1000000000 / ROUNDS_A_SECOND}, NULL);
    }
}
