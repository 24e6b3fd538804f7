/* Loads a library, calls it and lets it go again, over and over. Its argument is the library; a
 * second one keeps what the library leaks to itself. */
#include "protocol.h"
#include <dlfcn.h>

enum { ROUNDS = 150, LEAK_BYTES = 900 };

NOINLINE static void leak_between(void)
{
    keep(malloc(LEAK_BYTES));
}

static void one_round(const char *path, int last)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        _exit(95);
    void (*leak)(size_t) = (void (*)(size_t))dlsym(library, "leak_in_the_plugin");
    leak(LEAK_BYTES);
    leak_between();
    if (!last && dlclose(library))
        _exit(94);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 1;
    begin();
    for (int i = 0; i < ROUNDS; i++)
        one_round(argv[1], i == ROUNDS - 1);
    truth_number("loaded", ROUNDS);
    if (argc == 2)
        truth_site("leak_in_the_plugin", ROUNDS * LEAK_BYTES, ROUNDS);
    truth_site("leak_between", ROUNDS * LEAK_BYTES, ROUNDS);
    finish();
    return 42;
}
