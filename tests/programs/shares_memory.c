/* A process whose child is in its memory: made by clone with CLONE_VM, and neither a thread nor about to run
 * another program. Argument: when, "before" a tracer comes or "after"; with "moment", children that are in its
 * memory for a moment only, by vfork, posix_spawn and system; with "threads", the child's second thread ends
 * before it works. */
#include "protocol.h"
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

enum { BLOCKS = 12, BYTES = 340 };

static _Alignas(16) char stack[256 * 1024], thread_stack[16 * 1024];
static int has_threads;
static int may_work[2], has_worked[2], may_end[2];

NOINLINE static void parent_holds(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(BYTES));
}

NOINLINE static void sharer_holds(void)
{
    for (int i = 0; i < 2 * BLOCKS; i++)
        keep(malloc(BYTES));
}

static void tell(int *other)
{
    if (write(other[1], "", 1) != 1)
        _exit(92);
}

static void await(int *other)
{
    char byte;
    if (read(other[0], &byte, 1) != 1)
        _exit(91);
}

static int end_thread(void *unused)
{
    (void)unused;
    syscall(SYS_exit, 0);
    return 0;
}

/* By clone: the C library's threads need a process of its own. */
static void have_a_thread_end(void)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    int thread = clone(end_thread, thread_stack + sizeof thread_stack, flags, NULL);
    if (thread < 0)
        _exit(89);
    while (syscall(SYS_tgkill, (int)syscall(SYS_getpid), thread, 0) == 0)
        ;
}

/* Works while its parent waits: they have one thread's variables. */
static int share(void *unused)
{
    (void)unused;
    await(may_work);
    if (has_threads)
        have_a_thread_end();
    sharer_holds();
    tell(has_worked);
    await(may_end);
    _exit(0);
}

static pid_t make_sharer(void)
{
    pid_t sharer = clone(share, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    if (sharer < 0)
        _exit(95);
    return sharer;
}

static void children_for_a_moment(void)
{
    char *arguments[] = {(char *)"true", NULL};
    for (int i = 0; i < 50; i++) {
        pid_t child;
        if (posix_spawnp(&child, "true", NULL, NULL, arguments, environ) != 0)
            _exit(94);
        waitpid(child, NULL, 0);
        child = vfork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
        if (system("exit 3") == -1)
            _exit(93);
    }
}

int main(int count, char **arguments)
{
    const char *when = count > 1 ? arguments[1] : "after";
    if (pipe(may_work) != 0 || pipe(has_worked) != 0 || pipe(may_end) != 0)
        _exit(90);
    pid_t sharer = strcmp(when, "before") == 0 ? make_sharer() : 0;
    begin();
    has_threads = strcmp(when, "threads") == 0;
    if (strcmp(when, "after") == 0 || has_threads)
        sharer = make_sharer();
    if (sharer != 0) {
        tell(may_work);
        await(has_worked);
        truth_number("sharer", sharer);
        truth_number("sharer_bytes", 2 * BLOCKS * BYTES);
        truth_number("sharer_count", 2 * BLOCKS);
    } else {
        children_for_a_moment();
    }
    parent_holds();
    truth_site("parent_holds", BLOCKS * BYTES, BLOCKS);
    finish();
    if (sharer != 0) {
        tell(may_end);
        waitpid(sharer, NULL, 0);
    }
}
