/* Three threads allocate, three others free what they are given, at the same time; every tenth
 * block is never given away. */
#include "protocol.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { PAIRS = 3, BLOCKS = 20000, BLOCK_BYTES = 48 };

static _Atomic(void *) slots[PAIRS][BLOCKS];
static pthread_barrier_t start, end;

static int stays(int block) { return block % 10 == 0; }

NOINLINE static void produce(long pair)
{
    for (int i = 0; i < BLOCKS; i++)
        atomic_store(&slots[pair][i], malloc(BLOCK_BYTES));
}

NOINLINE static void consume(long pair)
{
    for (int i = 0; i < BLOCKS; i++) {
        void *block;
        while (!(block = atomic_load(&slots[pair][i])))
            sched_yield();
        if (!stays(i))
            free(block);
    }
}

static void *thread_main(void *argument)
{
    long number = (long)argument;
    pthread_barrier_wait(&start);
    if (number % 2)
        produce(number / 2);
    else
        consume(number / 2);
    pthread_barrier_wait(&end);
    for (;;)
        pause();
    return NULL;
}

int main(void)
{
    pthread_barrier_init(&start, NULL, 2 * PAIRS + 1);
    pthread_barrier_init(&end, NULL, 2 * PAIRS + 1);
    for (long i = 0; i < 2 * PAIRS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, thread_main, (void *)i);
    }
    begin();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    long left = PAIRS * BLOCKS / 10;
    truth_site("produce", left * BLOCK_BYTES, left);
    truth_number("live_bytes", left * BLOCK_BYTES);
    truth_number("live_count", left);
    truth_number("allocated_count", (long)PAIRS * BLOCKS);
    truth_number("freed_count", (long)PAIRS * BLOCKS - left);
    finish();
}
