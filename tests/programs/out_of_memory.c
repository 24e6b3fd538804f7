/* Takes memory until the kernel kills it; tells how much before each step, so that the last line is the
 * truth but for one block. */
#include "protocol.h"

enum { BLOCK_BYTES = 64 * 1024 };

NOINLINE static void takes(void)
{
    char *block = malloc(BLOCK_BYTES);
    memset(block, 1, BLOCK_BYTES);
    keep(block);
}

int main(void)
{
    begin();
    for (long count = 1;; count++) {
        takes();
        say("%ld\n", count);
    }
}
