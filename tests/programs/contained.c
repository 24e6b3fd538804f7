/* Leaks at a line that it knows, and tells which pid it believes to have. */
#include "protocol.h"

enum { BLOCKS = 70, BLOCK_BYTES = 333 };

static int line;

NOINLINE static void leak_in_the_container(void)
{
    line = __LINE__ + 2;
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BLOCK_BYTES));
}

int main(void)
{
    begin();
    leak_in_the_container();
    truth_site("leak_in_the_container", BLOCKS * BLOCK_BYTES, BLOCKS);
    truth_number("line", line);
    truth_number("pid", getpid());
    truth_number("live_bytes", BLOCKS * BLOCK_BYTES);
    truth_number("live_count", BLOCKS);
    finish();
    return 42;
}
