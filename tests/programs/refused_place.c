/* An allocator of its own, one function of which begins with an instruction that no probe can stand
 * on. It is never called. */
#include "protocol.h"

enum { BLOCKS = 20, BYTES = 64 };

static char memory[1 << 16];
static size_t used;

NOINLINE void *je_malloc(size_t size)
{
    used += (size + 15) & ~(size_t)15;
    return memory + used;
}

NOINLINE void je_free(void *pointer)
{
    keep(pointer);
}

__asm__(".globl je_valloc\n.type je_valloc, @function\nje_valloc:\n hlt\n ret\n"
        ".size je_valloc, . - je_valloc\n");

NOINLINE static void leak_own(void)
{
    for (int i = 0; i < 2 * BLOCKS; i++) {
        void *block = je_malloc(BYTES);
        if (i % 2)
            je_free(block);
    }
}

int main(void)
{
    begin();
    leak_own();
    truth_site("leak_own", BLOCKS * BYTES, BLOCKS);
    truth_number("live_count", BLOCKS);
    truth_number("freed_count", BLOCKS);
    finish();
}
