/* Every function that hands out or takes back memory, each called by a function of its own, and what each of
 * these holds. Allocates nothing by itself. */
#include "whose_pvalloc.h"
#include <stdatomic.h>
#include <sys/mman.h>

enum { PAGE = 4096, ALIGNMENT = 64 };

/* The functions of C, those of C++, and what is mapped. */
enum kind {
    MALLOC,
    CALLOC,
    REALLOC,
    POSIX_MEMALIGN,
    ALIGNED_ALLOC,
    MEMALIGN,
    REALLOCARRAY,
    VALLOC,
    PVALLOC,
    NEW,
    NEW_ARRAY,
    NEW_NOTHROW,
    NEW_ALIGNED,
    MMAP,
    KINDS
};

static const char *const names[MMAP] = {
    "by_malloc",        "by_calloc",   "by_realloc",      "by_posix_memalign", "by_aligned_alloc",
    "by_memalign",      "by_reallocarray", "by_valloc",   "by_pvalloc",        "by_new",
    "by_new_array",     "by_new_nothrow",  "by_new_aligned"};

static atomic_llong held_bytes[KINDS], held_count[KINDS];
/* Calls that got nothing. */
static atomic_llong refused;

static void count(enum kind kind, long long bytes, long long blocks)
{
    held_bytes[kind] += bytes;
    held_count[kind] += blocks;
}

#define ALLOCATES(name, ...)               \
    NOINLINE static void *name             \
    {                                      \
        void *block = __VA_ARGS__;         \
        keep(block);                       \
        return block;                      \
    }

ALLOCATES(by_malloc(size_t bytes), malloc(bytes))
ALLOCATES(by_calloc(size_t bytes), calloc(1, bytes))
ALLOCATES(by_realloc(void *old, size_t bytes), realloc(old, bytes))
ALLOCATES(by_aligned_alloc(size_t bytes), aligned_alloc(32, bytes))
ALLOCATES(by_memalign(size_t bytes), memalign(128, bytes))
ALLOCATES(by_reallocarray(void *old, size_t bytes), reallocarray(old, 1, bytes))
ALLOCATES(by_valloc(size_t bytes), valloc(bytes))

NOINLINE static void *by_posix_memalign(size_t bytes)
{
    void *block = NULL;
    int failed = posix_memalign(&block, 64, bytes);
    keep(block);
    return failed ? NULL : block;
}

#ifdef __GLIBC__
ALLOCATES(by_pvalloc(size_t bytes), pvalloc(bytes))

/* Operators of C++ by the names that they have in libraries. */
extern const char nothrow __asm__("_ZSt7nothrow");
void *new_plain(size_t) __asm__("_Znwm");
void *new_array(size_t) __asm__("_Znam");
void *new_nothrow(size_t, const void *) __asm__("_ZnwmRKSt9nothrow_t");
void *new_aligned(size_t, size_t) __asm__("_ZnwmSt11align_val_t");
void delete_plain(void *) __asm__("_ZdlPv");
void delete_sized(void *, size_t) __asm__("_ZdlPvm");
void delete_array(void *) __asm__("_ZdaPv");
void delete_array_sized(void *, size_t) __asm__("_ZdaPvm");
void delete_nothrow(void *, const void *) __asm__("_ZdlPvRKSt9nothrow_t");
void delete_aligned(void *, size_t) __asm__("_ZdlPvSt11align_val_t");
void delete_aligned_sized(void *, size_t, size_t) __asm__("_ZdlPvmSt11align_val_t");

ALLOCATES(by_new(size_t bytes), new_plain(bytes))
ALLOCATES(by_new_array(size_t bytes), new_array(bytes))
ALLOCATES(by_new_nothrow(size_t bytes), new_nothrow(bytes, &nothrow))
ALLOCATES(by_new_aligned(size_t bytes), new_aligned(bytes, ALIGNMENT))

static void release(enum kind kind, void *block, size_t bytes, int with_size)
{
    switch (kind) {
    case NEW: with_size ? delete_sized(block, bytes) : delete_plain(block); break;
    case NEW_ARRAY: with_size ? delete_array_sized(block, bytes) : delete_array(block); break;
    case NEW_NOTHROW: delete_nothrow(block, &nothrow); break;
    case NEW_ALIGNED:
        with_size ? delete_aligned_sized(block, bytes, ALIGNMENT) : delete_aligned(block, ALIGNMENT);
        break;
    default: free(block);
    }
}

static int is_there(enum kind kind)
{
    return kind != PVALLOC || pvalloc_is_the_allocators();
}
#else
#define by_pvalloc by_valloc
#define by_new by_malloc
#define by_new_array by_malloc
#define by_new_nothrow by_malloc
#define by_new_aligned by_malloc

static void release(enum kind kind, void *block, size_t bytes, int with_size)
{
    (void)kind, (void)bytes, (void)with_size;
    free(block);
}

/* Neither is there a library of C++ for it. */
static int is_there(enum kind kind)
{
    return kind < PVALLOC || kind == MMAP;
}
#endif

/* The compiler does not know it. */
static volatile size_t unreachable_size = (size_t)1 << 60;

/* What nobody can give: the old block stays. */
NOINLINE static void fail_to_allocate(void *old)
{
    size_t too_much = unreachable_size;
    void *none = NULL;
    if (malloc(too_much) || calloc(too_much, too_much) || posix_memalign(&none, ALIGNMENT + 1, 1) == 0)
        _exit(93);
    refused += 3;
#ifndef COUNTS_OTHERS
    /* With a map that is full, there may be no room for it any more when it is put back: it is lost then,
     * though it was counted. */
    if (realloc(old, too_much))
        _exit(93);
    refused++;
#else
    (void)old;
#endif
}
