/* Measures pairs of malloc and free at the end of a chain of DEPTH calls.
 * usage: malloc_bench DEPTH MILLISECONDS [wait]
 * With "wait": prints "ready MALLOC FREE" (addresses in hex) and goes on when a line comes in.
 * At the end prints "ns_per_pair X". */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { PAIRS_PER_CLOCK = 512 };

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Sizes from 16 to 256 in an order that repeats after 16 pairs. */
__attribute__((noinline)) static void allocate_and_free(void)
{
    for (int i = 0; i < PAIRS_PER_CLOCK; i++) {
        char *volatile block = malloc(16u + (size_t)(i * 7 % 16) * 16u);
        free(block);
    }
}

__attribute__((noinline)) static void at_depth(int depth, void (*job)(void))
{
    if (depth <= 1)
        job();
    else
        at_depth(depth - 1, job);
    /* Keeps the call from becoming a jump. */
    __asm__ volatile("");
}

static double measure(int depth, double milliseconds)
{
    double start = now_ns(), end = start + milliseconds * 1e6, now;
    double pairs = 0;
    do {
        at_depth(depth, allocate_and_free);
        pairs += PAIRS_PER_CLOCK;
        now = now_ns();
    } while (now < end);
    return (now - start) / pairs;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: malloc_bench DEPTH MILLISECONDS [wait]\n");
        return 2;
    }
    int depth = atoi(argv[1]);
    double milliseconds = atof(argv[2]);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc > 3 && !strcmp(argv[3], "wait")) {
        printf("ready %lx %lx\n", (unsigned long)dlsym(RTLD_DEFAULT, "malloc"),
               (unsigned long)dlsym(RTLD_DEFAULT, "free"));
        fflush(stdout);
        if (getchar() == EOF)
            return 1;
    }
    measure(depth, milliseconds / 4); /* caches, and the tracer's maps, warm up */
    printf("ns_per_pair %.2f\n", measure(depth, milliseconds));
    return 0;
}
