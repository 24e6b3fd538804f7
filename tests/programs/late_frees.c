/* Attached to late: all that it frees was allocated before, and what it allocates it keeps. It calls
 * malloc and free, and no other function that allocates. */
#include "protocol.h"

enum { BEFORE = 2000, AFTER = 50, BLOCK_BYTES = 64 };

static void *blocks[BEFORE];

NOINLINE static void allocated_after(void)
{
    for (int i = 0; i < AFTER; i++)
        keep(malloc(BLOCK_BYTES));
}

int main(void)
{
    for (int i = 0; i < BEFORE; i++)
        blocks[i] = malloc(BLOCK_BYTES);
    begin();
    for (int i = 0; i < BEFORE; i++)
        free(blocks[i]);
    allocated_after();
    truth_site("allocated_after", AFTER * BLOCK_BYTES, AFTER);
    truth_number("unmatched_frees", BEFORE);
    finish();
}
