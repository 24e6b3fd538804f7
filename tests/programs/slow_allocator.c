/* An allocator in a library, to be preloaded, that can be told to block in a thread's next call: a thread
 * that is cancelled then leaves it from the inside. Memory is never used again. */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

void block_in_next_call(int reached, int gate);
void *slow_alloc(size_t bytes);
void *slow_realloc(void *block, size_t bytes);
void slow_free(void *block);

enum { POOL_BYTES = 64 << 20, HEADER = 16 };

static char pool[POOL_BYTES] __attribute__((aligned(16)));
static size_t used;

#define OF_THREAD static __thread __attribute__((tls_model("initial-exec")))
OF_THREAD int will_block, reached_by, gate_of;

void block_in_next_call(int reached, int gate)
{
    reached_by = reached;
    gate_of = gate;
    will_block = 1;
}

static void *take(size_t bytes)
{
    size_t whole = HEADER + ((bytes + 15) & ~(size_t)15);
    char *place = pool + __atomic_fetch_add(&used, whole, __ATOMIC_SEQ_CST);
    if (place + whole > pool + POOL_BYTES)
        _exit(97);
    memcpy(place, &bytes, sizeof bytes);
    return place + HEADER;
}

/* Two cancellation points; the thread is cancelled in the second one. */
static void block_if_told(void)
{
    char byte = 0;
    if (!will_block)
        return;
    will_block = 0;
    if (write(reached_by, &byte, 1) != 1 || read(gate_of, &byte, 1) != 1)
        _exit(96);
}

static void *resize(void *block, size_t bytes)
{
    void *fresh = take(bytes);
    size_t before = 0;
    if (block)
        memcpy(&before, (char *)block - HEADER, sizeof before);
    memcpy(fresh, block, before < bytes ? before : bytes);
    return fresh;
}

void *malloc(size_t bytes)
{
    block_if_told();
    return take(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    void *block = take(count * bytes);
    return memset(block, 0, count * bytes);
}

void *realloc(void *block, size_t bytes)
{
    block_if_told();
    return resize(block, bytes);
}

void free(void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

void *slow_alloc(size_t bytes)
{
    block_if_told();
    return take(bytes);
}

void *slow_realloc(void *block, size_t bytes)
{
    block_if_told();
    return resize(block, bytes);
}

void slow_free(void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}
