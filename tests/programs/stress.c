/* Eight threads that do everything at once, for as many milliseconds as asked for: every function that
 * allocates in C and C++, sizes from 1 byte to 4 MB, calls that fail, frees by other threads, mappings that
 * are cut, moved and covered, with "forks" forks, and with "all" libraries and threads that come and go as
 * well. What each function holds at the end is counted beside it. With
 * -DCOUNTS_OTHERS the allocator's functions are the program's own in front of the C library's, so that it
 * can count what others (the dynamic linker, the library's threads) allocate in it, too.
 * With "flat", forks, and no call of a function that calls another one: realloc has a block to work on.
 * usage: stress MILLISECONDS SEED [forks|all|flat] */
#include "protocol.h"
#include "stress_functions.h"
#include "stress_mappings.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 8, SLOTS = 4096, SHORT_LIFE = 64 };

/* A block that waits for whoever comes by; busy while a thread works on it. */
struct slot {
    atomic_int busy;
    enum kind kind;
    size_t bytes;
    void *block;
};

static struct slot slots[SLOTS];
static atomic_llong handed_out;
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

static void fill(struct slot *slot, uint64_t *state)
{
    slot->kind = (enum kind)(random_number(state) % KINDS);
    int calls_another = slot->kind == REALLOC || slot->kind == REALLOCARRAY || (slot->kind >= NEW && slot->kind < MMAP);
    if ((is_flat && calls_another) || !is_there(slot->kind))
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
    case NEW: slot->block = by_new(slot->bytes); break;
    case NEW_ARRAY: slot->block = by_new_array(slot->bytes); break;
    case NEW_NOTHROW: slot->block = by_new_nothrow(slot->bytes); break;
    case NEW_ALIGNED:
        /* To whole multiples, which the library rounds up to. */
        slot->bytes = (slot->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        slot->block = by_new_aligned(slot->bytes);
        break;
    default:
        slot->bytes = PAGE * (2 + random_number(state) % 30);
        slot->block = by_mmap(slot->bytes);
        maps++;
    }
    if (slot->block == NULL)
        _exit(98);
    count(slot->kind, (long long)slot->bytes, 1);
    if (slot->kind != MMAP)
        handed_out++;
}

static void change(struct slot *slot, uint64_t *state)
{
    if (slot->kind == MMAP) {
        long long before = (long long)slot->bytes;
        slot->block = change_mapping(slot->block, &slot->bytes, random_number(state));
        count(MMAP, (long long)slot->bytes - before, slot->block == NULL ? -1 : 0);
        if (slot->block == NULL && slot->bytes > 0)
            _exit(97);
        return;
    }
    if (!is_flat && slot->kind < NEW && random_number(state) % 64 == 0) {
        fail_to_allocate(slot->block);
        return;
    }
    count(slot->kind, -(long long)slot->bytes, -1);
    if (slot->kind < NEW && random_number(state) % 4 == 0) {
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
        release(slot->kind, slot->block, slot->bytes, random_number(state) % 2);
        slot->block = NULL;
    }
}

static void step(uint64_t *state)
{
    struct slot *slot = &slots[random_number(state) % SLOTS];
    if (atomic_exchange(&slot->busy, 1))
        return;
    if (slot->block == NULL)
        fill(slot, state);
    else
        change(slot, state);
    slot->busy = 0;
}

static void *live_shortly(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (int i = 0; i < SHORT_LIFE; i++)
        step(&state);
    return NULL;
}

/* Stacks that nobody maps: what is mapped is by the functions above alone. */
static _Alignas(4096) char stacks[THREADS][1 << 20], short_stacks[THREADS][1 << 18];

static void start(pthread_t *thread, char *stack, size_t bytes, void *(*what)(void *), uint64_t seed)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, bytes);
    if (pthread_create(thread, &attributes, what, (void *)(uintptr_t)seed) != 0)
        _exit(89);
}

static void disturb(uint64_t *state, int number)
{
    uint64_t what = with_libraries ? random_number(state) % 3 : 0;
    if (what == 0) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    } else if (what == 1) {
        pthread_t thread;
        uint64_t seed = random_number(state);
        among_others = 1;
        start(&thread, short_stacks[number], sizeof short_stacks[number], live_shortly, seed);
        pthread_join(thread, NULL);
        among_others = 0;
    } else {
        among_others = 1;
        void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            _exit(94);
        dlclose(library);
        among_others = 0;
    }
}

static pthread_barrier_t all_there;

static uintptr_t first_seed;

static void *work(void *number)
{
    pthread_barrier_wait(&all_there);
    uint64_t state = (first_seed * THREADS + (uintptr_t)number + 1) * 0x9e3779b97f4a7c15u + 1;
    while (!stop) {
        step(&state);
        if (with_forks && random_number(&state) % 4096 == 0)
            disturb(&state, (int)(uintptr_t)number);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long milliseconds = atol(argv[1]);
    first_seed = (uintptr_t)atol(argv[2]);
    with_forks = argc > 3;
    with_libraries = argc > 3 && strcmp(argv[3], "all") == 0;
    is_flat = argc > 3 && strcmp(argv[3], "flat") == 0;
    begin();
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_there, NULL, THREADS);
    among_others = 1;
#ifdef COUNTS_OTHERS
    others_count_now = 1;
#endif
    for (uintptr_t i = 0; i < THREADS; i++)
        start(&threads[i], stacks[i], sizeof stacks[i], work, i);
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int kind = 0; kind < MMAP; kind++)
        if (is_there(kind))
            truth_site(names[kind], held_bytes[kind], held_count[kind]);
    truth_number("mapped_bytes", held_bytes[MMAP]);
    truth_number("maps", maps);
    truth_number("moves", moves);
    truth_number("refused", refused);
    truth_number("unmaps", unmaps);
    truth_number("handed_out", handed_out);
#ifdef COUNTS_OTHERS
    truth_number("others_bytes", others_bytes);
    truth_number("others_count", others_count);
    truth_number("others_handed_out", others_handed_out);
#endif
    truth_number("seed", (long long)first_seed);
    finish();
}
