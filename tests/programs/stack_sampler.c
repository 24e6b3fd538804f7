/* Preloaded into any program: takes the stack of each allocation with glibc's own unwinder, and
 * marks it for the tracer: right beside, it allocates a block of MARK_BYTES that is never freed. The
 * stacks of these blocks have to be the stacks that are written down here, but for the first frame.
 *
 * malloc is wrapped and free is not, so that no tracer takes this for an allocator. Built with frame
 * pointers, so that a walk along them gets from here to the frames of the program.
 * The program waits, by the protocol, before its main function is entered. */
#include "protocol.h"
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { MARK_BYTES = 41, MOST_FRAMES = 250, STACKS = 1 << 16 };

/* The file of samples, as the test reads it. */
struct sample {
    _Atomic uint64_t hash; /* 0: free */
    _Atomic uint64_t count;
    _Atomic uint64_t depth; /* 0: being written */
    uint64_t frames[MOST_FRAMES];
};

struct samples {
    uint64_t sampler_start, sampler_end; /* where the first frame of a marked block is */
    _Atomic uint64_t dropped;
    uint64_t place; /* where a tracer can take the stack, too: once for each marked block */
    struct sample stacks[STACKS];
};

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static struct samples *samples;
/* One allocation of so many is marked. */
static uint64_t every = 1;

NOINLINE static void count(void **frames, int depth)
{
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < depth; i++)
        hash = (hash ^ (uint64_t)frames[i]) * 1099511628211u;
    hash |= 1;
    for (uint64_t tries = 0; tries < STACKS; tries++) {
        struct sample *sample = &samples->stacks[(hash + tries) % STACKS];
        uint64_t known = 0;
        if (atomic_compare_exchange_strong(&sample->hash, &known, hash)) {
            for (int i = 0; i < depth; i++)
                sample->frames[i] = (uint64_t)frames[i];
            atomic_store(&sample->depth, (uint64_t)depth);
            known = hash;
        }
        if (known == hash) {
            atomic_fetch_add(&sample->count, 1);
            return;
        }
    }
    atomic_fetch_add(&samples->dropped, 1);
}

__attribute__((noinline, noclone, section("sampler"))) static void place(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline, noclone, section("sampler"))) static void sample(void)
{
    static _Atomic uint64_t calls;
    void *frames[MOST_FRAMES];
    if (!samples || atomic_fetch_add(&calls, 1) % every)
        return;
    keep(__libc_malloc(MARK_BYTES));
    place();
    count(frames, backtrace(frames, MOST_FRAMES));
    keep(frames);
}

NOINLINE void *malloc(size_t size)
{
    void *block = __libc_malloc(size);
    sample();
    keep(block);
    return block;
}

NOINLINE void *calloc(size_t count, size_t size)
{
    void *block = __libc_calloc(count, size);
    sample();
    keep(block);
    return block;
}

NOINLINE void *realloc(void *old, size_t size)
{
    void *block = __libc_realloc(old, size);
    sample();
    keep(block);
    return block;
}

extern char __start_sampler[] __attribute__((visibility("hidden")));
extern char __stop_sampler[] __attribute__((visibility("hidden")));

__attribute__((constructor)) static void start(void)
{
    const char *name = getenv("STACK_SAMPLES");
    int file = name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    const char *sparse = getenv("STACK_EVERY");
    if (sparse)
        every = strtoull(sparse, NULL, 10);
    /* Not for the children. */
    unsetenv("LD_PRELOAD");
    unsetenv("STACK_SAMPLES");
    if (file < 0 || ftruncate(file, sizeof(struct samples)))
        return;
    struct samples *map = mmap(NULL, sizeof(struct samples), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        return;
    map->sampler_start = (uint64_t)__start_sampler;
    map->sampler_end = (uint64_t)__stop_sampler;
    map->place = (uint64_t)place;
    void *frame;
    /* The first call of backtrace loads a library. */
    backtrace(&frame, 1);
    begin();
    samples = map;
}
