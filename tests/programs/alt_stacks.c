/* Signal handlers on stacks of their own that allocate, while a timer interrupts the program at any
 * instruction, and in the middle of calls: posix_memalign faults after it has let go of the allocator's
 * locks, the handler allocates, and the call goes on. */
#include "protocol.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { TICKS = 300, MIDDLE = 50, LEAK_BYTES = 600, STACK_BYTES = 65536 };

static char signal_stack[STACK_BYTES];
static volatile sig_atomic_t ticks, in_allocator, allocating_ticks;
static void **closed_place;

NOINLINE static void leak_in_a_handler(void)
{
    keep(malloc(LEAK_BYTES));
}

NOINLINE static void leak_in_the_middle_of_a_call(void)
{
    keep(malloc(LEAK_BYTES));
}

NOINLINE static void leak_by_an_interrupted_call(void)
{
    mprotect(closed_place, 4096, PROT_NONE);
    if (posix_memalign(closed_place, 64, LEAK_BYTES))
        _exit(97);
}

/* Handlers that allocate while they interrupt the allocator wait for its locks for ever, so
 * this one looks first. */
static void tick(int signal)
{
    (void)signal;
    if (ticks < TICKS && !in_allocator) {
        leak_in_a_handler();
        allocating_ticks++;
    }
    ticks++;
}

static void open_the_place(int signal)
{
    (void)signal;
    leak_in_the_middle_of_a_call();
    free(malloc(100));
    mprotect(closed_place, 4096, PROT_READ | PROT_WRITE);
}

static unsigned long allocate_until_the_last_tick(void)
{
    unsigned long rounds = 0;
    while (ticks < TICKS) {
        in_allocator = 1;
        void *block = malloc(rounds % 500);
        in_allocator = 0;
        keep(block);
        in_allocator = 1;
        free(block);
        in_allocator = 0;
        rounds++;
    }
    return rounds;
}

int main(void)
{
    closed_place = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t other = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    action.sa_handler = open_the_place;
    sigaction(SIGSEGV, &action, NULL);
    begin();
    for (int i = 0; i < MIDDLE; i++)
        leak_by_an_interrupted_call();
    const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    keep((void *)allocate_until_the_last_tick());
    setitimer(ITIMER_REAL, &never, NULL);
    say("%d calls interrupted\n", MIDDLE);
    truth_site("leak_in_the_middle_of_a_call", MIDDLE * LEAK_BYTES, MIDDLE);
    truth_number("interrupted_calls", MIDDLE);
    truth_number("interrupted_bytes", MIDDLE * LEAK_BYTES);
    truth_site("leak_in_a_handler", allocating_ticks * LEAK_BYTES, allocating_ticks);
    finish();
    return 42;
}
