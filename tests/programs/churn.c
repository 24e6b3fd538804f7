/* Threads allocate and free without pause from before the first word to the end. Any line makes
 * it answer with its progress; "stop" makes every thread free all it has and the program finish.
 * Tells where malloc and free lie and what their code was before anybody touched it.
 * Argument: threads. */
#include "protocol.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

enum { MOST_THREADS = 128, HELD = 256 };

static _Atomic long rounds;
static _Atomic int stop;
static _Atomic int stopped;

NOINLINE static void churn(unsigned seed)
{
    void *held[HELD] = {0};
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        seed = seed * 1664525 + 1013904223;
        unsigned at = (seed >> 10) % HELD;
        free(held[at]);
        held[at] = malloc(16 + (seed >> 20) % 500);
        atomic_fetch_add_explicit(&rounds, 1, memory_order_relaxed);
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
}

static void *thread_main(void *argument)
{
    churn((unsigned)(long)argument);
    atomic_fetch_add(&stopped, 1);
    for (;;)
        pause();
    return NULL;
}

static void tell_code(const char *name)
{
    unsigned char *code = dlsym(RTLD_DEFAULT, name);
    char hex[129];
    for (int i = 0; i < 64; i++)
        snprintf(hex + 2 * i, 3, "%02x", code[i]);
    say("{\"truth\":\"code\",\"function\":\"%s\",\"address\":%lld,\"bytes\":\"%s\"}\n", name,
        (long long)(uintptr_t)code, hex);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 8;
    if (threads > MOST_THREADS)
        threads = MOST_THREADS;
    tell_code("malloc");
    tell_code("free");
    tell_code("calloc");
    tell_code("realloc");
    tell_code("mmap");
    tell_code("munmap");
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, thread_main, (void *)(i + 1));
    }
    while (atomic_load(&rounds) < 1000)
        usleep(1000);
    say("ready %d\n", (int)getpid());
    char line[16];
    for (;;) {
        ssize_t length = read(0, line, sizeof line - 1);
        if (length <= 0)
            return 0;
        if (strncmp(line, "stop", 4) == 0)
            break;
        truth_number("rounds", atomic_load(&rounds));
        say("done\n");
    }
    atomic_store(&stop, 1);
    while (atomic_load(&stopped) < threads)
        usleep(1000);
    truth_number("rounds", atomic_load(&rounds));
    truth_number("live_bytes", 0);
    truth_number("live_count", 0);
    finish();
    return 0;
}
