/* Says which signals it gets, one after the other, and ends after as many as it is told. */
#include "protocol.h"
#include <signal.h>

int main(int count, char **arguments)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    say("ready %d\n", (int)getpid());
    for (int left = count > 1 ? atoi(arguments[1]) : 0; left > 0; left--) {
        siginfo_t info;
        while (sigwaitinfo(&all, &info) < 0)
            ;
        truth_number("signal", info.si_signo);
        say("done\n");
    }
    return 9;
}
