/* Pairs of grandchildren that take turns on one processor; of each pair the first ends while the second
 * goes on. Arguments: pairs. Each grandchild prints what it holds. */
#include "protocol.h"
#include <sched.h>
#include <sys/wait.h>

enum { SHORT_BLOCKS = 300, LONG_BLOCKS = 3000, BLOCK_BYTES = 48 };

NOINLINE static void keep_in_turn(void)
{
    keep(malloc(BLOCK_BYTES));
}

static pid_t grandchild(int blocks)
{
    pid_t child = fork();
    if (child)
        return child;
    for (int i = 0; i < blocks; i++) {
        keep_in_turn();
        sched_yield();
    }
    say("{\"truth\":\"child\",\"pid\":%d,\"bytes\":%d,\"count\":%d}\n", (int)getpid(),
        blocks * BLOCK_BYTES, blocks);
    _exit(0);
}

static void stay_on_this_processor(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    if (sched_setaffinity(0, sizeof here, &here))
        _exit(99);
}

int main(int argc, char **argv)
{
    int pairs = argc > 1 ? atoi(argv[1]) : 1;
    begin();
    pid_t child = fork();
    if (!child) {
        stay_on_this_processor();
        for (int i = 0; i < pairs; i++) {
            pid_t both[] = {grandchild(SHORT_BLOCKS), grandchild(LONG_BLOCKS)};
            for (int which = 0; which < 2; which++)
                waitpid(both[which], NULL, 0);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    finish();
    return 0;
}
