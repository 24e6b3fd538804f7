/* An allocator with the frees of C23, which know the size, in front of the C library's. Preloaded
 * into itself: as a library it defines the functions, as a program it calls them. */
#ifdef LIBRARY
#include <stddef.h>

void *__libc_malloc(size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *block);

void *malloc(size_t bytes)
{
    return __libc_malloc(bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return __libc_memalign(alignment, bytes);
}

void free(void *block)
{
    __libc_free(block);
}

void free_sized(void *block, size_t bytes)
{
    (void)bytes;
    free(block);
}

void free_aligned_sized(void *block, size_t alignment, size_t bytes)
{
    (void)alignment;
    (void)bytes;
    __libc_free(block);
}
#else
#include "protocol.h"

void free_sized(void *block, size_t bytes);
void free_aligned_sized(void *block, size_t alignment, size_t bytes);

enum { BLOCKS = 60, BYTES = 700 };

NOINLINE static void leave_a_third(void)
{
    for (int i = 0; i < BLOCKS; i++) {
        void *block = malloc(BYTES);
        keep(block);
        if (i % 3)
            free_sized(block, BYTES);
    }
}

NOINLINE static void leave_half_of_the_aligned(void)
{
    for (int i = 0; i < BLOCKS; i++) {
        void *block = aligned_alloc(64, 640);
        keep(block);
        if (i % 2)
            free_aligned_sized(block, 64, 640);
    }
}

int main(void)
{
    begin();
    leave_a_third();
    leave_half_of_the_aligned();
    free_sized(NULL, 0);
    truth_site("leave_a_third", BLOCKS / 3 * BYTES, BLOCKS / 3);
    truth_site("leave_half_of_the_aligned", BLOCKS / 2 * 640, BLOCKS / 2);
    truth_number("live_bytes", BLOCKS / 3 * BYTES + BLOCKS / 2 * 640);
    truth_number("live_count", BLOCKS / 3 + BLOCKS / 2);
    finish();
}
#endif
