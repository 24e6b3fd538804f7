/* Forks as many children as its argument says, who wait until it has ended, and then runs another program
 * in its own place: a tracer may have no room left for that. */
#include "protocol.h"

enum { EARLY = 100, LATE = 40, EARLY_BYTES = 50000, LATE_BYTES = 100000 };

NOINLINE static void leak_early(void)
{
    keep(malloc(EARLY_BYTES));
}

NOINLINE static void leak_late(void)
{
    keep(malloc(LATE_BYTES));
}

static void have_children(int count)
{
    int ends[2];
    char byte;
    if (pipe(ends))
        _exit(95);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            _exit(94);
        if (child == 0) {
            /* The parent's end stays open over its exec. */
            close(ends[1]);
            _exit(read(ends[0], &byte, 1) != 0);
        }
    }
    close(ends[0]);
}

int main(int count, char **arguments)
{
    if (count < 2)
        return 1;
    if (strcmp(arguments[1], "late") == 0) {
        for (int i = 0; i < LATE; i++)
            leak_late();
        finish();
        return 0;
    }
    begin();
    for (int i = 0; i < EARLY; i++)
        leak_early();
    have_children(atoi(arguments[1]));
    truth_site("leak_early", EARLY * EARLY_BYTES, EARLY);
    finish();
    execl(arguments[0], arguments[0], "late", (char *)NULL);
    return 93;
}
