/* Calls that replace what is mapped at an address, and fail: the kernel may have taken some of it away before.
 * What is left is read back from the kernel. */
#include "mapped_between.h"
#include <sys/mman.h>

static long long live_bytes;

static void holds(const char *site, long long bytes)
{
    live_bytes += bytes;
    truth_site(site, bytes, bytes ? 1 : 0);
}

#define MIB(n) ((size_t)(n) << 20)

#define MAP(bytes) \
    mmap(NULL, (bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)

/* Files that can be opened and not mapped. */
static void fail_to_replace(char *place, size_t bytes, const char *path)
{
    int file = open(path, O_RDONLY);
    if (mmap(place, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) != MAP_FAILED)
        _exit(90);
    close(file);
}

NOINLINE static void lose_the_middle(void)
{
    char *start = MAP(MIB(64));
    fail_to_replace(start + MIB(16), MIB(32), "/proc/version");
    holds(__func__, mapped_between(start, start + MIB(64)));
}

NOINLINE static void lose_all(void)
{
    char *start = MAP(MIB(3));
    fail_to_replace(start, MIB(3), "/sys/kernel/mm/transparent_hugepage/enabled");
    holds(__func__, mapped_between(start, start + MIB(3)));
}

/* Refused before anything is taken away. */
NOINLINE static void lose_nothing(void)
{
    char *start = MAP(MIB(5));
    if (mmap(start, MIB(5), PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0) != MAP_FAILED)
        _exit(91);
    holds(__func__, mapped_between(start, start + MIB(5)));
}

static char *vdso(void)
{
    static char text[1 << 16];
    size_t length = 0;
    int maps = open("/proc/self/maps", O_RDONLY);
    for (ssize_t got; (got = read(maps, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(maps);
    char *line = strstr(text, "[vdso]"), *start = NULL;
    while (line && line > text && line[-1] != '\n')
        line--;
    if (line == NULL || sscanf(line, "%p-", (void **)&start) != 1)
        _exit(92);
    return start;
}

/* A mapping of the kernel's own, of which a part cannot move. */
NOINLINE static void lose_what_is_moved_over(void)
{
    char *start = MAP(MIB(7));
    if (mremap(vdso(), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, start + MIB(2)) != MAP_FAILED)
        _exit(93);
    holds(__func__, mapped_between(start, start + MIB(7)));
}

NOINLINE static void lose_and_fill_again(void)
{
    char *start = MAP(MIB(9));
    fail_to_replace(start + MIB(1), MIB(4), "/proc/version");
    char *filled = mmap(start + MIB(2), MIB(2), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (filled == MAP_FAILED)
        _exit(94);
    holds(__func__, mapped_between(start, start + MIB(9)));
}

/* More than are kept apart. */
NOINLINE static void lose_pages(void)
{
    char *start = MAP(MIB(1));
    for (int i = 0; i < 100; i++)
        fail_to_replace(start + 8192 * i, 4096, "/proc/version");
    holds(__func__, mapped_between(start, start + MIB(1)));
}

/* Grows at the touch of the page below it, as long as the kernel allows. */
NOINLINE static void grow_downward(void)
{
    size_t room = MIB(32);
    char *hole = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole, room);
    char *start = mmap(hole + MIB(16), 65536, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    if (start == MAP_FAILED)
        _exit(95);
    for (int i = 1; i < 1000; i++)
        *(volatile char *)(start - 4096L * i) = 1;
    long long bytes = mapped_between(hole, start + 65536);
    truth_number("grown_by", bytes - 65536);
    holds(__func__, bytes);
}

int main(void)
{
    begin();
    lose_the_middle();
    lose_all();
    lose_nothing();
    lose_what_is_moved_over();
    lose_and_fill_again();
    lose_pages();
    grow_downward();
    truth_number("mapped_bytes", live_bytes);
    finish();
}
