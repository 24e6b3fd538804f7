/* Leaks at the end of a known chain of calls, in the main thread and in another, and tells the
 * chain twice: by name, and as the return addresses that glibc's own unwinder finds. */
#include "protocol.h"
#include <execinfo.h>
#include <pthread.h>

enum { BLOCKS = 10, BLOCK_BYTES = 333, MOST_FRAMES = 64 };

extern char __executable_start;

static void *main_stack[MOST_FRAMES], *thread_stack[MOST_FRAMES];
static int main_depth, thread_depth;
static pthread_barrier_t start, end;

NOINLINE static void chain_c(void **stack, int *depth)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BLOCK_BYTES));
    *depth = backtrace(stack, MOST_FRAMES);
}

NOINLINE static void chain_b(void **stack, int *depth)
{
    chain_c(stack, depth);
    keep(stack);
}

NOINLINE static void chain_a(void **stack, int *depth)
{
    chain_b(stack, depth);
    keep(stack);
}

NOINLINE static void thread_c(void **stack, int *depth)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BLOCK_BYTES + 1));
    *depth = backtrace(stack, MOST_FRAMES);
}

NOINLINE static void thread_b(void **stack, int *depth)
{
    thread_c(stack, depth);
    keep(stack);
}

static void *thread_main(void *argument)
{
    pthread_barrier_wait(&start);
    thread_b(thread_stack, &thread_depth);
    pthread_barrier_wait(&end);
    for (;;)
        pause();
    return argument;
}

static void tell_stack(const char *names, void **stack, int depth)
{
    char text[MOST_FRAMES * 20] = "";
    for (int i = 0, at = 0; i < depth; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%p", i ? "," : "", stack[i]);
    say("{\"truth\":\"stack\",\"functions\":\"%s\",\"addresses\":\"%s\"}\n", names, text);
}

int main(void)
{
    pthread_t thread;
    /* The first call of backtrace loads a library. */
    backtrace(main_stack, MOST_FRAMES);
    pthread_barrier_init(&start, NULL, 2);
    pthread_barrier_init(&end, NULL, 2);
    pthread_create(&thread, NULL, thread_main, NULL);
    begin();
    chain_a(main_stack, &main_depth);
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    tell_stack("chain_c,chain_b,chain_a,main", main_stack, main_depth);
    tell_stack("thread_c,thread_b,thread_main", thread_stack, thread_depth);
    truth_number("load_address", (long long)(uintptr_t)&__executable_start);
    truth_number("live_bytes", BLOCKS * (2 * BLOCK_BYTES + 1));
    truth_number("live_count", 2 * BLOCKS);
    finish();
}
