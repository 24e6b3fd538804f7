/* Segments of System V shared memory that are attached in every way there is, cut, covered, moved, detached,
 * and refused. With -DRAW_CALLS by system calls of the program's own. The truth is read back from the
 * kernel.
 * usage: shared_segments [often] */
#include "mapped_between.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

enum { PAGES = 10, ROUNDS = 1000 };

static long page;
static long long live_bytes;

/* Macros, because functions in line are frames of their own. */
#ifdef RAW_CALLS
#define CALL(number, a, b, c, d, e)                                                      \
    ({                                                                                   \
        /* First: what computes them may use the registers. */                          \
        long rdi_ = (a), rsi_ = (b), rdx_ = (c), r10_ = (d), r8_ = (e), result;          \
        register long r10 __asm__("r10") = r10_;                                         \
        register long r8 __asm__("r8") = r8_;                                            \
        register long r9 __asm__("r9") = 0;                                              \
        __asm__ volatile("syscall"                                                       \
                         : "=a"(result)                                                  \
                         : "a"(number), "D"(rdi_), "S"(rsi_), "d"(rdx_), "r"(r10), "r"(r8), "r"(r9) \
                         : "rcx", "r11", "memory");                                      \
        result > -4096 && result < 0 ? -1 : result;                                      \
    })
#define ATTACH(id, place, flags) ((char *)CALL(SYS_shmat, id, (long)(place), flags, 0, 0))
#define DETACH(place) CALL(SYS_shmdt, (long)(place), 0, 0, 0, 0)
#define MAP(place, pages, flags)                                                         \
    ((char *)CALL(SYS_mmap, (long)(place), (pages)*page, PROT_READ | PROT_WRITE,         \
                  MAP_PRIVATE | MAP_ANONYMOUS | (flags), -1))
#define UNMAP(place, pages) CALL(SYS_munmap, (long)(place), (pages)*page, 0, 0, 0)
#define MOVE(place, pages, to)                                                           \
    ((char *)CALL(SYS_mremap, (long)(place), (pages)*page, (pages)*page,                 \
                  MREMAP_MAYMOVE | MREMAP_FIXED, (long)(to)))
#else
#define ATTACH(id, place, flags) ((char *)shmat(id, place, flags))
#define DETACH(place) shmdt(place)
#define MAP(place, pages, flags)                                                         \
    ((char *)mmap(place, (size_t)((pages)*page), PROT_READ | PROT_WRITE,                 \
                  MAP_PRIVATE | MAP_ANONYMOUS | (flags), -1, 0))
#define UNMAP(place, pages) munmap(place, (size_t)((pages)*page))
#define MOVE(place, pages, to)                                                           \
    ((char *)mremap(place, (size_t)((pages)*page), (size_t)((pages)*page),               \
                    MREMAP_MAYMOVE | MREMAP_FIXED, to))
#endif

static void must(int is_so, int line)
{
    if (is_so)
        return;
    dprintf(2, "line %d: %s\n", line, strerror(errno));
    _exit(90);
}
#define MUST(is_so) must(is_so, __LINE__)
#define IS_PLACE(start) MUST((start) != (char *)-1)

static void holds(const char *site, long long bytes)
{
    live_bytes += bytes;
    truth_site(site, bytes, bytes ? 1 : 0);
}

static long long mapped(char *start)
{
    return mapped_between(start, start + PAGES * page);
}

/* A segment of this many bytes that goes when nobody has it attached any more. */
static int segment(long bytes)
{
    int id = shmget(IPC_PRIVATE, (size_t)bytes, IPC_CREAT | 0600);
    MUST(id >= 0);
    return id;
}

static void doom(int id)
{
    MUST(shmctl(id, IPC_RMID, NULL) == 0);
}

/* Addresses without neighbours. */
static char *room(void)
{
    char *start = MAP(NULL, PAGES + 2, 0);
    MUST(start != (char *)-1);
    UNMAP(start, PAGES + 2);
    return start + page;
}

NOINLINE static void attach_what_is_no_whole_page(void)
{
    int id = segment((PAGES - 1) * page + 1);
    char *start = ATTACH(id, room(), 0);
    IS_PLACE(start);
    doom(id);
    holds(__func__, mapped(start));
}

NOINLINE static void attach_to_read_at_a_rounded_place(void)
{
    int id = segment(PAGES * page);
    char *place = room();
    char *start = ATTACH(id, place + 17, SHM_RND | SHM_RDONLY);
    IS_PLACE(start);
    MUST(start == place);
    doom(id);
    holds(__func__, mapped(start));
}

