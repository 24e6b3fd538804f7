/* mimalloc's reallocf, which frees the old block when it has no other: some calls fail, some do not. */
#include "protocol.h"

void *mi_malloc(size_t bytes);
void *mi_reallocf(void *block, size_t bytes);
void mi_free(void *block);

enum { BLOCKS = 100, OLD_BYTES = 1000, NEW_BYTES = 2500 };

static volatile size_t too_much = PTRDIFF_MAX;

NOINLINE static void fails(void)
{
    for (int i = 0; i < BLOCKS; i++)
        if (mi_reallocf(mi_malloc(OLD_BYTES), too_much) != NULL)
            _exit(98);
}

NOINLINE static void grows(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(mi_reallocf(mi_malloc(OLD_BYTES), NEW_BYTES));
}

NOINLINE static void grows_and_frees(void)
{
    for (int i = 0; i < BLOCKS; i++)
        mi_free(mi_reallocf(mi_malloc(OLD_BYTES), NEW_BYTES));
}

int main(void)
{
    mi_free(mi_malloc(3));
    begin();
    fails();
    grows();
    grows_and_frees();
    truth_site("fails", 0, 0);
    truth_site("grows", BLOCKS * NEW_BYTES, BLOCKS);
    truth_site("grows_and_frees", 0, 0);
    truth_number("live_bytes", BLOCKS * NEW_BYTES);
    truth_number("live_count", BLOCKS);
    finish();
}
