/* Holds 100 blocks before anybody looks, frees them afterwards, and leaks 30 of 50 new ones. */
#include "protocol.h"

enum { OLD = 100, OLD_BYTES = 500, NEW = 50, NEW_BYTES = 300, NEW_FREED = 20 };

static void *old[OLD];
static void *fresh[NEW];

NOINLINE static void allocate_old(void)
{
    for (int i = 0; i < OLD; i++)
        old[i] = malloc(OLD_BYTES);
}

NOINLINE static void allocate_new(void)
{
    for (int i = 0; i < NEW; i++)
        fresh[i] = malloc(NEW_BYTES);
}

int main(void)
{
    allocate_old();
    begin();
    for (int i = 0; i < OLD; i++)
        free(old[i]);
    allocate_new();
    for (int i = 0; i < NEW_FREED; i++)
        free(fresh[i]);
    truth_site("allocate_new", (NEW - NEW_FREED) * NEW_BYTES, NEW - NEW_FREED);
    truth_number("live_bytes", (NEW - NEW_FREED) * NEW_BYTES);
    truth_number("live_count", NEW - NEW_FREED);
    truth_number("unmatched_frees", OLD);
    finish();
}
