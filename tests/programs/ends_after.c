/* Programs for which nobody has to speak: they work for so many seconds, a hundred rounds each, and end with
 * an exit code. Arguments: leaks or steady, seconds, exit code; the same of the program that comes next. */
#include "protocol.h"
#include <time.h>

enum { ROUNDS_A_SECOND = 100, HELD = 50 };

NOINLINE static void leaks(int round UNUSED)
{
    keep(malloc(1000));
}

NOINLINE static void replaces(int round)
{
    static void *held[HELD];
    free(held[round % HELD]);
    held[round % HELD] = malloc(1000);
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 97;
    int is_leak = strcmp(arguments[1], "leaks") == 0;
    int rounds = atoi(arguments[2]) * ROUNDS_A_SECOND;
    for (int round = 0; round < rounds; round++) {
        if (is_leak)
            leaks(round);
        else
            replaces(round);
        nanosleep(&(struct timespec){.tv_nsec = 1000000000 / ROUNDS_A_SECOND}, NULL);
    }
    if (count > 6)
        execv(arguments[0], (char *[]){arguments[0], arguments[4], arguments[5], arguments[6], NULL});
    return atoi(arguments[3]);
}
