/* A library whose functions have frames of WORDS words: built twice, with different ones, it has the
 * same code addresses in both and different ways out of them. Whoever takes the one for the other
 * reads a word of these frames for a return address, and finds what looks like the end of a stack. */
#include "protocol.h"

void plugin_run(int blocks, long bait);

NOINLINE static void inner(int blocks, long bait)
{
    long array[WORDS];
    for (int i = 0; i < WORDS; i++)
        array[i] = bait;
    keep(array);
    for (int i = 0; i < blocks; i++)
        keep(malloc(32));
    keep(array);
}

NOINLINE void plugin_run(int blocks, long bait)
{
    long array[WORDS / 2 + 1];
    for (int i = 0; i < WORDS / 2 + 1; i++)
        array[i] = bait;
    keep(array);
    inner(blocks, bait);
    keep(array);
}
