/* Loads an allocator, each function of which begins with an instruction that no probe can stand on, and never
 * calls it. Argument: the library, which is the same source, built with -DLIBRARY. */
#include "protocol.h"
#include <dlfcn.h>

#ifdef LIBRARY

#define REFUSED(name)                                                                                                  \
    __asm__(".globl " name "\n.type " name ", @function\n" name ":\n hlt\n ret\n.size " name ", . - " name "\n")

REFUSED("je_malloc");
REFUSED("je_free");

#else

enum { BLOCKS = 50, BYTES = 200 };

NOINLINE static void leak_early(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BYTES));
}

int main(int count, char **arguments)
{
    begin();
    if (dlopen(count > 1 ? arguments[1] : "", RTLD_NOW) == NULL)
        _exit(98);
    leak_early();
    truth_site("leak_early", BLOCKS * BYTES, BLOCKS);
    finish();
}

#endif
