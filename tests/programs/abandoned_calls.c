/* Threads leave an allocation function without returning from it: posix_memalign is given a place
 * that cannot be written, faults after it has let go of the allocator's locks, and the signal
 * handler jumps out. What is allocated afterwards is to be seen, above that stack pointer and below,
 * also below a buffer that leaves the old words of the stack as they were. With an argument, all of
 * this is done in a library: the same source, built with -DLIBRARY. */
#include "protocol.h"
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

enum { ROUNDS = 100, BLOCK_BYTES = 700 };

static sigjmp_buf out;

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

NOINLINE static void leave_posix_memalign(void)
{
    if (sigsetjmp(out, 1) == 0)
        keep((void *)(long)posix_memalign((void **)16, 64, 5000));
}

NOINLINE static void leave_from_below(int depth)
{
    volatile char room[128];
    room[0] = (char)depth;
    if (depth)
        leave_from_below(depth - 1);
    else
        leave_posix_memalign();
    room[1] = room[0];
}

NOINLINE static void leak_above(void)
{
    keep(malloc(BLOCK_BYTES));
}

NOINLINE static void leak_below(int depth)
{
    volatile char room[128];
    room[0] = (char)depth;
    if (depth)
        leak_below(depth - 1);
    else
        keep(malloc(BLOCK_BYTES));
    room[1] = room[0];
}

NOINLINE static void leak_over_a_gap(void)
{
    volatile char gap[8192];
    gap[0] = 1;
    keep(malloc(BLOCK_BYTES));
    keep(calloc(BLOCK_BYTES, 1));
    gap[1] = gap[0];
}

void work(void);

void work(void)
{
    struct sigaction action = {.sa_handler = jump_out};
    sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        leave_from_below(20);
        leak_above();
        leave_posix_memalign();
        leak_below(20);
        leave_posix_memalign();
        leak_over_a_gap();
    }
    truth_site("leak_above", ROUNDS * BLOCK_BYTES, ROUNDS);
    truth_site("leak_below", ROUNDS * BLOCK_BYTES, ROUNDS);
    truth_site("leak_over_a_gap", 2 * ROUNDS * BLOCK_BYTES, 2 * ROUNDS);
    truth_number("abandoned", 3 * ROUNDS);
}

#ifndef LIBRARY
int main(int argc, char **argv)
{
    void (*run)(void) = work;
    if (argc > 1) {
        void *library = dlopen(argv[1], RTLD_NOW);
        if (library == NULL)
            _exit(95);
        *(void **)&run = dlsym(library, "work");
    }
    begin();
    run();
    finish();
}
#endif
