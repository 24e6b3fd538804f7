/* A library that defines mmap and munmap, and keeps records of what it maps: a block for each mapping, and a
 * table that grows. A handler of its own allocates, too, while the C library's mmap is interrupted, and
 * calls of its mmap are left by longjmp. The main program loads it, and has its work done: the same source,
 * built with -DLIBRARY. */
#include "mapped_between.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { MAPPINGS = 100, LEFT = 20, RECORD_BYTES = 1000, HANDLER_BYTES = 600, INTERRUPTED = 20 };

#ifdef LIBRARY

static sigjmp_buf out;
static int jumps;

static void **table;
static size_t table_room, table_length;

NOINLINE static void note_in_record(void)
{
    keep(malloc(RECORD_BYTES));
}

NOINLINE static void note_in_table(void *start)
{
    if (table_length == table_room) {
        table_room = table_room ? 2 * table_room : 8;
        table = realloc(table, table_room * sizeof *table);
    }
    table[table_length++] = start;
}

void *mmap(void *place, size_t bytes, int protection, int flags, int file, off_t offset)
{
    if (jumps)
        siglongjmp(out, 1);
    void *start = (void *)syscall(SYS_mmap, place, bytes, protection, flags, file, offset);
    if (start != MAP_FAILED) {
        note_in_record();
        note_in_table(start);
    }
    return start;
}

int munmap(void *start, size_t bytes)
{
    return (int)syscall(SYS_munmap, start, bytes);
}

#define MAP(bytes, flags) \
    mmap(NULL, (size_t)(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (flags), -1, 0)

static long long kept_bytes;

NOINLINE static void map_and_keep(void)
{
    for (int i = 0; i < MAPPINGS; i++) {
        char *start = MAP(8192, 0);
        char *gone = MAP(4096, 0);
        munmap(gone, 4096);
        kept_bytes += mapped_between(start, start + 8192);
    }
}

NOINLINE static void leave(void)
{
    jumps = 1;
    if (sigsetjmp(out, 1) == 0)
        MAP(4096, 0);
    jumps = 0;
}

NOINLINE static void hold_after_leaving(void)
{
    keep(malloc(RECORD_BYTES));
}

static volatile int is_mapping, handled, interrupted;

NOINLINE static void hold_in_handler(void)
{
    keep(malloc(HANDLER_BYTES));
    keep(calloc(1, HANDLER_BYTES));
}

static void handle(int signal)
{
    (void)signal;
    hold_in_handler();
    handled++;
    interrupted += is_mapping;
}

typedef void *map_function(void *, size_t, int, int, int, off_t);

/* The C library's mmap works for a while, so that a timer meets it there. */
static void map_interrupted(map_function *map, int (*unmap)(void *, size_t))
{
    struct itimerval on = {{0, 3000}, {0, 3000}}, off = {{0, 0}, {0, 0}};
    size_t bytes = 32 << 20;
    while (interrupted < INTERRUPTED) {
        is_mapping = 1;
        setitimer(ITIMER_REAL, &on, NULL);
        void *start = map(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        setitimer(ITIMER_REAL, &off, NULL);
        is_mapping = 0;
        unmap(start, bytes);
    }
}

void work(map_function *map, int (*unmap)(void *, size_t));

void work(map_function *map, int (*unmap)(void *, size_t))
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    map_and_keep();
    for (int i = 0; i < LEFT; i++) {
        leave();
        hold_after_leaving();
    }
    map_and_keep();
    map_interrupted(map, unmap);
    truth_site("note_in_record", 4LL * MAPPINGS * RECORD_BYTES, 4 * MAPPINGS);
    truth_site("note_in_table", (long long)(table_room * sizeof *table), 1);
    truth_site("hold_after_leaving", LEFT * RECORD_BYTES, LEFT);
    truth_site("hold_in_handler", 2LL * handled * HANDLER_BYTES, 2 * handled);
    truth_number("map_and_keep", kept_bytes);
    truth_number("left", LEFT);
}

#else

int main(int count, char **arguments)
{
    void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    if (library == NULL)
        _exit(95);
    void (*work)(void *, void *);
    *(void **)&work = dlsym(library, "work");
    begin();
    work((void *)mmap, (void *)munmap);
    finish();
}

#endif
