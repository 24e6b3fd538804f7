/* Leaks 30,000 bytes and then ends in the way that its argument names:
 * return, exit, _exit, abort, segv, main_thread_first, other_thread_exits. */
#include "protocol.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

NOINLINE static void leak_before_end(void)
{
    for (int i = 0; i < 30; i++)
        keep(malloc(1000));
}

static void *exit_later(void *main_thread)
{
    if (main_thread)
        pthread_join(*(pthread_t *)main_thread, NULL);
    exit(5);
}

static pthread_t main_thread;

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "return";
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    begin();
    leak_before_end();
    truth_site("leak_before_end", 30000, 30);
    finish();
    pthread_t thread;
    if (strcmp(how, "exit") == 0)
        exit(3);
    if (strcmp(how, "_exit") == 0)
        _exit(7);
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "segv") == 0)
        raise(SIGSEGV);
    if (strcmp(how, "main_thread_first") == 0) {
        main_thread = pthread_self();
        pthread_create(&thread, NULL, exit_later, &main_thread);
        pthread_exit(NULL);
    }
    if (strcmp(how, "other_thread_exits") == 0) {
        pthread_create(&thread, NULL, exit_later, NULL);
        for (;;)
            pause();
    }
    return 0;
}
