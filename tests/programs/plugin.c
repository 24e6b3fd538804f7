/* A library that allocates when it is loaded and frees that when it goes, and leaks when it is
 * called. */
#include "protocol.h"

static void *while_loaded;

__attribute__((constructor)) static void loaded(void)
{
    while_loaded = malloc(1234);
}

__attribute__((destructor)) static void unloaded(void)
{
    free(while_loaded);
}

NOINLINE void leak_in_the_plugin(size_t bytes)
{
    keep(malloc(bytes));
}
