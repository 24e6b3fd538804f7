/* A process that becomes several: forks, vforks, runs other programs, in the order of its arguments.
 * Each part allocates what it prints. Nothing waits for a tester between the steps, so that what is
 * not seen from the first allocation on is missed. */
#include "protocol.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

/* A macro: a function would be the caller of malloc, inlined or not. */
#define HOLD(count, bytes)              \
    for (int i = 0; i < (count); i++)   \
        keep(malloc((size_t)(bytes)))

/* Runs before main: a tracer that comes at main misses it. */
NOINLINE static void constructor_holds(void)
{
    HOLD(3, 111);
}

__attribute__((constructor)) static void before_main(void)
{
    if (getenv("LINEAGE_CONSTRUCTOR"))
        constructor_holds();
}

NOINLINE static void parent_holds(void)
{
    HOLD(10, 100);
}

NOINLINE static void child_holds(void)
{
    HOLD(7, 77);
}

NOINLINE static void grandchild_holds(void)
{
    HOLD(5, 55);
}

NOINLINE static void next_program_holds(void)
{
    HOLD(20, 500);
}

NOINLINE static void late_holds(void)
{
    HOLD(6, 66);
}

NOINLINE static void parent_holds_after_its_children(void)
{
    HOLD(9, 90);
}

static void await(pid_t child)
{
    int status;
    waitpid(child, &status, 0);
}

static void do_fork(void)
{
    pid_t child = fork();
    if (child == 0) {
        child_holds();
        pid_t grandchild = fork();
        if (grandchild == 0) {
            grandchild_holds();
            _exit(0);
        }
        await(grandchild);
        _exit(0);
    }
    await(child);
}

NOINLINE static void late_child_leaks(void)
{
    keep(malloc(10000));
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Leaks a block every 10 ms for 6 s, and tells its rate by its own clock. */
static void leak_evenly(void)
{
    enum { BLOCKS = 600 };
    long long begun = now_ns();
    for (long long block = 1; block <= BLOCKS; block++) {
        late_child_leaks();
        long long next = begun + block * 10000000;
        struct timespec until = {next / 1000000000, next % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    truth_number("child_bytes_per_s", BLOCKS * 10000LL * 1000000 / ((now_ns() - begun) / 1000));
}

/* Forks when the tester says so, long after it was attached to. */
static void fork_when_told(void)
{
    wait_line();
    pid_t child = fork();
    if (child == 0) {
        leak_evenly();
        _exit(0);
    }
    await(child);
}

static void do_spawn(const char *self)
{
    char *arguments[] = {(char *)self, (char *)"next", NULL};
    pid_t child;
    if (posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0)
        await(child);
}

static void *become_next(void *self)
{
    execl(self, self, "next", (char *)NULL);
    return NULL;
}

static void exec_by_thread(char *self)
{
    pthread_t thread;
    pthread_create(&thread, NULL, become_next, self);
    pthread_join(thread, NULL);
}

NOINLINE static void left_behind_holds(void)
{
    HOLD(8, 88);
}

/* A child in its parent's memory waits behind the gate; the parent executes a program meanwhile, which
 * opens it. */
static int gate[2], reached[2];
static char *self_path;

static void await_gate(void)
{
    char byte = 0;
    if (write(reached[1], &byte, 1) != 1 || read(gate[0], &byte, 1) != 1)
        _exit(97);
}

static void *vfork_and_wait(void *unused)
{
    if (vfork() == 0) {
        await_gate();
        execl(self_path, self_path, "left-behind", (char *)NULL);
        _exit(96);
    }
    return unused;
}

static int fork_behind_gate(void *unused)
{
    (void)unused;
    await_gate();
    /* Not the C library's: it would look after threads that are gone. */
    if (syscall(SYS_fork) == 0) {
        left_behind_holds();
        wait_line();
    }
    _exit(0);
}

static void exec_past(int by_clone)
{
    static char stack[256 * 1024] __attribute__((aligned(16)));
    char descriptor[16], byte;
    if (pipe(gate) != 0 || pipe(reached) != 0)
        _exit(95);
    if (by_clone) {
        clone(fork_behind_gate, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    } else {
        pthread_t thread;
        pthread_create(&thread, NULL, vfork_and_wait, NULL);
    }
    if (read(reached[0], &byte, 1) != 1)
        _exit(94);
    snprintf(descriptor, sizeof descriptor, "%d", gate[1]);
    execl(self_path, self_path, "open-gate", descriptor, (char *)NULL);
}

/* The child runs a program that it may not read. */
static void fork_guarded(char *program)
{
    pid_t child = fork();
    if (child == 0) {
        if (setgid(65534) == 0 && setuid(65534) == 0)
            execl(program, program, "next", (char *)NULL);
        _exit(92);
    }
    await(child);
}

int main(int count, char **arguments)
{
    self_path = arguments[0];
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "next") == 0) {
        next_program_holds();
        if (wait_line())
            late_holds();
        wait_line();
        return 4;
    }
    if (strcmp(what, "brief") == 0) {
        next_program_holds();
        return 6;
    }
    if (strcmp(what, "left-behind") == 0) {
        left_behind_holds();
        wait_line();
        return 3;
    }
    if (strcmp(what, "open-gate") == 0) {
        next_program_holds();
        if (write(atoi(arguments[2]), "", 1) != 1)
            return 93;
        wait_line();
        return 4;
    }
    if (getenv("LINEAGE_CONSTRUCTOR") == NULL)
        begin();
    parent_holds();
    if (strcmp(what, "fork") == 0) {
        do_fork();
        do_fork();
        parent_holds_after_its_children();
    }
    if (strcmp(what, "fork-late") == 0)
        fork_when_told();
    if (strcmp(what, "spawn") == 0)
        do_spawn(arguments[0]);
    if (strcmp(what, "exec") == 0)
        execl(arguments[0], arguments[0], "next", (char *)NULL);
    if (strcmp(what, "exec-other") == 0)
        execl(arguments[2], arguments[2], "next", (char *)NULL);
    if (strcmp(what, "fork-guarded") == 0)
        fork_guarded(arguments[2]);
    if (strcmp(what, "exec-brief") == 0)
        execl(arguments[2], arguments[2], "brief", (char *)NULL);
    if (strcmp(what, "exec-past-vfork") == 0 || strcmp(what, "exec-past-clone") == 0)
        exec_past(strcmp(what, "exec-past-clone") == 0);
    if (strcmp(what, "exec-by-thread") == 0)
        exec_by_thread(arguments[0]);
    if (getenv("LINEAGE_CONSTRUCTOR") == NULL) {
        say("done\n");
        wait_line();
    }
    return 5;
}
