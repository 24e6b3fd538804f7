/* Memory that a program asks the kernel for by itself: the data segment, and with -DRAW_CALLS also
 * mappings, by system calls of its own. The truth is read back from the kernel: every page is asked
 * whether it is mapped, and what the kernel has mapped in all must have grown by the sum. */
#include "protocol.h"
#include <sys/mman.h>
#include <sys/syscall.h>

enum { PAGES = 9 };

static long page;

UNUSED NOINLINE static long long still_mapped(char *start, long pages)
{
    long long bytes = 0;
    unsigned char resident;
    for (long i = 0; i < pages; i++)
        if (mincore(start + i * page, (size_t)page, &resident) == 0)
            bytes += page;
    return bytes;
}

static long long held;

static void holds(const char *site, long long bytes)
{
    held += bytes;
    truth_site(site, bytes, bytes ? 1 : 0);
}

/* Macros, because functions in line are frames of their own. */
#ifdef RAW_CALLS
#define CALL(number, a, b, c, d)                                                         \
    ({                                                                                   \
        long result;                                                                     \
        register long r10 __asm__("r10") = (d);                                          \
        register long r8 __asm__("r8") = -1;                                             \
        register long r9 __asm__("r9") = 0;                                              \
        __asm__ volatile("syscall"                                                       \
                         : "=a"(result)                                                  \
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) \
                         : "rcx", "r11", "memory");                                      \
        result;                                                                          \
    })

#define MAP(place, pages, flags)                                                         \
    ((char *)CALL(SYS_mmap, (long)(place), (pages)*page, PROT_READ | PROT_WRITE,         \
                  MAP_PRIVATE | MAP_ANONYMOUS | (flags)))

#define UNMAP(start, bytes) CALL(SYS_munmap, (long)(start), bytes, 0, 0)

#define MOVE_BREAK(bytes)                                                                \
    ({                                                                                   \
        long at = CALL(SYS_brk, 0, 0, 0, 0);                                             \
        CALL(SYS_brk, at + (bytes), 0, 0, 0) == at ? NULL : (char *)at;                  \
    })

NOINLINE static void map_and_keep(void)
{
    holds(__func__, still_mapped(MAP(NULL, PAGES, 0), PAGES));
}

NOINLINE static void map_and_cut_the_middle(void)
{
    char *start = MAP(NULL, PAGES, 0);
    UNMAP(start + 3 * page, 2 * page);
    holds(__func__, still_mapped(start, PAGES));
}

NOINLINE static void map_and_unmap(void)
{
    char *start = MAP(NULL, PAGES, 0);
    if (UNMAP(start + 1, page) == 0)
        _exit(98);
    UNMAP(start, PAGES * page);
    holds(__func__, 0);
}

NOINLINE static void map_nothing(void)
{
    if ((unsigned long)MAP(NULL, 0, 0) < (unsigned long)-4095)
        _exit(98);
    holds(__func__, 0);
}

static char *reserved;

NOINLINE static void reserve(void)
{
    reserved = (char *)CALL(SYS_mmap, 0, PAGES * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
}

NOINLINE static void commit(void)
{
    if (MAP(reserved + page, 4, MAP_FIXED) != reserved + page)
        _exit(98);
}

NOINLINE static void grow_and_move(void)
{
    char *start = MAP(NULL, 2, 0);
    start = (char *)CALL(SYS_mremap, (long)start, 2 * page, 40 * page, MREMAP_MAYMOVE);
    holds(__func__, still_mapped(start, 40));
}

static void map_in_every_way(void)
{
    map_and_keep();
    map_and_cut_the_middle();
    map_and_unmap();
    map_nothing();
    reserve();
    commit();
    holds("reserve", (PAGES - 4) * page);
    holds("commit", still_mapped(reserved + page, 4));
    grow_and_move();
}
#else
#define MOVE_BREAK(bytes) ((char *)sbrk(bytes))

static void map_in_every_way(void)
{
}

NOINLINE static void set_the_break(void)
{
    char *before = sbrk(0);
    if (brk(before + 5 * page) != 0)
        _exit(98);
    holds(__func__, 5 * page);
}
#endif

/* Whole pages are mapped, up to the one that the end is in. */
static long long pages_up_to(char *end)
{
    return ((long)end + page - 1) / page;
}

NOINLINE static void grow_the_data_segment(void)
{
    char *before = MOVE_BREAK(3 * page + 100);
    if (before == NULL)
        _exit(98);
    long long pages = pages_up_to(before + 3 * page + 100) - pages_up_to(before);
    holds(__func__, pages * page);
}

NOINLINE static void grow_and_shrink(void)
{
    MOVE_BREAK(8 * page);
    MOVE_BREAK(-8 * page);
    holds(__func__, 0);
}

NOINLINE static void grow_too_much(void)
{
    MOVE_BREAK(1L << 46);
    holds(__func__, 0);
}

int main(void)
{
    page = sysconf(_SC_PAGESIZE);
#ifdef RAW_CALLS
    /* A program that has mapped nothing by itself when a tracer comes, and has no allocator, is refused. */
    keep(MAP(NULL, 1, 0));
#endif
    begin();
#ifndef RAW_CALLS
    /* At the first return that is probed, the kernel maps a page for the probes. */
    sbrk(0);
#endif
    long long before = all_mapped_bytes();
    map_in_every_way();
    grow_the_data_segment();
    grow_and_shrink();
    grow_too_much();
#ifndef RAW_CALLS
    set_the_break();
#endif
    long long grown = all_mapped_bytes() - before;
    if (grown != held) {
        dprintf(2, "the sites hold %lld bytes, and %lld were mapped\n", held, grown);
        _exit(97);
    }
    truth_number("mapped_bytes", held);
    truth_number("live_bytes", 0);
    truth_number("live_count", 0);
#if !defined(RAW_CALLS) || defined(ALLOCATES)
    /* The allocator moves the data segment too, and gives some of it back. It does not know of what
     * the program has done to it by system calls, and takes that for its own. */
    void *blocks[64];
    for (int i = 0; i < 64; i++)
        keep(blocks[i] = malloc(40000));
    for (int i = 63; i >= 0; i--)
        free(blocks[i]);
#endif
    truth_number("grown_bytes", all_mapped_bytes() - before);
    finish();
}
