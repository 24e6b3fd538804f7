/* Starts other programs in every way there is, and allocates between. */
#include "protocol.h"
#include <spawn.h>
#include <sys/wait.h>

enum { ROUNDS = 25, LEAK_BYTES = 800 };

extern char **environ;

NOINLINE static void leak_between(void)
{
    keep(malloc(LEAK_BYTES));
}

static int status_of(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static int by_vfork(int code)
{
    char command[32];
    snprintf(command, sizeof command, "exit %d", code);
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return status_of(child);
}

static int by_posix_spawn(int code)
{
    char command[32];
    snprintf(command, sizeof command, "exit %d", code);
    char *arguments[] = {"sh", "-c", command, NULL};
    pid_t child;
    if (posix_spawnp(&child, "sh", NULL, NULL, arguments, environ))
        return -1;
    return status_of(child);
}

static int by_popen(int code)
{
    char command[64], line[32];
    snprintf(command, sizeof command, "echo popen %d; exit %d", code, code);
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(line, sizeof line, pipe))
        return -1;
    say("%s", line);
    return pclose(pipe);
}

static int by_fork(int code)
{
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 200; i++)
            free(malloc((size_t)i));
        keep(malloc(5000));
        _exit(code);
    }
    return status_of(child);
}

int main(void)
{
    begin();
    for (int i = 0; i < ROUNDS; i++) {
        char command[32];
        snprintf(command, sizeof command, "exit %d", i);
        leak_between();
        int spawned = by_posix_spawn(i);
        leak_between();
        say("%x %x %x %x %x\n", by_vfork(i), spawned, system(command), by_popen(i), by_fork(i));
        leak_between();
    }
    truth_site("leak_between", 3 * ROUNDS * LEAK_BYTES, 3 * ROUNDS);
    truth_number("live_bytes", 3 * ROUNDS * LEAK_BYTES);
    truth_number("live_count", 3 * ROUNDS);
    finish();
    return 42;
}
