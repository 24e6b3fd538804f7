/* Threads, forks, signals, pipes and jumps whose output and exit code are the same in every run:
 * a tracer that changes either has changed the program. */
#include "protocol.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

enum { THREADS = 8, ROUNDS = 3000, CHILDREN = 12 };

static volatile sig_atomic_t signals_seen;
static sigjmp_buf out;

static void count_signal(int signal)
{
    (void)signal;
    signals_seen++;
}

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

static void *checksum(void *argument)
{
    unsigned long sum = (unsigned long)argument;
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = 1 + (sum % 3000);
        unsigned char *block = malloc(size);
        memset(block, (int)(sum & 255), size);
        block = realloc(block, size * 2);
        sum = sum * 31 + block[size / 2] + size;
        char *copy = strdup("leave no trace");
        sum += strlen(copy);
        free(copy);
        free(block);
    }
    return (void *)sum;
}

static void run_threads(void)
{
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, checksum, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) {
        void *sum;
        pthread_join(threads[i], &sum);
        printf("thread %d: %lu\n", i, (unsigned long)sum);
    }
}

static void run_children(void)
{
    fflush(stdout);
    for (int i = 0; i < CHILDREN; i++) {
        int ends[2];
        unsigned long sum = 0;
        if (pipe(ends))
            exit(1);
        pid_t child = fork();
        if (child == 0) {
            sum = (unsigned long)checksum((void *)(100l + i));
            if (write(ends[1], &sum, sizeof sum) != sizeof sum)
                _exit(1);
            if (i % 3 == 0)
                kill(getpid(), SIGTERM);
            _exit(i);
        }
        close(ends[1]);
        ssize_t length = read(ends[0], &sum, sizeof sum);
        close(ends[0]);
        int status;
        waitpid(child, &status, 0);
        printf("child %d: %zd bytes, %lu, status %x\n", i, length, sum, (unsigned)status);
    }
}

static void run_signals(void)
{
    signal(SIGUSR1, count_signal);
    for (int i = 0; i < 2000; i++) {
        free(malloc((size_t)i));
        raise(SIGUSR1);
    }
    printf("signals: %d\n", (int)signals_seen);
    signal(SIGSEGV, jump_out);
    int jumps = 0;
    for (int i = 0; i < 50; i++) {
        if (sigsetjmp(out, 1) == 0)
            keep((void *)(long)posix_memalign((void **)16, 64, 100));
        else
            jumps++;
    }
    printf("jumps: %d\n", jumps);
}

static void run_failures(void)
{
    volatile size_t too_big = PTRDIFF_MAX;
    errno = 0;
    void *block = malloc(too_big);
    printf("malloc: %p, %s\n", block, strerror(errno));
    errno = 0;
    block = malloc(10);
    void *failed = realloc(block, too_big);
    printf("realloc: %p, %s\n", failed, strerror(errno));
    free(block);
    errno = 77;
    free(malloc(100));
    printf("errno afterwards: %d\n", errno);
}

int main(void)
{
    begin();
    run_threads();
    run_children();
    run_signals();
    run_failures();
    puts("end");
    return 42;
}
