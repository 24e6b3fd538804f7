/* Mappings that are shrunk, moved over others, moved with their neighbours and refused to move, many that go
 * with one call, and huge pages. The truth is read back from the kernel. */
#include "mapped_between.h"
#include <sys/mman.h>

enum { PIECES = 24 };

static long page;
static long long live_bytes, reserved_bytes;

static void holds(const char *site, long long bytes)
{
    live_bytes += bytes;
    truth_site(site, bytes, bytes ? 1 : 0);
}

#define MAP(place, pages, flags)                                                     \
    mmap(place, (size_t)((pages) * page), PROT_READ | PROT_WRITE,                    \
         MAP_PRIVATE | MAP_ANONYMOUS | (flags), -1, 0)

/* Addresses without neighbours, so that what is mapped around does not count. */
static char *room(long pages)
{
    char *start = MAP(NULL, pages + 2, 0);
    munmap(start, (size_t)((pages + 2) * page));
    return start + page;
}

/* The call that has a mapping now may be the one that made it or the one that moved it: their sum is
 * the truth. */
static long long of_moving;

NOINLINE static void shrink(void)
{
    char *start = MAP(NULL, 8, 0);
    if (mremap(start, (size_t)(8 * page), (size_t)(3 * page), 0) != start)
        _exit(90);
    of_moving += mapped_between(start, start + 8 * page);
}

static char *covered;

NOINLINE static void map_what_is_covered(void)
{
    covered = MAP(NULL, 10, 0);
}

NOINLINE static char *map_what_moves(void)
{
    return MAP(NULL, 4, 0);
}

NOINLINE static void move_over(char *start)
{
    char *place = covered + 2 * page;
    if (mremap(start, (size_t)(4 * page), (size_t)(4 * page), MREMAP_MAYMOVE | MREMAP_FIXED, place) != place)
        _exit(91);
    of_moving += mapped_between(place, place + 4 * page);
    holds("map_what_is_covered", mapped_between(covered, place) +
                                     mapped_between(place + 4 * page, covered + 10 * page));
}

NOINLINE static void fail_to_grow(void)
{
    char *start = MAP(NULL, 6, 0);
    if (mremap(start, (size_t)(2 * page), (size_t)(4 * page), 0) != MAP_FAILED)
        _exit(92);
    holds(__func__, mapped_between(start, start + 6 * page));
}

NOINLINE static void fail_to_move(void)
{
    char *start = MAP(NULL, 5, 0);
    /* Over itself: refused. */
    if (mremap(start, (size_t)(4 * page), (size_t)(4 * page), MREMAP_MAYMOVE | MREMAP_FIXED, start + page) !=
        MAP_FAILED)
        _exit(93);
    holds(__func__, mapped_between(start, start + 5 * page));
}

