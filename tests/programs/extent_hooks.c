/* jemalloc as a library, which gets its memory by a function of the program: what that maps inside an
 * allocation is the allocator's own. What it maps for the arena itself is the program's. */
#include "mapped_between.h"
#include <stdbool.h>
#include <sys/mman.h>

enum { BLOCKS = 10, BLOCK = 4 << 20 };

typedef struct hooks hooks;

/* extent_hooks_t of jemalloc(3). */
struct hooks {
    void *(*allocate)(hooks *, void *, size_t, size_t, bool *, bool *, unsigned);
    bool (*deallocate)(hooks *, void *, size_t, bool, unsigned);
    void *others[7];
};

int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);
void *mallocx(size_t size, int flags);

static long long mapped_by_hook;

NOINLINE static void *map_extent(hooks *of, void *place, size_t size, size_t alignment, bool *zero,
                                 bool *commit, unsigned arena)
{
    (void)of;
    (void)arena;
    if (place != NULL)
        return NULL;
    char *start = mmap(NULL, size + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *aligned = (char *)(((uintptr_t)start + alignment - 1) & ~(uintptr_t)(alignment - 1));
    if (aligned > start)
        munmap(start, (size_t)(aligned - start));
    munmap(aligned + size, (size_t)(start + alignment - aligned));
    *zero = *commit = true;
    mapped_by_hook += mapped_between(aligned, aligned + size);
    return aligned;
}

static bool keep_extent(hooks *of, void *start, size_t size, bool committed, unsigned arena)
{
    (void)of, (void)start, (void)size, (void)committed, (void)arena;
    return true;
}

static hooks own = {.allocate = map_extent, .deallocate = keep_extent};

NOINLINE static void hold(int flags)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(mallocx(BLOCK, flags));
}

int main(void)
{
    begin();
    unsigned arena;
    size_t length = sizeof arena;
    hooks *hooks = &own;
    if (mallctl("arenas.create", &arena, &length, &hooks, sizeof hooks) != 0)
        _exit(97);
    long long of_arena = mapped_by_hook;
    hold((int)((arena + 1) << 20) | 1 << 8); /* MALLOCX_ARENA, MALLOCX_TCACHE_NONE */
    truth_site("hold", (long long)BLOCKS * BLOCK, BLOCKS);
    truth_number("of_arena", of_arena);
    truth_number("in_allocations", mapped_by_hook - of_arena);
    finish();
}
