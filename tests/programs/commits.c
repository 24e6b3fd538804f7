/* Sets addresses aside and uses a part of them: without access, with mprotect; and without backing. */
#include "protocol.h"
#include <sys/mman.h>

enum { MIB = 1 << 20, ASIDE = 64 * MIB, COMMITTED = 12 * MIB, UNBACKED = 32 * MIB, USED = 3 * MIB };

static char *map(size_t bytes, int access, int flags)
{
    char *start = mmap(0, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    /* Pages are used one by one. */
    if (start == MAP_FAILED || madvise(start, bytes, MADV_NOHUGEPAGE))
        _exit(95);
    return start;
}

NOINLINE static void set_aside(void)
{
    char *start = map(ASIDE, PROT_NONE, 0);
    /* In the middle, and in two steps. */
    for (int i = 1; i < 3; i++) {
        char *part = start + i * COMMITTED;
        if (mprotect(part, COMMITTED / 2, PROT_READ | PROT_WRITE))
            _exit(94);
        memset(part, 1, COMMITTED / 2);
    }
}

NOINLINE static void leave_unbacked(void)
{
    memset(map(UNBACKED, PROT_READ | PROT_WRITE, MAP_NORESERVE), 1, USED);
}

int main(void)
{
    begin();
    set_aside();
    leave_unbacked();
    truth_number("mapped_bytes", ASIDE + UNBACKED);
    truth_number("reserved_bytes", ASIDE - COMMITTED + UNBACKED - USED);
    finish();
    return 0;
}
