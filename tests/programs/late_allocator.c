/* Loads an allocator with names of its own while it runs, and allocates with it beside malloc.
 * Argument: the library. */
#include "protocol.h"
#include <dlfcn.h>

enum { BLOCKS = 50, BYTES = 200 };

static void *(*late_malloc)(size_t);
static void (*late_free)(void *);

NOINLINE static void leak_late(void)
{
    for (int i = 0; i < 2 * BLOCKS; i++) {
        void *block = late_malloc(BYTES);
        keep(block);
        if (i % 2)
            late_free(block);
    }
}

NOINLINE static void leak_early(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BYTES));
}

int main(int argc, char **argv)
{
    begin();
    void *library = dlopen(argc > 1 ? argv[1] : "", RTLD_NOW);
    if (!library)
        _exit(98);
    *(void **)&late_malloc = dlsym(library, "mi_malloc");
    *(void **)&late_free = dlsym(library, "mi_free");
    if (!late_malloc || !late_free)
        _exit(97);
    truth_number("late_malloc", (long long)(uintptr_t)late_malloc);
    say("done\n");
    wait_line();
    leak_late();
    leak_early();
    truth_site("leak_late", BLOCKS * BYTES, BLOCKS);
    truth_site("leak_early", BLOCKS * BYTES, BLOCKS);
    finish();
}
