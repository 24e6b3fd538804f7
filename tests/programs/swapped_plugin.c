/* One of two libraries with the same layout whose functions have different names, so that the code of one
 * can come to the very addresses of the other's. SUFFIX and BYTES tell them apart. */
#include "protocol.h"

#define JOIN(name, suffix) name##_##suffix
#define NAMED(name, suffix) JOIN(name, suffix)

NOINLINE static void NAMED(leak_often, SUFFIX)(void)
{
    keep(malloc(BYTES));
}

NOINLINE static void NAMED(leak_once, SUFFIX)(void)
{
    keep(malloc(BYTES + 1));
}

NOINLINE static void NAMED(leak_late, SUFFIX)(void)
{
    keep(malloc(BYTES + 2));
}

void plugin_run(int often, int once, int late)
{
    while (often-- > 0)
        NAMED(leak_often, SUFFIX)();
    while (once-- > 0)
        NAMED(leak_once, SUFFIX)();
    while (late-- > 0)
        NAMED(leak_late, SUFFIX)();
}
