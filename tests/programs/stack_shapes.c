/* Allocates below every shape of C frames that an unwinder meets: deep and variable ones, callbacks
 * from the C library, realigned stacks, signal handlers on their own and on other stacks,
 * coroutines, threads, and frames that longjmp has left. */
#include "protocol.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

enum { ROUNDS = 40, STACK_BYTES = 64 * 1024 };

static ucontext_t main_context, coroutine_context;
static char coroutine_stack[STACK_BYTES], signal_stack[STACK_BYTES];
static jmp_buf back;

NOINLINE static void leaf(int blocks)
{
    for (int i = 0; i < blocks; i++)
        keep(malloc(24));
    keep(&blocks);
}

NOINLINE static void variable(int words)
{
    long array[words];
    memset(array, 1, sizeof array);
    keep(array);
    leaf(2);
    keep(array);
}

NOINLINE static void big(int blocks)
{
    char array[600 * 1024];
    array[blocks] = 1;
    keep(array);
    leaf(blocks);
    keep(array);
}

NOINLINE static void realigned(int words)
{
    char aligned[256] __attribute__((aligned(128)));
    long array[words];
    keep(aligned);
    keep(array);
    leaf(1);
    keep(aligned);
    keep(array);
}

NOINLINE static int recursive(int depth)
{
    if (depth == 0) {
        variable(5);
        return 0;
    }
    int below = recursive(depth - 1);
    keep(&below);
    return below + 1;
}

NOINLINE static int compare(const void *a, const void *b)
{
    leaf(1);
    return *(const int *)a - *(const int *)b;
}

NOINLINE static void on_signal(int number)
{
    leaf(1);
    keep(&number);
}

NOINLINE static void coroutine(void)
{
    for (;;) {
        recursive(3);
        swapcontext(&coroutine_context, &main_context);
    }
}

static volatile int leaves_by_longjmp = 1;

NOINLINE static void leave(int depth)
{
    leaf(1);
    if (depth > 0)
        leave(depth - 1);
    else if (leaves_by_longjmp)
        longjmp(back, 1);
    keep(&depth);
}

/* All six registers that a callee saves are in use across the call. */
NOINLINE static long crowded(long a, long b, long c, long d, long e, long f)
{
    long g = a * b, h = c * d, i = e * f, j = a + c, k = b + d, l = e - f;
    leaf(1);
    return g + h * i + j * k + l + a + b + c + d + e + f;
}

NOINLINE static void signals(void)
{
    raise(SIGUSR1);
    raise(SIGUSR2);
    /* A signal amid code of our own rather than in a system call. */
    __asm__ volatile("ud2");
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    interrupted->uc_mcontext.gregs[REG_RIP] += 2;
    leaf(1);
    keep(info);
    keep(&number);
}

static void all_shapes(void)
{
    int numbers[] = {3, 1, 4, 1, 5, 9, 2, 6};
    variable(7);
    variable(300);
    big(2);
    realigned(9);
    recursive(30);
    recursive(90);
    qsort(numbers, 8, sizeof *numbers, compare);
    keep((void *)crowded(1, 2, 3, 4, 5, 6));
    if (!setjmp(back))
        leave(4);
    leaf(1);
}

static void *thread(void *argument)
{
    for (int i = 0; i < ROUNDS; i++)
        recursive(5);
    signals();
    return argument;
}

int main(void)
{
    stack_t other = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction plain = {.sa_handler = on_signal};
    struct sigaction elsewhere = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaltstack(&other, NULL);
    sigaction(SIGUSR1, &plain, NULL);
    sigaction(SIGUSR2, &elsewhere, NULL);
    sigaction(SIGILL, &trap, NULL);
    getcontext(&coroutine_context);
    coroutine_context.uc_stack.ss_sp = coroutine_stack;
    coroutine_context.uc_stack.ss_size = sizeof coroutine_stack;
    makecontext(&coroutine_context, coroutine, 0);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, thread, NULL);
        all_shapes();
        signals();
        swapcontext(&main_context, &coroutine_context);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
    return 0;
}
