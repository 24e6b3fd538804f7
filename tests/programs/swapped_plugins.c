/* Loads a library and calls it, and unloads it when it is told to; then loads another one, at the same
 * addresses, and calls it. Both leak from the same stacks, as far as addresses go. Its arguments are the
 * libraries. */
#include "protocol.h"
#include <dlfcn.h>

/* Says that it is done, and waits to be told to go on. */
static void pause_here(void)
{
    say("done\n");
    if (!wait_line())
        _exit(1);
}

NOINLINE static uintptr_t run(const char *path, const int *often, int unload)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        _exit(95);
    void (*run)(int, int, int) = (void (*)(int, int, int))(uintptr_t)dlsym(library, "plugin_run");
    run(often[0], often[1], often[2]);
    if (unload) {
        pause_here();
        if (dlclose(library))
            _exit(94);
        pause_here();
    }
    return (uintptr_t)run;
}

int main(int argc, char **argv)
{
    /* How often the functions leak, of one library and of the other. */
    static const int often[2][3] = {{1000, 5, 0}, {10, 0, 7}};
    uintptr_t places[2];
    if (argc < 3)
        return 1;
    begin();
    /* Not unrolled: the calls are to be the same ones. */
    for (volatile int i = 0; i < 2; i++)
        places[i] = run(argv[i + 1], often[i], i == 0);
    truth_number("same_place", places[0] == places[1]);
    finish();
    return 0;
}
