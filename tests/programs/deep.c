/* Leaks below 300 frames, more than a stack can hold, and next to the top. */
#include "protocol.h"

enum { DEPTH = 300, BLOCKS = 5, BLOCK_BYTES = 900 };

NOINLINE static void leak_deep(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BLOCK_BYTES));
}

NOINLINE static void dig(int depth)
{
    if (depth)
        dig(depth - 1);
    else
        leak_deep();
    keep(&depth);
}

int main(void)
{
    begin();
    dig(DEPTH);
    truth_site("leak_deep", BLOCKS * BLOCK_BYTES, BLOCKS);
    truth_number("depth", DEPTH);
    finish();
}
