/* A thread for whose calls there may be no place, beside one that has called first: it moves the other's
 * blocks. The truth: who holds what, what the calls without a place have got, and which of that was freed. */
#include "protocol.h"
#include <pthread.h>

enum { BLOCKS = 20, FREED = 3, SMALL = 1200, LARGE = 3000 };

static void *blocks[BLOCKS];
static pthread_barrier_t turn;

NOINLINE static void *by_malloc(void)
{
    void *block = malloc(SMALL);
    keep(block);
    return block;
}

NOINLINE static void *by_realloc(void *old)
{
    void *block = realloc(old, LARGE);
    keep(block);
    return block;
}

static void *move(void *unused)
{
    (void)unused;
    /* What the C library makes for the first call of a thread. */
    free(realloc(malloc(SMALL), LARGE));
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    for (int i = 0; i < BLOCKS; i += 2)
        blocks[i] = by_realloc(blocks[i]);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    return NULL;
}

int main(void)
{
    pthread_t other;
    pthread_barrier_init(&turn, NULL, 2);
    pthread_create(&other, NULL, move, NULL);
    pthread_barrier_wait(&turn);
    begin();
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = by_malloc();
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    for (int i = 0; i < FREED; i++)
        free(blocks[2 * i]);
    /* These come to lie where moved blocks were. */
    for (int i = 0; i < FREED; i++)
        keep(by_malloc());
    truth_site("by_malloc", (BLOCKS / 2 + FREED) * SMALL, BLOCKS / 2 + FREED);
    truth_number("without_a_place", BLOCKS / 2);
    truth_number("freed_of_these", FREED);
    finish();
    pthread_barrier_wait(&turn);
    pthread_join(other, NULL);
}