NOINLINE static void attach_twice_and_detach_one(void)
{
    int id = segment(PAGES * page);
    char *one = ATTACH(id, room(), 0);
    IS_PLACE(one);
    char *other = ATTACH(id, room(), 0);
    IS_PLACE(other);
    doom(id);
    MUST(DETACH(one) == 0);
    holds(__func__, mapped(one) + mapped(other));
}

static char *covered;

NOINLINE static void map_what_is_covered(void)
{
    covered = MAP(room(), PAGES, MAP_FIXED);
    MUST(covered != (char *)-1);
}

NOINLINE static void attach_over_it(void)
{
    int id = segment(4 * page);
    char *start = ATTACH(id, covered + 2 * page, SHM_REMAP);
    IS_PLACE(start);
    doom(id);
    holds("map_what_is_covered", mapped(covered) - 4 * page);
    holds(__func__, mapped_between(start, start + 4 * page));
}

NOINLINE static void attach_and_cut(void)
{
    int id = segment(PAGES * page);
    char *start = ATTACH(id, room(), 0);
    IS_PLACE(start);
    doom(id);
    MUST(UNMAP(start + 3 * page, 2) == 0);
    MUST(UNMAP(start, 1) == 0);
    holds(__func__, mapped(start));
}

NOINLINE static void attach_cut_and_detach(void)
{
    int id = segment(PAGES * page);
    char *start = ATTACH(id, room(), 0);
    IS_PLACE(start);
    doom(id);
    MUST(UNMAP(start, 2) == 0);
    MUST(UNMAP(start + 5 * page, 2) == 0);
    MUST(DETACH(start) == 0);
    holds(__func__, mapped(start));
}

static char *half_covered;

NOINLINE static void attach_what_is_half_covered(void)
{
    int id = segment(PAGES * page);
    half_covered = ATTACH(id, room(), 0);
    IS_PLACE(half_covered);
    doom(id);
}

NOINLINE static void map_over_a_half(void)
{
    char *half = half_covered + 5 * page;
    MUST(MAP(half, 5, MAP_FIXED) == half);
    holds("attach_what_is_half_covered", mapped(half_covered) - 5 * page);
    holds(__func__, mapped_between(half, half + 5 * page));
}

NOINLINE static char *attach_what_moves(void)
{
    int id = segment(PAGES * page);
    char *start = ATTACH(id, room(), 0);
    IS_PLACE(start);
    doom(id);
    return start;
}

/* Moved, it is detached at its new address only. */
static void move_and_detach(void)
{
    char *first = attach_what_moves(), *second = attach_what_moves();
    char *place = room();
    MUST(MOVE(first, PAGES, place) == place);
    MUST(DETACH(first) == -1);
    MUST(DETACH(place) == 0);
    place = room();
    MUST(MOVE(second, PAGES, place) == place);
    /* The addresses of the first one may be in use again. */
    holds("attach_what_moves", mapped(place));
}

NOINLINE static void fail_to_attach(void)
{
    int id = segment(PAGES * page);
    MUST(ATTACH(-1, NULL, 0) == (char *)-1);
    MUST(ATTACH(id, room() + 17, 0) == (char *)-1);
    doom(id);
    holds(__func__, 0);
}

NOINLINE static void fail_to_detach(void)
{
    int id = segment(PAGES * page);
    char *start = ATTACH(id, room(), 0);
    IS_PLACE(start);
    doom(id);
    MUST(DETACH(start + page) == -1);
    MUST(DETACH(start + 1) == -1);
    MUST(DETACH(NULL) == -1);
    holds(__func__, mapped(start));
}

/* Faster than anybody can look, but for the last one. */
NOINLINE static void attach_and_detach_often(void)
{
    int id = segment(PAGES * page);
    char *start = NULL;
    for (int i = 0; i < ROUNDS; i++) {
        if (start != NULL)
            MUST(DETACH(start) == 0);
        start = ATTACH(id, NULL, 0);
        IS_PLACE(start);
    }
    doom(id);
    holds(__func__, mapped(start));
}

static void all_ways(void)
{
    attach_what_is_no_whole_page();
    attach_to_read_at_a_rounded_place();
    attach_twice_and_detach_one();
    map_what_is_covered();
    attach_over_it();
    attach_and_cut();
    attach_cut_and_detach();
    attach_what_is_half_covered();
    map_over_a_half();
    move_and_detach();
    fail_to_attach();
    fail_to_detach();
}

int main(int count, char **arguments)
{
    page = sysconf(_SC_PAGESIZE);
    begin();
    if (count < 2 || strcmp(arguments[1], "often") != 0)
        all_ways();
    attach_and_detach_often();
    truth_number("mapped_bytes", live_bytes);
    truth_number("often", ROUNDS);
    finish();
}
