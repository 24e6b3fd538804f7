/* A chain of which the two inner functions are inlined into the third; tells the line of each call. */
#include "protocol.h"

enum { BLOCKS = 4, BLOCK_BYTES = 770 };

static int innermost_line, middle_line, outer_line;

__attribute__((always_inline)) static inline void innermost(void)
{
    innermost_line = __LINE__ + 1;
    keep(malloc(BLOCK_BYTES));
}

__attribute__((always_inline)) static inline void middle(void)
{
    middle_line = __LINE__ + 1;
    innermost();
}

NOINLINE static void outer(void)
{
    for (int i = 0; i < BLOCKS; i++) {
        outer_line = __LINE__ + 1;
        middle();
    }
}

int main(void)
{
    begin();
    outer();
    truth_number("innermost", innermost_line);
    truth_number("middle", middle_line);
    truth_number("outer", outer_line);
    truth_number("live_bytes", BLOCKS * BLOCK_BYTES);
    finish();
}
