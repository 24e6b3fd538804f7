/* Threads that are cancelled while they are inside an allocation call, deferred and asynchronously. The call
 * never returns, a realloc leaves its old block alone, and the thread's cleanup handler allocates. The next
 * thread gets the id of the one before, if the kernel gives it away again in time. */
#include "protocol.h"
#include <pthread.h>
#include <sys/syscall.h>

void block_in_next_call(int reached, int gate) __attribute__((weak));
void *slow_alloc(size_t bytes) __attribute__((weak));
void *slow_realloc(void *block, size_t bytes) __attribute__((weak));
void slow_free(void *block) __attribute__((weak));

enum { THREADS = 48, LEAKS = 5, LEAK_BYTES = 400, OLD_BYTES = 1000, CLEANUP_BYTES = 300 };

static int reached[2], gate[2];
static void *(*allocate)(size_t) = malloc;
static void *(*reallocate)(void *, size_t) = realloc;
static void (*release)(void *) = free;
static volatile pid_t tid;

NOINLINE static void leak_before(void)
{
    for (int i = 0; i < LEAKS; i++)
        keep(allocate(LEAK_BYTES));
    for (int i = 0; i < LEAKS; i++) {
        void *block = allocate(LEAK_BYTES);
        keep(block);
        release(block);
    }
}

NOINLINE static void *hold_for_realloc(void)
{
    return allocate(OLD_BYTES);
}

NOINLINE static void leave_in_a_call(void *old)
{
    keep(old ? reallocate(old, 7000) : allocate(5000));
}

NOINLINE static void leak_in_cleanup(void *unused)
{
    (void)unused;
    keep(malloc(CLEANUP_BYTES));
}

static void *run(void *number)
{
    intptr_t kind = (intptr_t)number;
    int before;
    tid = (pid_t)syscall(SYS_gettid);
    leak_before();
    void *old = kind & 1 ? hold_for_realloc() : NULL;
    pthread_cleanup_push(leak_in_cleanup, NULL);
    pthread_setcanceltype(kind & 2 ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED, &before);
    block_in_next_call(reached[1], gate[0]);
    leave_in_a_call(old);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Has the next thread get this id, which the kernel may not have taken back yet. */
static void ask_for_id(pid_t wanted)
{
    FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "w");
    if (last) {
        fprintf(last, "%d", (int)wanted - 1);
        fclose(last);
    }
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "pair") == 0) {
        allocate = slow_alloc;
        reallocate = slow_realloc;
        release = slow_free;
    }
    if (pipe(reached) != 0 || pipe(gate) != 0)
        return 95;
    begin();
    int cancelled = 0, used_again = 0;
    for (intptr_t number = 0; number < THREADS; number++) {
        pthread_t thread;
        pid_t before = tid;
        char byte;
        void *result;
        if (before)
            ask_for_id(before);
        pthread_create(&thread, NULL, run, (void *)number);
        if (read(reached[0], &byte, 1) != 1)
            return 94;
        pthread_cancel(thread);
        pthread_join(thread, &result);
        cancelled += result == PTHREAD_CANCELED;
        used_again += tid == before;
    }
    truth_number("cancelled", cancelled);
    truth_number("ids_used_again", used_again);
    truth_site("leak_before", THREADS * LEAKS * LEAK_BYTES, THREADS * LEAKS);
    truth_site("hold_for_realloc", THREADS / 2 * OLD_BYTES, THREADS / 2);
    truth_site("leak_in_cleanup", THREADS * CLEANUP_BYTES, THREADS);
    finish();
}
