/* A pool that takes its memory from malloc, and handles of two kinds. Tells what its pairs of
 * functions hold, and what the heap does. */
#include "protocol.h"

enum { LEAKED = 40, FREED = 25, BYTES = 100 };

static long long heap_bytes, heap_count;

NOINLINE void *pool_alloc(int size, int tag)
{
    if (size < 0 || tag < 0)
        return NULL;
    size_t *block = malloc(sizeof *block + (size_t)size);
    if (!block)
        _exit(98);
    *block = (size_t)size;
    heap_bytes += (long long)(sizeof *block + *block);
    heap_count++;
    return block + 1;
}

NOINLINE void pool_free(int tag, void *pointer)
{
    if (!pointer || tag < 0)
        return;
    size_t *block = (size_t *)pointer - 1;
    heap_bytes -= (long long)(sizeof *block + *block);
    heap_count--;
    free(block);
}

/* By pool_alloc and pool_free, so that calls of one pair are inside one another. */
NOINLINE void *pool_realloc(void *pointer, size_t count, size_t size)
{
    if (size > 1 << 20)
        return NULL;
    void *block = pool_alloc((int)(count * size), 0);
    pool_free(0, pointer);
    return block;
}

static char places[LEAKED + FREED];
static int used;

/* Handles that are no memory at all: an error gives none, and does not touch the place. */
NOINLINE int handle_open(const char *name, void **handle)
{
    if (!name)
        return -1;
    *handle = &places[used++];
    return 0;
}

NOINLINE void handle_close(void *handle)
{
    keep(handle);
}

NOINLINE void *ticket(void)
{
    return &places[used++];
}

NOINLINE static void leak_pool(void)
{
    for (int i = 0; i < LEAKED; i++) {
        keep(pool_alloc(BYTES, i));
        keep(pool_alloc(-BYTES, i));
    }
}

NOINLINE static void leak_grown(void)
{
    for (int i = 0; i < LEAKED; i++) {
        void *block = pool_alloc(BYTES, i);
        block = pool_realloc(block, 3, BYTES);
        if (pool_realloc(block, 1, (size_t)1 << 40))
            _exit(97);
        keep(block);
    }
}

NOINLINE static void leak_handles(void)
{
    for (int i = 0; i < LEAKED; i++) {
        void *handle = NULL;
        if (handle_open("name", &handle) != 0 || handle_open(NULL, &handle) == 0)
            _exit(96);
        keep(handle);
    }
}

NOINLINE static void use_pool(void)
{
    for (int i = 0; i < FREED; i++)
        pool_free(i, pool_alloc(BYTES, i));
}

NOINLINE static void use_handles(void)
{
    for (int i = 0; i < FREED; i++)
        handle_close(ticket());
}

int main(void)
{
    void *early = pool_alloc(BYTES, 0);
    heap_bytes = heap_count = 0;
    begin();
    leak_pool();
    leak_grown();
    use_pool();
    leak_handles();
    use_handles();
    pool_free(0, early);
    /* That block was there before. */
    heap_bytes += (long long)sizeof(size_t) + BYTES;
    heap_count++;
    truth_number("live_bytes", heap_bytes);
    truth_number("live_count", heap_count);
    truth_number("unmatched_frees", 1);
    truth_number("pool_live_bytes", LEAKED * BYTES + LEAKED * 3 * BYTES);
    truth_number("pool_live_count", 2 * LEAKED);
    truth_number("pool_allocated_count", LEAKED + 2 * LEAKED + FREED);
    truth_number("pool_unmatched_frees", 1);
    truth_number("leak_pool_bytes", LEAKED * BYTES);
    truth_number("leak_grown_bytes", LEAKED * 3 * BYTES);
    truth_number("handles_live_count", LEAKED);
    truth_number("handles_allocated_count", LEAKED);
    truth_number("tickets_allocated_count", FREED);
    truth_number("tickets_freed_count", FREED);
    finish();
}
