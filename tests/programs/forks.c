/* Forks while it is traced. The child allocates, and frees its copies of the parent's blocks: both are its
 * own affair and must not change what the parent holds. */
#include "protocol.h"
#include <sys/wait.h>

enum { BLOCKS = 40, BLOCK_BYTES = 1200 };

static void *blocks[BLOCKS];

NOINLINE static void parent_leaks(void)
{
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(BLOCK_BYTES);
}

NOINLINE static void child_allocates(void)
{
    for (int i = 0; i < 1000; i++)
        keep(malloc(5000));
}

int main(void)
{
    begin();
    parent_leaks();
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < BLOCKS; i++)
            free(blocks[i]);
        child_allocates();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    truth_site("parent_leaks", BLOCKS * BLOCK_BYTES, BLOCKS);
    truth_number("child_status", status);
    truth_number("live_bytes", BLOCKS * BLOCK_BYTES);
    truth_number("live_count", BLOCKS);
    finish();
}
