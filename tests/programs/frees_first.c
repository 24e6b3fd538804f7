/* A thread that frees before it allocates: glibc gives it an arena then, inside free. */
#include "protocol.h"
#include <pthread.h>

enum { BLOCKS = 40, BYTES = 500 };

/* What glibc sets aside for an arena. */
#define ARENA_BYTES (64LL << 20)

static void *blocks[BLOCKS];
static pthread_barrier_t freed;

NOINLINE static void allocate(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(blocks[i] = malloc(BYTES));
}

static long long grown_by_frees;

NOINLINE static void *free_some(void *unused)
{
    long long before = all_mapped_bytes();
    for (int i = 0; i < BLOCKS / 2; i++)
        free(blocks[i]);
    grown_by_frees = all_mapped_bytes() - before;
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&freed);
    return unused;
}

int main(void)
{
    begin();
    pthread_t thread;
    pthread_barrier_init(&freed, NULL, 2);
    allocate();
    pthread_create(&thread, NULL, free_some, NULL);
    pthread_barrier_wait(&freed);
    truth_number("arenas", grown_by_frees / ARENA_BYTES);
    truth_site("allocate", BLOCKS / 2 * BYTES, BLOCKS / 2);
    finish();
    pthread_barrier_wait(&freed);
    pthread_join(thread, NULL);
    return 0;
}
