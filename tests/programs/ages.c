/* Holds blocks and mappings of two ages, ten seconds apart, and tells what of each is old.
 * Argument: how many small blocks are old. */
#include "protocol.h"
#include <sys/mman.h>
#include <time.h>

enum { OLD_PAGES = 5, MIXED_PAGES = 3, YOUNG_PAGES = 11, BETWEEN_S = 10 };

static long page;

#define MAP(pages) \
    mmap(NULL, (size_t)((pages) * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)

NOINLINE static void old_blocks(long count)
{
    for (long i = 0; i < count; i++)
        keep(malloc(40));
}

NOINLINE static void young_blocks(void)
{
    for (int i = 0; i < 300; i++)
        keep(malloc(3000));
}

NOINLINE static void mixed_blocks(int count)
{
    for (int i = 0; i < count; i++)
        keep(malloc(700));
}

NOINLINE static char *old_mapping(void)
{
    return MAP(OLD_PAGES);
}

NOINLINE static void mixed_mappings(void)
{
    keep(MAP(MIXED_PAGES));
}

NOINLINE static void young_mapping(void)
{
    keep(MAP(YOUNG_PAGES));
}

int main(int count, char **arguments)
{
    long old = count > 1 ? atol(arguments[1]) : 1000;
    page = sysconf(_SC_PAGESIZE);
    begin();
    char *moves = old_mapping();
    old_blocks(old);
    for (int round = 0; round < 2; round++) {
        mixed_blocks(round ? 60 : 20);
        mixed_mappings();
        if (round == 0)
            nanosleep(&(struct timespec){.tv_sec = BETWEEN_S}, NULL);
    }
    young_blocks();
    young_mapping();
    /* What moves stays as old as it is. */
    if (mremap(moves, (size_t)(OLD_PAGES * page), (size_t)(2 * OLD_PAGES * page), MREMAP_MAYMOVE) ==
        MAP_FAILED)
        _exit(98);
    truth_site("old_blocks", old * 40, old);
    truth_site("mixed_blocks", 20 * 700, 20);
    truth_site("young_blocks", 0, 0);
    truth_number("old_mapping", 2 * OLD_PAGES * page);
    truth_number("mixed_mappings", MIXED_PAGES * page);
    truth_number("live_bytes", old * 40 + 20 * 700);
    truth_number("live_count", old + 20);
    truth_number("mapped_bytes", (2 * OLD_PAGES + MIXED_PAGES) * page);
    truth_number("page", page);
    finish();
    return 0;
}
