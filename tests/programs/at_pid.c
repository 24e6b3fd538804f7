/* Runs a program as a child with a process id that was another's before, and says how it ended.
 * usage: at_pid PID PROGRAM [ARGUMENT]... */
#include "protocol.h"
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(int count, char **arguments)
{
    if (count < 3)
        return 2;
    pid_t wanted = atoi(arguments[1]);
    struct clone_args how = {
        .exit_signal = SIGCHLD,
        .set_tid = (uint64_t)(uintptr_t)&wanted,
        .set_tid_size = 1,
    };
    long child = syscall(SYS_clone3, &how, sizeof how);
    if (child < 0)
        return 3;
    if (child == 0) {
        execv(arguments[2], arguments + 2);
        _exit(127);
    }
    int status;
    waitpid((pid_t)child, &status, 0);
    return child == wanted && WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}
