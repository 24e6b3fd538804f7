/* A library's signal handler maps while it interrupts mmap. The main program loads it, and has its work done:
 * the same source, built with -DLIBRARY. */
#include "mapped_between.h"
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { MAPPED = 65536, INTERRUPTED = 30 };

#ifdef LIBRARY

static volatile int is_mapping, interrupted;
static volatile long long bytes;

NOINLINE static void map_in_handler(void)
{
    char *start = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bytes += mapped_between(start, start + MAPPED);
}

static void handle(int signal)
{
    (void)signal;
    map_in_handler();
    interrupted += is_mapping;
}

void work(void);

/* The C library's mmap works for a while, so that a timer meets it there: one that comes earlier after each
 * round in which it came too late. */
void work(void)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct itimerval on = {{0, 3000}, {0, 3000}}, off = {{0, 0}, {0, 0}};
    size_t large = 32 << 20;
    sigaction(SIGALRM, &action, NULL);
    while (interrupted < INTERRUPTED) {
        int before = interrupted;
        is_mapping = 1;
        setitimer(ITIMER_REAL, &on, NULL);
        void *start = mmap(NULL, large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        setitimer(ITIMER_REAL, &off, NULL);
        is_mapping = 0;
        munmap(start, large);
        if (interrupted == before && on.it_value.tv_usec > 1)
            on.it_value.tv_usec /= 2;
    }
    truth_number("map_in_handler", bytes);
    truth_number("interrupted", interrupted);
}

#else

int main(int count, char **arguments)
{
    void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    if (library == NULL)
        _exit(95);
    void (*work)(void);
    *(void **)&work = dlsym(library, "work");
    begin();
    work();
    finish();
}

#endif
