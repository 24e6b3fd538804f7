/* Mappings of the program's own: whole, cut at each side and in the middle, mapped over, moved,
 * failed. The truth is read back from the kernel: every page is asked whether it is mapped. */
#include "protocol.h"
#include <errno.h>
#include <sys/mman.h>

enum { PAGES = 7 };

static long page;
static long long live_bytes;

NOINLINE static long long still_mapped(char *start, long pages)
{
    long long bytes = 0;
    unsigned char resident;
    for (long i = 0; i < pages; i++)
        if (mincore(start + i * page, (size_t)page, &resident) == 0)
            bytes += page;
    return bytes;
}

static void holds(const char *site, long long bytes)
{
    live_bytes += bytes;
    truth_site(site, bytes, bytes ? 1 : 0);
}

#define MAP(place, pages, flags)                                                     \
    mmap(place, (size_t)((pages) * page), PROT_READ | PROT_WRITE,                    \
         MAP_PRIVATE | MAP_ANONYMOUS | (flags), -1, 0)

NOINLINE static void map_and_keep(void)
{
    char *start = MAP(NULL, PAGES, 0);
    holds(__func__, still_mapped(start, PAGES));
}

NOINLINE static void map_and_unmap(void)
{
    char *start = MAP(NULL, PAGES, 0);
    munmap(start, (size_t)(PAGES * page));
    holds(__func__, 0);
}

NOINLINE static void map_and_cut_the_start(void)
{
    char *start = MAP(NULL, PAGES, 0);
    munmap(start, (size_t)(2 * page));
    holds(__func__, still_mapped(start, PAGES));
}

NOINLINE static void map_and_cut_the_end(void)
{
    char *start = MAP(NULL, PAGES, 0);
    munmap(start + 4 * page, (size_t)(3 * page));
    holds(__func__, still_mapped(start, PAGES));
}

NOINLINE static void map_and_cut_the_middle(void)
{
    char *start = MAP(NULL, PAGES, 0);
    munmap(start + 3 * page, (size_t)page);
    holds(__func__, still_mapped(start, PAGES));
}

static char *covered;

NOINLINE static void map_to_be_covered(void)
{
    covered = MAP(NULL, PAGES, 0);
}

NOINLINE static void map_over_two_pages(void)
{
    if (MAP(covered + page, 2, MAP_FIXED) != covered + page)
        _exit(98);
}

NOINLINE static void unmap_a_failed_length(void)
{
    char *start = MAP(NULL, PAGES, 0);
    if (munmap(start + 1, (size_t)page) != -1)
        _exit(98);
    holds(__func__, still_mapped(start, PAGES));
}

NOINLINE static void failed_map(void)
{
    if (mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        _exit(98);
    holds(__func__, 0);
}

NOINLINE static char *map_to_be_moved(void)
{
    return MAP(NULL, 2, 0);
}

NOINLINE static char *move_and_grow(char *start)
{
    return mremap(start, (size_t)(2 * page), (size_t)(64 * page), MREMAP_MAYMOVE);
}

int main(void)
{
    page = sysconf(_SC_PAGESIZE);
    begin();
    map_and_keep();
    map_and_unmap();
    map_and_cut_the_start();
    map_and_cut_the_end();
    map_and_cut_the_middle();
    map_to_be_covered();
    map_over_two_pages();
    holds("map_to_be_covered", still_mapped(covered, 1) + still_mapped(covered + 3 * page, 4));
    holds("map_over_two_pages", still_mapped(covered + page, 2));
    unmap_a_failed_length();
    failed_map();
    char *moved = move_and_grow(map_to_be_moved());
    long long moved_bytes = still_mapped(moved, 64);
    live_bytes += moved_bytes;
    truth_number("moved_bytes", moved_bytes);
    truth_number("mapped_bytes", live_bytes);
    truth_number("live_bytes", 0);
    truth_number("live_count", 0);
    finish();
}
