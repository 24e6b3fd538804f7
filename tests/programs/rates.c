/* Allocates often at one place and seldom at another, for so many seconds, and tells how much it was. */
#include "protocol.h"
#include <time.h>

enum { ROUNDS_A_SECOND = 100, OFTEN = 20, HELD = 500 };

static long long often_count, seldom_count;

/* Each block lives until as many others have come. */
NOINLINE static void often(void)
{
    static void *held[HELD];
    void **place = &held[often_count++ % HELD];
    free(*place);
    *place = malloc(200);
}

NOINLINE static void seldom(void)
{
    seldom_count++;
    keep(malloc(3000));
}

int main(int count, char **arguments)
{
    begin();
    int rounds = (count > 1 ? atoi(arguments[1]) : 5) * ROUNDS_A_SECOND;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < OFTEN; i++)
            often();
        if (round % 10 == 0)
            seldom();
        nanosleep(&(struct timespec){.tv_nsec = 1000000000 / ROUNDS_A_SECOND}, NULL);
    }
    truth_number("often", often_count);
    truth_number("often_held", HELD);
    truth_number("seldom", seldom_count);
    finish();
    return 0;
}
