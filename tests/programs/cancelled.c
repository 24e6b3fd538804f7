/* Threads that are cancelled while they allocate in a loop; a cleanup handler frees what was in
 * hand. What each of them leaked before is known. */
#include "protocol.h"
#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 120, LEAKS = 5, LEAK_BYTES = 400 };

static sem_t allocating;

NOINLINE static void leak_before_the_cancellation(void)
{
    for (int i = 0; i < LEAKS; i++)
        keep(malloc(LEAK_BYTES));
}

static void free_what_was_in_hand(void *place)
{
    free(*(void **)place);
}

static void *allocate_until_cancelled(void *argument)
{
    void *volatile in_hand = malloc(10);
    pthread_cleanup_push(free_what_was_in_hand, (void *)&in_hand);
    leak_before_the_cancellation();
    for (unsigned long i = 0;; i++) {
        in_hand = realloc(in_hand, 1 + i % 3000);
        free(calloc(3, i % 100 + 1));
        if (i == 20)
            sem_post(&allocating);
        pthread_testcancel();
    }
    pthread_cleanup_pop(1);
    return argument;
}

int main(void)
{
    sem_init(&allocating, 0, 0);
    begin();
    int cancelled = 0;
    for (int batch = 0; batch < THREADS / 8; batch++) {
        pthread_t threads[8];
        for (int i = 0; i < 8; i++)
            pthread_create(&threads[i], NULL, allocate_until_cancelled, NULL);
        for (int i = 0; i < 8; i++)
            sem_wait(&allocating);
        for (int i = 0; i < 8; i++) {
            void *result;
            pthread_cancel(threads[i]);
            pthread_join(threads[i], &result);
            cancelled += result == PTHREAD_CANCELED;
        }
    }
    truth_number("cancelled", cancelled);
    truth_site("leak_before_the_cancellation", THREADS * LEAKS * LEAK_BYTES, THREADS * LEAKS);
    finish();
    return 42;
}
