/* Allocates at five places for so many seconds; they differ in when they free. */
#include "protocol.h"
#include <time.h>

enum { ROUNDS_A_SECOND = 200, LATER = 5 * ROUNDS_A_SECOND };

NOINLINE static void at_once(void)
{
    void *block = malloc(2000);
    keep(block);
    free(block);
}

NOINLINE static void half_of_it(int round)
{
    void *block = malloc(1000);
    keep(block);
    if (round % 2)
        free(block);
}

/* Five seconds later. */
NOINLINE static void later(int round)
{
    static void *held[LATER];
    void **place = &held[round % LATER];
    free(*place);
    *place = malloc(3000);
}

NOINLINE static void never(void)
{
    keep(malloc(1500));
}

/* Many, and small. */
NOINLINE static void often(void)
{
    for (int i = 0; i < 8; i++) {
        void *block = malloc(16);
        keep(block);
        free(block);
    }
}

int main(int count, char **arguments)
{
    begin();
    int rounds = (count > 1 ? atoi(arguments[1]) : 5) * ROUNDS_A_SECOND;
    for (int round = 0; round < rounds; round++) {
        at_once();
        half_of_it(round);
        later(round);
        never();
        often();
        nanosleep(&(struct timespec){.tv_nsec = 1000000000 / ROUNDS_A_SECOND}, NULL);
    }
    truth_number("rounds", rounds);
    finish();
    return 0;
}
