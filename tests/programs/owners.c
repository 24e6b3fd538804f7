/* Grows in every way in which a process can, each by its own number of bytes, and tells them. What the C
 * library holds it asks the C library. Arguments: the ways. */
#include "protocol.h"
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { MIB = 1 << 20, PAGE = 4096, BLOCKS = 100000, BLOCK_BYTES = 400 };

static char table[8 * MIB];
static char *untouched, *file, *shared, *given_back;
static void *freed[20 * 1000];

static int asked(int argc, char **argv, const char *way)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], way) == 0)
            return 1;
    return 0;
}

static void touch(volatile char *start, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PAGE)
        start[at] = 1;
}

static char *map(int fd, size_t bytes)
{
    char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    if (start == MAP_FAILED)
        _exit(98);
    return start;
}

/* Pages without access on both sides keep the kernel from joining it with another mapping. */
static void map_by_system_call(size_t bytes)
{
    char *start = (char *)syscall(SYS_mmap, NULL, bytes + 2 * PAGE, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    syscall(SYS_mprotect, start + PAGE, bytes, PROT_READ | PROT_WRITE);
    touch(start + PAGE, bytes);
}

static char *map_file(size_t bytes)
{
    char name[] = "/var/tmp/leaktrace-owners-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    char zeros[PAGE] = {0};
    for (size_t at = 0; at < bytes; at += PAGE)
        if (write(fd, zeros, PAGE) != PAGE)
            _exit(97);
    return map(fd, bytes);
}

NOINLINE static long long leaks(void)
{
    for (int i = 0; i < BLOCKS; i++) {
        char *block = malloc(BLOCK_BYTES);
        memset(block, 1, BLOCK_BYTES);
        keep(block);
    }
    return (long long)BLOCKS * BLOCK_BYTES;
}

/* Every 64th stays, so that the allocator has to keep nearly every page. */
NOINLINE static long long frees(void)
{
    long long live = 0;
    for (int i = 0; i < 20 * 1000; i++)
        memset(freed[i] = malloc(1000), 1, 1000);
    for (int i = 0; i < 20 * 1000; i++) {
        if (i % 64)
            free(freed[i]);
        else
            live += 1000;
    }
    return live;
}

NOINLINE static long long half_touched(void)
{
    char *block = malloc(30 * MIB);
    touch(block, 15 * MIB);
    keep(block);
    return 30 * MIB;
}

static long long of_allocator(void)
{
    struct mallinfo2 info = mallinfo2();
    return (long long)(info.arena + info.hblkhd);
}

int main(int argc, char **argv)
{
    long long live = 0, mapped = 0, raw = 0;
    if (asked(argc, argv, "before"))
        untouched = malloc(48 * MIB);
    if (asked(argc, argv, "file"))
        file = map_file(20 * MIB);
    if (asked(argc, argv, "shared")) {
        int fd = memfd_create("owners", 0);
        if (ftruncate(fd, 12 * MIB))
            _exit(96);
        shared = map(fd, 12 * MIB);
    }
    if (asked(argc, argv, "given_back"))
        touch(given_back = malloc(64 * MIB), 64 * MIB);
    long long allocator = of_allocator();
    begin();
    if (asked(argc, argv, "before"))
        touch(untouched, 48 * MIB);
    if (asked(argc, argv, "file"))
        for (volatile char *at = file; at < file + 20 * MIB; at += PAGE)
            (void)*at;
    if (asked(argc, argv, "shared"))
        touch(shared, 12 * MIB);
    if (asked(argc, argv, "given_back")) {
        free(given_back);
        allocator -= 64 * MIB + PAGE;
    }
    if (asked(argc, argv, "static"))
        touch(table, sizeof table);
    if (asked(argc, argv, "raw"))
        map_by_system_call(raw = 24 * MIB);
    if (asked(argc, argv, "mapped")) {
        touch(map(-1, 32 * MIB), 16 * MIB);
        mapped = 16 * MIB;
    }
    if (asked(argc, argv, "leaks"))
        live += leaks();
    if (asked(argc, argv, "frees"))
        live += frees();
    if (asked(argc, argv, "half_touched"))
        live += half_touched();
    truth_number("heap_bytes", live);
    truth_number("allocator_has", of_allocator() - allocator);
    truth_number("mapped_bytes", mapped);
    truth_number("raw_bytes", raw);
    finish();
}
