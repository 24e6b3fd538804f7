/* Everything about realloc, and every way in which an allocation fails. What each case holds in the end
 * is derived from what the functions returned, so that it is true for every libc. */
#include "protocol.h"
#include <errno.h>
#include <malloc.h>
#include <stdint.h>

/* Behind a volatile, so that the compiler neither warns nor folds the call. */
static volatile size_t too_big = PTRDIFF_MAX;
static volatile size_t half = SIZE_MAX / 2;

static long long live_bytes, live_count;

static void holds(const char *site, long long bytes, long long count)
{
    live_bytes += bytes;
    live_count += count;
    truth_site(site, bytes, count);
}

NOINLINE static void failed_realloc_keeps_the_old_block(void)
{
    void *block = malloc(1001);
    if (realloc(block, too_big))
        _exit(98);
    keep(block);
    holds(__func__, 1001, 1);
}

NOINLINE static void failed_reallocarray_keeps_the_old_block(void)
{
    void *block = malloc(1002);
    if (reallocarray(block, half, 4))
        _exit(98);
    keep(block);
    holds(__func__, 1002, 1);
}

NOINLINE static void block_kept_by_failed_realloc_is_freed(void)
{
    void *block = malloc(1003);
    if (realloc(block, too_big))
        _exit(98);
    free(block);
    holds(__func__, 0, 0);
}

NOINLINE static void realloc_to_zero(void)
{
    void *block = realloc(malloc(1004), 0);
    holds(__func__, 0, block ? 1 : 0);
}

NOINLINE static void realloc_shrinks(void)
{
    keep(realloc(malloc(1000), 105));
    holds(__func__, 105, 1);
}

NOINLINE static void realloc_grows_in_steps(void)
{
    void *block = NULL;
    for (size_t size = 16; size <= 1 << 21; size *= 2)
        block = realloc(block, size);
    keep(block);
    holds(__func__, 1 << 21, 1);
}

NOINLINE static void realloc_of_null_and_zero(void)
{
    void *block = realloc(NULL, 0);
    holds(__func__, 0, block ? 1 : 0);
}

NOINLINE static void malloc_of_zero(void)
{
    void *block = malloc(0);
    holds(__func__, 0, block ? 1 : 0);
}

NOINLINE static void failed_malloc(void)
{
    if (malloc(too_big))
        _exit(98);
    holds(__func__, 0, 0);
}

NOINLINE static void overflowing_calloc(void)
{
    if (calloc(half, 4))
        _exit(98);
    holds(__func__, 0, 0);
}

NOINLINE static void posix_memalign_refuses_the_alignment(void)
{
    void *block = &live_bytes;
    if (posix_memalign(&block, 3, 1000) != EINVAL)
        _exit(98);
    holds(__func__, 0, 0);
}

NOINLINE static void posix_memalign_without_memory(void)
{
    void *block = &live_bytes;
    if (posix_memalign(&block, 64, too_big) != ENOMEM)
        _exit(98);
    holds(__func__, 0, 0);
}

NOINLINE static void aligned_alloc_with_odd_alignment(void)
{
    void *block = aligned_alloc(3, 1006);
    holds(__func__, block ? 1006 : 0, block ? 1 : 0);
}

NOINLINE static void failed_memalign(void)
{
    if (memalign(64, too_big))
        _exit(98);
    holds(__func__, 0, 0);
}

NOINLINE static void free_of_null(void)
{
    free(NULL);
    holds(__func__, 0, 0);
}

NOINLINE static void malloc_that_maps_inside(void)
{
    void *freed = malloc(1 << 20);
    keep(freed);
    free(freed);
    keep(malloc(3 << 20));
    holds(__func__, 3 << 20, 1);
}

int main(void)
{
    begin();
    failed_realloc_keeps_the_old_block();
    failed_reallocarray_keeps_the_old_block();
    block_kept_by_failed_realloc_is_freed();
    realloc_to_zero();
    realloc_shrinks();
    realloc_grows_in_steps();
    realloc_of_null_and_zero();
    malloc_of_zero();
    failed_malloc();
    overflowing_calloc();
    posix_memalign_refuses_the_alignment();
    posix_memalign_without_memory();
    aligned_alloc_with_odd_alignment();
    failed_memalign();
    free_of_null();
    malloc_that_maps_inside();
    truth_number("live_bytes", live_bytes);
    truth_number("live_count", live_count);
    truth_number("unmatched_frees", 0);
    finish();
}
