/* Eight threads allocate at once through 1022 call chains, each a word of the letters a and b: the
 * functions of these names in that order, the innermost first. One thread goes first and wakes up
 * all the time, so that it interrupts the others wherever they are, the kernel permitting. Of each
 * chain, one block stays; the others are freed by whoever comes next. Tells how often each chain was
 * gone through. Argument: allocations. */
#include "protocol.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 8, DEEPEST = 9, CHAINS = 1 << (DEEPEST + 1), BLOCK_BYTES = 40 };

typedef void *step(unsigned word, int letters);
static step *const steps[2];

static long allocations;
static _Atomic long begun;
static _Atomic long counts[CHAINS];
static _Atomic(void *) blocks[CHAINS];
static pthread_barrier_t barrier;

/* Both go on from one place, so that a chain is one stack. */
NOINLINE static void *a(unsigned word, int letters)
{
    void *block = letters ? steps[word & 1](word >> 1, letters - 1) : malloc(BLOCK_BYTES);
    keep(&block);
    return block;
}

NOINLINE static void *b(unsigned word, int letters)
{
    char room[240];
    keep(room);
    void *block = letters ? steps[word & 1](word >> 1, letters - 1) : malloc(BLOCK_BYTES);
    keep(room);
    return block;
}

static step *const steps[2] = {a, b};

/* A chain's number is its word behind a 1: every length has numbers of its own. */
NOINLINE static void go_through(unsigned number)
{
    int letters = 31 - __builtin_clz(number);
    void *block = steps[number & 1]((number & ((1u << letters) - 1)) >> 1, letters - 1);
    atomic_fetch_add_explicit(&counts[number], 1, memory_order_relaxed);
    free(atomic_exchange(&blocks[number], block));
}

static void *thread_main(void *argument)
{
    unsigned seed = (unsigned)(long)argument;
    int first = seed == 0;
    if (first) {
        struct sched_param highest = {.sched_priority = 1};
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &highest);
    }
    pthread_barrier_wait(&barrier);
    while (atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed) < allocations) {
        seed = seed * 1664525 + 1013904223;
        int letters = 1 + (int)((seed >> 8) % DEEPEST);
        go_through((1u << letters) | ((seed >> 16) & ((1u << letters) - 1)));
        if (first)
            nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
    }
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    return NULL;
}

static void tell(unsigned number)
{
    int letters = 31 - __builtin_clz(number);
    char word[DEEPEST + 1] = {0};
    /* The first letter is the innermost function. */
    for (int i = 0; i < letters; i++)
        word[letters - 1 - i] = (number >> i) & 1 ? 'b' : 'a';
    say("{\"truth\":\"chain\",\"chain\":\"%s\",\"count\":%ld}\n", word, counts[number]);
}

int main(int argc, char **argv)
{
    allocations = argc > 1 ? atol(argv[1]) : 100000;
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, thread_main, (void *)i) != 0)
            return 1;
    }
    begin();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (unsigned number = 2; number < CHAINS; number++)
        if (counts[number] > 0)
            tell(number);
    finish();
    return 0;
}
