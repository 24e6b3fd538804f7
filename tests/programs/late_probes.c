/* A process with an allocator that is probed only after it has begun to hand out blocks, because the process
 * loads it under trace, or executes a program with it; and children that are forked at once, before the
 * probes can be in place. The argument behind the way is the library, or the program. The library is made
 * of this file, too. */
#include "protocol.h"

#ifdef LIBRARY

static char pool[1 << 20];
static size_t used;

void *dlmalloc(size_t bytes)
{
    void *block = pool + used;
    used += (bytes + 15) & ~(size_t)15;
    return block;
}

void dlfree(void *block)
{
    (void)block;
}

#else

#include <dlfcn.h>
#include <sys/wait.h>

enum { CHILDREN = 4, EARLY = 50, LATE = 30, BYTES = 100 };

static void *(*allocate)(size_t);
static int reached[2], end[2];

NOINLINE static void holds_early(void)
{
    for (int i = 0; i < EARLY; i++)
        keep(allocate(BYTES));
}

NOINLINE static void holds_late(void)
{
    for (int i = 0; i < LATE; i++)
        keep(allocate(BYTES));
}

static void await_all(void)
{
    char byte;
    for (int i = 0; i < CHILDREN; i++)
        if (read(reached[0], &byte, 1) != 1)
            _exit(98);
    say("done\n");
}

/* All children read from one pipe: each takes one end of a line. */
static void be_child(void)
{
    holds_early();
    say("{\"truth\":\"child\",\"pid\":%d}\n", (int)getpid());
    if (write(reached[1], "", 1) != 1)
        _exit(97);
    wait_line();
    holds_late();
    if (write(reached[1], "", 1) != 1)
        _exit(96);
    /* The next line would be another child's. */
    close(end[1]);
    char byte;
    _exit((int)read(end[0], &byte, 1));
}

/* Twice: by a child that ends at once, as daemons are. */
static void fork_children(int twice)
{
    if (pipe(reached) || pipe(end))
        _exit(95);
    for (int i = 0; i < CHILDREN; i++) {
        if (fork() == 0) {
            if (!twice || fork() == 0)
                be_child();
            _exit(0);
        }
    }
    await_all();
    await_all();
    wait_line();
    close(end[1]);
    while (wait(NULL) > 0)
        ;
}

int main(int count, char **arguments)
{
    if (count < 2)
        return 1;
    const char *way = arguments[1];
    allocate = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "dlmalloc");
    if (!allocate) {
        if (strcmp(way, "load-again") == 0)
            wait_line();
        else
            begin();
        if (strncmp(way, "execute", 7) == 0)
            execl(arguments[2], arguments[2], way, (char *)NULL);
        void *library = dlopen(arguments[2], RTLD_NOW);
        if (!library)
            _exit(94);
        allocate = (void *(*)(size_t))dlsym(library, "dlmalloc");
        if (strcmp(way, "load-and-again") == 0) {
            holds_early();
            say("done\n");
            wait_line();
            execl(arguments[0], arguments[0], "load-again", arguments[2], (char *)NULL);
        }
    }
    if (strncmp(way, "load-a", 6)) {
        fork_children(strstr(way, "twice") != NULL);
        return 0;
    }
    holds_early();
    say("done\n");
    wait_line();
    holds_late();
    finish();
    return 0;
}

#endif
