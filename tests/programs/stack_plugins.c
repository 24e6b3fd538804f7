/* Loads, runs and unloads the libraries that it is given, one after the other, round by round, so that
 * code comes and goes at the same addresses. */
#include "protocol.h"
#include <dlfcn.h>

enum { ROUNDS = 150, BLOCKS = 5 };

/* Where every main thread begins: code that nobody has called. */
extern char _start[];

int main(int count, char **names)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 1; i < count; i++) {
            void *library = dlopen(names[i], RTLD_NOW);
            if (!library)
                return 1;
            void (*run)(int, long) = (void (*)(int, long))(uintptr_t)dlsym(library, "plugin_run");
            run(BLOCKS, (long)(_start + 20));
            dlclose(library);
        }
    }
    return 0;
}
