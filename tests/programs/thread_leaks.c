/* Threads that existed before anybody looked leak at the same time.
 * Arguments: threads, blocks a thread, bytes a block. */
#include "protocol.h"
#include <pthread.h>

static long blocks, block_bytes;
static pthread_barrier_t start, end;

NOINLINE static void leak_in_thread(void)
{
    for (long i = 0; i < blocks; i++)
        keep(malloc((size_t)block_bytes));
}

static void *thread_main(void *argument)
{
    pthread_barrier_wait(&start);
    leak_in_thread();
    pthread_barrier_wait(&end);
    for (;;)
        pause();
    return argument;
}

int main(int argc, char **argv)
{
    long threads = argc > 1 ? atol(argv[1]) : 2;
    blocks = argc > 2 ? atol(argv[2]) : 100000;
    block_bytes = argc > 3 ? atol(argv[3]) : 4;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, thread_main, NULL);
    }
    begin();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    truth_site("leak_in_thread", threads * blocks * block_bytes, threads * blocks);
    truth_number("live_bytes", threads * blocks * block_bytes);
    truth_number("live_count", threads * blocks);
    finish();
}