/* mremap with an old length of 0 maps shared memory once more. */
#define SHARE(pages) \
    mmap(NULL, (size_t)((pages) * page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)

NOINLINE static void map_twice(void)
{
    char *start = SHARE(20);
    char *again = mremap(start, 0, (size_t)(20 * page), MREMAP_MAYMOVE);
    if (again == MAP_FAILED)
        _exit(89);
    holds(__func__, mapped_between(start, start + 20 * page) + mapped_between(again, again + 20 * page));
}

NOINLINE static void map_a_part_twice_and_keep_that(void)
{
    char *start = SHARE(20);
    char *again = mremap(start + 10 * page, 0, (size_t)(10 * page), MREMAP_MAYMOVE);
    munmap(start, (size_t)(20 * page));
    holds(__func__, mapped_between(again, again + 10 * page));
}

/* Mappings of two functions side by side are one mapping to the kernel. */
NOINLINE static void map_left(char *place)
{
    if (MAP(place, 3, MAP_FIXED) != place)
        _exit(86);
}

NOINLINE static void map_right(char *place)
{
    if (MAP(place, 5, MAP_FIXED) != place)
        _exit(87);
}

static long long of_left, of_right;

/* One call for both, from the second page of the first on. They stay, or go elsewhere. */
static void remap_neighbours(long old_pages, long new_pages, int goes)
{
    char *start = room(20), *second = start + page;
    map_left(start);
    map_right(start + 3 * page);
    char *target = goes ? room(20) : second;
    int flags = goes ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
    if (mremap(second, (size_t)(old_pages * page), (size_t)(new_pages * page), flags, target) != target)
        _exit(88);
    of_left += mapped_between(start, start + 3 * page);
    of_right += mapped_between(start + 3 * page, start + 20 * page);
    if (goes) {
        of_left += mapped_between(target, target + 2 * page);
        of_right += mapped_between(target + 2 * page, target + 20 * page);
    }
}

static void remap_all_neighbours(void)
{
    for (int goes = 0; goes < 2; goes++) {
        remap_neighbours(7, 10, goes);
        remap_neighbours(6, 6, goes);
        remap_neighbours(6, 4, goes);
        remap_neighbours(7, 1, goes);
    }
    remap_neighbours(4, 12, 1);
    holds("map_left", of_left);
    holds("map_right", of_right);
}

/* From 6.17 on, with a gap between them. */
NOINLINE static void map_before_a_gap(char *place)
{
    if (MAP(place, 4, MAP_FIXED) != place)
        _exit(84);
}

NOINLINE static void map_behind_a_gap(char *place)
{
    if (MAP(place, 3, MAP_FIXED) != place)
        _exit(85);
}

static void move_with_a_gap(void)
{
    char *start = room(20);
    map_before_a_gap(start);
    map_behind_a_gap(start + 8 * page);
    char *target = room(20);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    char *place = mremap(start, (size_t)(11 * page), (size_t)(11 * page), flags, target);
    if (place == MAP_FAILED)
        place = start;
    holds("map_before_a_gap", mapped_between(place, place + 8 * page));
    holds("map_behind_a_gap", mapped_between(place + 8 * page, place + 20 * page));
}

NOINLINE static void map_even(char *start)
{
    for (int i = 0; i < PIECES; i += 2)
        keep(MAP(start + i * 3 * page, 2, MAP_FIXED));
}

NOINLINE static void map_odd(char *start)
{
    for (int i = 1; i < PIECES; i += 2)
        keep(MAP(start + i * 3 * page, 3, MAP_FIXED));
}

static long long of_pieces(char *start, int first, long pages)
{
    long long bytes = 0;
    for (int i = first; i < PIECES; i += 2)
        bytes += mapped_between(start + i * 3 * page, start + (i * 3 + pages) * page);
    return bytes;
}

/* One call takes all but half of the first and half of the last, with the gaps between. */
static void unmap_many(void)
{
    char *start = room(PIECES * 3);
    map_even(start);
    map_odd(start);
    if (munmap(start + page, (size_t)((PIECES * 3 - 2) * page)) != 0)
        _exit(94);
    holds("map_even", of_pieces(start, 0, 2));
    holds("map_odd", of_pieces(start, 1, 3));
}

/* Set aside only, for which no huge page has to be free. */
NOINLINE static void reserve_huge(size_t bytes, int flags)
{
    enum { ALIGNMENT = 4 << 20 };
    char *empty = room(4 * ALIGNMENT / page);
    char *place = (char *)(((uintptr_t)empty + ALIGNMENT) & ~(uintptr_t)(ALIGNMENT - 1));
    flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    if (mmap(place, bytes, PROT_READ, flags, -1, 0) == place)
        reserved_bytes += mapped_between(empty, empty + 4 * ALIGNMENT);
}

int main(void)
{
    page = sysconf(_SC_PAGESIZE);
    begin();
    shrink();
    map_what_is_covered();
    move_over(map_what_moves());
    fail_to_grow();
    fail_to_move();
    map_twice();
    map_a_part_twice_and_keep_that();
    remap_all_neighbours();
    move_with_a_gap();
    unmap_many();
    reserve_huge(1, 0);
    reserve_huge(3 << 20, 21 << 26);
    truth_number("moving_bytes", of_moving);
    truth_number("mapped_bytes", live_bytes + of_moving + reserved_bytes);
    truth_number("reserved_bytes", reserved_bytes);
    finish();
}
