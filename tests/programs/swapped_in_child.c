/* Another library comes to the place of one that parent and child have, and the child allocates through what it has
 * there: the third argument says whether the child swaps them, as the first thing that it does, the parent after
 * the fork, or the parent right before it. The libraries are the same source, built with -DLIBRARY, with frames of
 * other sizes. */
#include "protocol.h"
#include <dlfcn.h>
#include <sys/wait.h>

enum { BYTES = 333, BLOCKS = 50 };

#ifdef LIBRARY

void call_back(void (*function)(void));

void call_back(void (*function)(void))
{
    volatile char frame[FRAME];
    frame[0] = 1;
    function();
    frame[1] = frame[0];
}

#else

typedef void call(void (*)(void));

static void *library;
static call *call_back;
static char same_place;

static void load(const char *path)
{
    library = dlopen(path, RTLD_NOW);
    if (library == NULL)
        _exit(95);
    *(void **)&call_back = dlsym(library, "call_back");
}

NOINLINE static void hold_in_parent(void)
{
    keep(malloc(BYTES));
}

NOINLINE static void hold_in_child(void)
{
    keep(malloc(BYTES));
}

static void swap(const char *path)
{
    uintptr_t before = (uintptr_t)call_back;
    dlclose(library);
    load(path);
    same_place = (uintptr_t)call_back >> 12 == before >> 12;
}

NOINLINE static void work_in_child(void)
{
    for (int i = 0; i < BLOCKS; i++)
        call_back(hold_in_child);
}

int main(int count, char **arguments)
{
    if (count < 4)
        _exit(96);
    load(arguments[1]);
    begin();
    for (int i = 0; i < BLOCKS; i++)
        call_back(hold_in_parent);
    int in_child = !strcmp(arguments[3], "child"), in_parent = !strcmp(arguments[3], "parent");
    int to_parent[2], to_child[2];
    if (pipe(to_parent) != 0 || pipe(to_child) != 0)
        _exit(97);
    say("done\n");
    if (!wait_line())
        _exit(92);
    if (!in_child && !in_parent)
        swap(arguments[2]);
    pid_t child = fork();
    if (child == 0) {
        if (in_child)
            swap(arguments[2]);
        if (in_parent && read(to_child[0], &same_place, 1) != 1)
            _exit(93);
        work_in_child();
        if (write(to_parent[1], &same_place, 1) != 1)
            _exit(98);
        wait_line();
        _exit(0);
    }
    if (in_parent) {
        say("done\n");
        if (!wait_line())
            _exit(91);
        swap(arguments[2]);
        say("done\n");
        if (!wait_line() || write(to_child[1], &same_place, 1) != 1)
            _exit(94);
    }
    if (read(to_parent[0], &same_place, 1) != 1)
        _exit(99);
    truth_number("same_place", same_place);
    truth_number("blocks", BLOCKS);
    say("done\n");
    waitpid(child, NULL, 0);
}

#endif
