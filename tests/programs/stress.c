/* Eight threads that do everything at once, for as many milliseconds as asked for: every function that
 * allocates, sizes from 1 byte to 4 MB, frees by other threads, mappings, with "forks" forks, and with "all"
 * libraries that come and go as well. What each function holds at the end is counted beside it. With
 * -DCOUNTS_OTHERS the allocator's functions are the program's own in front of the C library's, so that it
 * can count what others (the dynamic linker, the library's threads) allocate in it, too.
 * With "flat", forks, and no call of a function that calls another one: realloc has a block to work on.
 * usage: stress MILLISECONDS SEED [forks|all|flat] */
#include "protocol.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 8, SLOTS = 4096, PAGE = 4096, KINDS = 10 };

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
    MMAP
};

/* A block that waits for whoever comes by; busy while a thread works on it. */
struct slot {
    atomic_int busy;
    enum kind kind;
    size_t bytes;
    void *block;
};

static struct slot slots[SLOTS];
static atomic_llong held_bytes[KINDS], held_count[KINDS], handed_out;
static atomic_int stop;
static int with_forks, with_libraries, is_flat;

#ifdef COUNTS_OTHERS
#include "stress_others.h"
#else
static __thread int among_others;
#endif

static uint64_t random_number(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* As many sizes between 1 and 2 as between 1 MB and 2 MB; the largest ones rarely. */
static size_t random_size(uint64_t *state)
{
    unsigned bits = (unsigned)(random_number(state) % (random_number(state) % 256 == 0 ? 23 : 13));
    size_t low = (size_t)1 << bits;
    size_t size = low + random_number(state) % low;
    return size > 4000000 ? 4000000 : size;
}

NOINLINE static void *by_malloc(size_t bytes)
{
    void *block = malloc(bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_calloc(size_t bytes)
{
    void *block = calloc(1, bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_realloc(void *old, size_t bytes)
{
    void *block = realloc(old, bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_posix_memalign(size_t bytes)
{
    void *block = NULL;
    int failed = posix_memalign(&block, 64, bytes);
    keep(block);
    return failed ? NULL : block;
}

NOINLINE static void *by_aligned_alloc(size_t bytes)
{
    void *block = aligned_alloc(32, bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_memalign(size_t bytes)
{
    void *block = memalign(128, bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_reallocarray(void *old, size_t bytes)
{
    void *block = reallocarray(old, 1, bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_valloc(size_t bytes)
{
    void *block = valloc(bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_pvalloc(size_t bytes)
{
    void *block = pvalloc(bytes);
    keep(block);
    return block;
}

NOINLINE static void *by_mmap(size_t bytes)
{
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    keep(block);
    return block == MAP_FAILED ? NULL : block;
}

static void count(enum kind kind, long long bytes, long long blocks)
{
    held_bytes[kind] += bytes;
    held_count[kind] += blocks;
}

static void fill(struct slot *slot, uint64_t *state)
{
    slot->kind = (enum kind)(random_number(state) % KINDS);
    if (is_flat && (slot->kind == REALLOC || slot->kind == REALLOCARRAY))
        slot->kind = MALLOC;
    slot->bytes = random_size(state);
    switch (slot->kind) {
    case MALLOC: slot->block = by_malloc(slot->bytes); break;
    case CALLOC: slot->block = by_calloc(slot->bytes); break;
    case REALLOC: slot->block = by_realloc(NULL, slot->bytes); break;
    case POSIX_MEMALIGN: slot->block = by_posix_memalign(slot->bytes); break;
    case ALIGNED_ALLOC: slot->block = by_aligned_alloc(slot->bytes); break;
    case MEMALIGN: slot->block = by_memalign(slot->bytes); break;
    case REALLOCARRAY: slot->block = by_reallocarray(NULL, slot->bytes); break;
    case VALLOC: slot->block = by_valloc(slot->bytes); break;
    case PVALLOC: slot->block = by_pvalloc(slot->bytes); break;
    case MMAP:
        slot->bytes = PAGE * (2 + random_number(state) % 30);
        slot->block = by_mmap(slot->bytes);
        break;
    }
    if (slot->block == NULL)
        _exit(98);
    count(slot->kind, (long long)slot->bytes, 1);
    if (slot->kind != MMAP)
        handed_out++;
}

/* A mapping loses its first page, or its last, or goes. */
static void shrink_mapping(struct slot *slot, uint64_t *state)
{
    uint64_t what = random_number(state) % 3;
    if (slot->bytes == PAGE || what == 0) {
        munmap(slot->block, slot->bytes);
        count(MMAP, -(long long)slot->bytes, -1);
        slot->block = NULL;
        return;
    }
    slot->bytes -= PAGE;
    count(MMAP, -PAGE, 0);
    if (what == 1) {
        munmap(slot->block, PAGE);
        slot->block = (char *)slot->block + PAGE;
    } else {
        munmap((char *)slot->block + slot->bytes, PAGE);
    }
}

static void change(struct slot *slot, uint64_t *state)
{
    if (slot->kind == MMAP) {
        shrink_mapping(slot, state);
        return;
    }
    count(slot->kind, -(long long)slot->bytes, -1);
    if (random_number(state) % 4 == 0) {
        slot->bytes = random_size(state);
        if (is_flat || random_number(state) % 2 == 0) {
            slot->kind = REALLOC;
            slot->block = by_realloc(slot->block, slot->bytes);
        } else {
            slot->kind = REALLOCARRAY;
            slot->block = by_reallocarray(slot->block, slot->bytes);
        }
        count(slot->kind, (long long)slot->bytes, 1);
        handed_out++;
    } else {
        free(slot->block);
        slot->block = NULL;
    }
}

static void disturb(uint64_t *state)
{
    if (!with_libraries || random_number(state) % 2 == 0) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    } else {
        among_others = 1;
        void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            _exit(94);
        dlclose(library);
        among_others = 0;
    }
}

/* No thread is made while others allocate: what the C library allocates for it would be lost with
 * the rest when a map is full, and without COUNTS_OTHERS nobody could tell how much that is. */
static pthread_barrier_t all_there;

/* Stacks that nobody maps: what is mapped is by_mmap's alone. */
static _Alignas(4096) char stacks[THREADS][1 << 20];

static void *work(void *seed)
{
    pthread_barrier_wait(&all_there);
    uint64_t state = (uint64_t)(uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;
    while (!stop) {
        struct slot *slot = &slots[random_number(&state) % SLOTS];
        if (atomic_exchange(&slot->busy, 1))
            continue;
        if (slot->block == NULL)
            fill(slot, &state);
        else
            change(slot, &state);
        slot->busy = 0;
        if (with_forks && random_number(&state) % 4096 == 0)
            disturb(&state);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long milliseconds = atol(argv[1]);
    uintptr_t seed = (uintptr_t)atol(argv[2]);
    with_forks = argc > 3;
    with_libraries = argc > 3 && strcmp(argv[3], "all") == 0;
    is_flat = argc > 3 && strcmp(argv[3], "flat") == 0;
    begin();
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_barrier_init(&all_there, NULL, THREADS);
    among_others = 1;
#ifdef COUNTS_OTHERS
    others_count_now = 1;
#endif
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_attr_setstack(&attributes, stacks[i], sizeof stacks[i]);
        pthread_create(&threads[i], &attributes, work, (void *)(seed * THREADS + i + 1));
    }
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    static const char *const names[] = {
        "by_malloc",        "by_calloc",   "by_realloc",      "by_posix_memalign",
        "by_aligned_alloc", "by_memalign", "by_reallocarray", "by_valloc",
        "by_pvalloc"};
    for (int kind = 0; kind < MMAP; kind++)
        truth_site(names[kind], held_bytes[kind], held_count[kind]);
    truth_number("mapped_bytes", held_bytes[MMAP]);
    truth_number("handed_out", handed_out);
#ifdef COUNTS_OTHERS
    truth_number("others_bytes", others_bytes);
    truth_number("others_count", others_count);
    truth_number("others_handed_out", others_handed_out);
#endif
    truth_number("seed", (long long)seed);
    finish();
}
