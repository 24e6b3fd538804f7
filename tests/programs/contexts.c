/* Coroutines of ucontext on stacks from malloc and from mmap, resumed by one thread after another,
 * that allocate between the switches. A call of posix_memalign is also left in its middle: it
 * faults, the signal handler switches to a coroutine that allocates on its own stack, and
 * only then the call goes on and returns. */
#include "protocol.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { COROUTINES = 60, THREADS = 3, STEPS = 90, STACK_BYTES = 65536, LEAK_BYTES = 300, MIDDLE = 25 };

struct coroutine {
    ucontext_t own, *resumer;
    unsigned long sum;
    int steps;
};

static struct coroutine all[COROUTINES], inner;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static void **closed_place;

NOINLINE static void leak_on_a_small_stack(void)
{
    keep(malloc(LEAK_BYTES));
}

NOINLINE static void leak_in_the_middle_of_a_call(void)
{
    keep(malloc(LEAK_BYTES));
}

/* To the caller this call took long, and worked. */
NOINLINE static void leak_by_an_interrupted_call(void)
{
    mprotect(closed_place, 4096, PROT_NONE);
    if (posix_memalign(closed_place, 64, LEAK_BYTES))
        _exit(97);
}

static void yield(struct coroutine *self)
{
    swapcontext(&self->own, self->resumer);
}

static void run(unsigned index)
{
    struct coroutine *self = index < COROUTINES ? &all[index] : &inner;
    for (;;) {
        size_t size = 1 + self->sum % 2000;
        unsigned char *block = malloc(size);
        memset(block, 7, size);
        yield(self);
        block = realloc(block, size + 100);
        self->sum = self->sum * 31 + block[size / 2] + index;
        free(block);
        self->steps++;
        if (index == COROUTINES)
            leak_in_the_middle_of_a_call();
        else if (self->steps % 30 == 0)
            leak_on_a_small_stack();
        yield(self);
    }
}

static void resume(struct coroutine *coroutine)
{
    ucontext_t here;
    coroutine->resumer = &here;
    swapcontext(&here, &coroutine->own);
}

static void make(struct coroutine *coroutine, unsigned index, void *stack)
{
    getcontext(&coroutine->own);
    coroutine->own.uc_stack.ss_sp = stack;
    coroutine->own.uc_stack.ss_size = STACK_BYTES;
    coroutine->sum = index;
    makecontext(&coroutine->own, (void (*)(void))run, 1, index);
}

static void *mapped_stack(void)
{
    return mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Two resumptions are a step. */
static void *resume_all(void *argument)
{
    for (int step = 0; step < 2 * STEPS / THREADS; step++)
        for (int i = 0; i < COROUTINES; i++) {
            pthread_mutex_lock(&turn);
            resume(&all[i]);
            pthread_mutex_unlock(&turn);
        }
    return argument;
}

static void open_the_place(int signal)
{
    (void)signal;
    resume(&inner);
    resume(&inner);
    mprotect(closed_place, 4096, PROT_READ | PROT_WRITE);
}

int main(int argc, char **argv)
{
    int in_the_middle = argc > 1 && strcmp(argv[1], "in_the_middle") == 0;
    for (unsigned i = 0; i < COROUTINES; i++)
        make(&all[i], i, i % 2 ? malloc(STACK_BYTES) : mapped_stack());
    closed_place = mapped_stack();
    make(&inner, COROUTINES, mapped_stack());
    struct sigaction action = {.sa_handler = open_the_place};
    sigaction(SIGSEGV, &action, NULL);
    begin();
    if (in_the_middle)
        for (int i = 0; i < MIDDLE; i++)
            leak_by_an_interrupted_call();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, resume_all, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    unsigned long sum = inner.sum;
    for (int i = 0; i < COROUTINES; i++)
        sum = sum * 31 + all[i].sum + (unsigned long)all[i].steps;
    say("sum %lu\n", sum);
    truth_site("leak_on_a_small_stack", COROUTINES * (STEPS / 30) * LEAK_BYTES,
               COROUTINES * (STEPS / 30));
    if (in_the_middle) {
        truth_site("leak_in_the_middle_of_a_call", MIDDLE * LEAK_BYTES, MIDDLE);
        truth_number("interrupted_calls", MIDDLE);
        truth_number("interrupted_bytes", MIDDLE * LEAK_BYTES);
    }
    finish();
    return 42;
}
