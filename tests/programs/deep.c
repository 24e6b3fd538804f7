/* Leaks at the bottom of recursions of as many frames as its arguments say, all of which glibc's own
 * unwinder finds, and tells what that has found. */
#include "protocol.h"
#include <execinfo.h>

enum { BLOCKS = 5, BLOCK_BYTES = 900, MOST_FRAMES = 1024, MOST_STACKS = 128 };

struct stack {
    int depth;
    void *frames[MOST_FRAMES];
};

static struct stack stacks[MOST_STACKS];

NOINLINE static void leak_deep(struct stack *stack)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BLOCK_BYTES));
    stack->depth = backtrace(stack->frames, MOST_FRAMES);
}

NOINLINE static void dig(int deeper, struct stack *stack)
{
    if (deeper)
        dig(deeper - 1, stack);
    else
        leak_deep(stack);
    keep(&deeper);
}

/* In pieces: a line of all frames is longer than what can be said at once. */
static void tell_stack(const struct stack *stack)
{
    say("{\"truth\":\"stack\",\"functions\":\"leak_deep,dig\",\"addresses\":\"");
    for (int i = 0; i < stack->depth; i++)
        say("%s%p", i ? "," : "", stack->frames[i]);
    say("\"}\n");
}

int main(int count, char **arguments)
{
    if (count > MOST_STACKS)
        return 2;
    /* Also because the first call of backtrace loads a library. */
    dig(0, &stacks[0]);
    int outside = stacks[0].depth;
    begin();
    for (int i = 1; i < count; i++)
        dig(atoi(arguments[i]) - outside, &stacks[i]);
    truth_site("leak_deep", (count - 1) * BLOCKS * BLOCK_BYTES, (count - 1) * BLOCKS);
    for (int i = 1; i < count; i++)
        tell_stack(&stacks[i]);
    finish();
}
