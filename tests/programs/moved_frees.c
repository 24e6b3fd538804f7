/* Loads a library with an allocator, lets it go, and loads another one that comes to its addresses, and that
 * maps memory where the first one freed. The arguments are the libraries, which are made of this file. */
#include "protocol.h"
#include <sys/mman.h>

#ifdef ALLOCATE

static char pool[1 << 16];
static size_t used;

void *ALLOCATE(size_t bytes)
{
    void *block = pool + used;
    used += (bytes + 15) & ~(size_t)15;
    return block;
}

void *MAP_OR_FREE(void *block, size_t bytes, int map)
{
    int protection = PROT_READ | PROT_WRITE;
    if (map)
        block = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* No tail call: the frame is to be on the stack. */
    keep(block);
    return block;
}

#else

#include <dlfcn.h>

enum { MAPPINGS = 10, BYTES = 1 << 20 };

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        _exit(98);
    return library;
}

int main(int count, char **arguments)
{
    if (count < 3)
        return 1;
    begin();
    void *first = load(arguments[1]);
    void *freed = dlsym(first, "dlfree");
    ((void *(*)(void *, size_t, int))freed)(NULL, BYTES, 1);
    say("done\n");
    wait_line();
    dlclose(first);
    say("done\n");
    wait_line();
    void *second = load(arguments[2]);
    void *maps = dlsym(second, "do_map");
    truth_number("is_there", freed == maps);
    say("done\n");
    wait_line();
    for (int i = 0; i < MAPPINGS; i++)
        keep(((void *(*)(void *, size_t, int))maps)(NULL, BYTES, 1));
    truth_number("mapped", (long long)MAPPINGS * BYTES);
    finish();
    return 0;
}

#endif
