/* Leaks exactly 30,000 bytes in 30 blocks through each allocation function, each from a caller of
 * its own, and allocates and frees as much again. Argument "no_leak": only the part that is freed.
 * Without pvalloc where the C library has none, or the allocator leaves it to the C library: its free
 * would not know such a block. */
#include "protocol.h"
#include "whose_pvalloc.h"
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

enum { BLOCKS = 30, BLOCK_BYTES = 1000 };

static char text[BLOCK_BYTES];
static long long allocated_bytes, allocated_count, freed_bytes, freed_count;

static void *counted(void *block)
{
    if (!block)
        _exit(98);
    allocated_bytes += BLOCK_BYTES;
    allocated_count++;
    return block;
}

static void release(void *block)
{
    free(block);
    freed_bytes += BLOCK_BYTES;
    freed_count++;
}

/* Expressions rather than functions, so that the one that calls the allocator is the named one. */
#define SMALL_THEN_BIG()                                   \
    ({                                                     \
        void *small = malloc(10);                          \
        void *big = realloc(small, BLOCK_BYTES);           \
        allocated_bytes += 10;                             \
        allocated_count++;                                 \
        freed_bytes += 10;                                 \
        freed_count++;                                     \
        big;                                               \
    })

#define BY_POSIX_MEMALIGN()                                \
    ({                                                     \
        void *place = NULL;                                \
        posix_memalign(&place, 64, BLOCK_BYTES) == 0 ? place : NULL; \
    })

#ifdef __GLIBC__
#define PVALLOC(DO) DO(pvalloc, pvalloc(BLOCK_BYTES))
#else
#define PVALLOC(DO)
#endif

#define EACH_FUNCTION(DO)                                  \
    DO(malloc, malloc(BLOCK_BYTES))                        \
    DO(calloc, calloc(10, BLOCK_BYTES / 10))               \
    DO(realloc_null, realloc(NULL, BLOCK_BYTES))           \
    DO(realloc, SMALL_THEN_BIG())                          \
    DO(reallocarray, reallocarray(NULL, 4, BLOCK_BYTES / 4)) \
    DO(posix_memalign, BY_POSIX_MEMALIGN())                \
    DO(aligned_alloc, aligned_alloc(64, BLOCK_BYTES))      \
    DO(memalign, memalign(256, BLOCK_BYTES))               \
    DO(valloc, valloc(BLOCK_BYTES))                        \
    PVALLOC(DO)                                            \
    DO(strdup, strdup(text))

#define DEFINE(name, allocate)                             \
    NOINLINE static void leak_##name(void)                 \
    {                                                      \
        for (int i = 0; i < BLOCKS; i++)                   \
            keep(counted(allocate));                       \
    }                                                      \
    NOINLINE static void free_##name(void)                 \
    {                                                      \
        for (int i = 0; i < BLOCKS; i++)                   \
            release(counted(allocate));                    \
    }

EACH_FUNCTION(DEFINE)

/* False for pvalloc alone, and not for the names of functions that call others. */
static int is_the_allocators(const char *function)
{
    return strcmp(function, "pvalloc") != 0 || pvalloc_is_the_allocators();
}

#define LEAK(name, allocate) if (is_the_allocators(#name)) leak_##name();
#define FREE(name, allocate) if (is_the_allocators(#name)) free_##name();
/* Who calls the allocation function: for strdup that is libc itself. */
#define CALLER_malloc "leak_malloc"
#define CALLER_calloc "leak_calloc"
#define CALLER_realloc_null "leak_realloc_null"
#define CALLER_realloc "leak_realloc"
#define CALLER_reallocarray "leak_reallocarray"
#define CALLER_posix_memalign "leak_posix_memalign"
#define CALLER_aligned_alloc "leak_aligned_alloc"
#define CALLER_memalign "leak_memalign"
#define CALLER_valloc "leak_valloc"
#define CALLER_pvalloc "leak_pvalloc"
#define CALLER_strdup "strdup"

#define TELL(name, allocate) if (is_the_allocators(#name)) truth_site(CALLER_##name, BLOCKS * BLOCK_BYTES, BLOCKS);

int main(int argc, char **argv)
{
    int leak = argc < 2 || strcmp(argv[1], "no_leak") != 0;
    memset(text, 'x', sizeof text - 1);
    begin();
    EACH_FUNCTION(FREE)
    if (leak) {
        EACH_FUNCTION(LEAK)
    }
    EACH_FUNCTION(FREE)
    if (leak) {
        EACH_FUNCTION(TELL)
    }
    truth_number("live_bytes", allocated_bytes - freed_bytes);
    truth_number("live_count", allocated_count - freed_count);
    truth_number("allocated_bytes", allocated_bytes);
    truth_number("allocated_count", allocated_count);
    truth_number("freed_bytes", freed_bytes);
    truth_number("freed_count", freed_count);
    truth_number("unmatched_frees", 0);
#ifdef __GLIBC__
    truth_text("glibc", gnu_get_libc_version());
#endif
    finish();
}
