/* The allocator's functions in front of the C library's, so that the program can count what others allocate
 * in it: the dynamic linker and the library's threads call these, too. What the program allocates itself
 * it counts where it does; here, only what comes while a thread is `among_others`. */
#include <stdatomic.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *block);

enum { MOST_OTHERS = 4096 };

static struct {
    void *block;
    size_t bytes;
} others[MOST_OTHERS];
static long long others_bytes, others_count, others_handed_out;
static atomic_flag others_lock = ATOMIC_FLAG_INIT;
static int others_count_now;
static __thread int among_others;

static void others_begin(void)
{
    while (atomic_flag_test_and_set(&others_lock)) {
    }
}

static void others_end(void)
{
    atomic_flag_clear(&others_lock);
}

static void others_got(void *block, size_t bytes)
{
    if (!among_others || !others_count_now || block == NULL)
        return;
    others_begin();
    int place = 0;
    while (place < MOST_OTHERS && others[place].block != NULL)
        place++;
    if (place == MOST_OTHERS)
        _exit(97);
    others[place].block = block;
    others[place].bytes = bytes;
    others_bytes += (long long)bytes;
    others_count++;
    others_handed_out++;
    others_end();
}

/* What was there before the count began is not found. */
static void others_freed(void *block)
{
    if (!among_others || block == NULL)
        return;
    others_begin();
    for (int place = 0; place < MOST_OTHERS; place++) {
        if (others[place].block == block) {
            others[place].block = NULL;
            others_bytes -= (long long)others[place].bytes;
            others_count--;
            break;
        }
    }
    others_end();
}

void *malloc(size_t bytes)
{
    void *block = __libc_malloc(bytes);
    others_got(block, bytes);
    return block;
}

void *calloc(size_t count, size_t bytes)
{
    void *block = __libc_calloc(count, bytes);
    others_got(block, count * bytes);
    return block;
}

void *realloc(void *old, size_t bytes)
{
    /* Before another thread can be given its address. */
    others_freed(old);
    void *block = __libc_realloc(old, bytes);
    if (block == NULL && among_others)
        _exit(95);
    others_got(block, bytes);
    return block;
}

void *reallocarray(void *old, size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(old, all);
}

void *memalign(size_t alignment, size_t bytes)
{
    void *block = __libc_memalign(alignment, bytes);
    others_got(block, bytes);
    return block;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

int posix_memalign(void **place, size_t alignment, size_t bytes)
{
    if (alignment % sizeof(void *) != 0)
        return EINVAL;
    void *block = memalign(alignment, bytes);
    if (block == NULL)
        return ENOMEM;
    *place = block;
    return 0;
}

void *valloc(size_t bytes)
{
    return memalign(4096, bytes);
}

void *pvalloc(size_t bytes)
{
    return memalign(4096, (bytes + 4095) / 4096 * 4096);
}

void free(void *block)
{
    others_freed(block);
    __libc_free(block);
}
