/* A child that puts another library in the place of one of its parent's, as the first thing that it does, and
 * allocates through it. The libraries are the same source, built with -DLIBRARY, with frames of other sizes. */
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

NOINLINE static void work_in_child(const char *path)
{
    dlclose(library);
    load(path);
    for (int i = 0; i < BLOCKS; i++)
        call_back(hold_in_child);
}

int main(int count, char **arguments)
{
    if (count < 3)
        _exit(96);
    load(arguments[1]);
    begin();
    for (int i = 0; i < BLOCKS; i++)
        call_back(hold_in_parent);
    uintptr_t before = (uintptr_t)call_back;
    int pipes[2];
    if (pipe(pipes) != 0)
        _exit(97);
    pid_t child = fork();
    if (child == 0) {
        work_in_child(arguments[2]);
        char same = (uintptr_t)call_back >> 12 == before >> 12;
        if (write(pipes[1], &same, 1) != 1)
            _exit(98);
        wait_line();
        _exit(0);
    }
    char same = 0;
    if (read(pipes[0], &same, 1) != 1)
        _exit(99);
    truth_number("same_place", same);
    truth_number("blocks", BLOCKS);
    say("done\n");
    waitpid(child, NULL, 0);
}

#endif
