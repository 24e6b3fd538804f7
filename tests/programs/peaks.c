/* Takes 64 MiB, holds it for three seconds and gives it back; with an argument a child does it, which ends
 * while it holds it. */
#include "protocol.h"
#include <sys/wait.h>
#include <time.h>

enum { BYTES = 64 << 20, HELD_S = 3 };

NOINLINE static char *takes(void)
{
    char *held = malloc(BYTES);
    return memset(held, 1, BYTES);
}

static void wait_a_while(void)
{
    nanosleep(&(struct timespec){.tv_sec = HELD_S}, NULL);
}

int main(int count, char **arguments UNUSED)
{
    begin();
    if (count > 1) {
        pid_t child = fork();
        if (child == 0) {
            takes();
            wait_a_while();
            _exit(0);
        }
        waitpid(child, NULL, 0);
        truth_number("child", child);
    } else {
        char *held = takes();
        wait_a_while();
        free(held);
        /* Long enough for another reading. */
        wait_a_while();
    }
    finish();
    return 0;
}
