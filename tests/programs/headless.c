/* Its main thread ends while another runs on, leaks, and loads a library that leaks, too. The kernel
 * shows nothing of such a process under its own number. Its argument is the library. */
#include "protocol.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>

enum { LEAKS = 50, LEAK_BYTES = 800 };

static const char *library;

NOINLINE static void leak_without_a_main_thread(void)
{
    keep(malloc(LEAK_BYTES));
}

static void wait_until_the_main_thread_is_gone(void)
{
    char path[64], stat[256];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)getpid());
    for (;;) {
        int fd = open(path, O_RDONLY);
        ssize_t length = read(fd, stat, sizeof stat - 1);
        close(fd);
        if (length <= 0)
            _exit(93);
        stat[length] = 0;
        if (strstr(stat, ") Z"))
            return;
    }
}

static void *run_on(void *argument)
{
    wait_until_the_main_thread_is_gone();
    void *loaded = dlopen(library, RTLD_NOW);
    if (!loaded)
        _exit(95);
    void (*leak)(size_t) = (void (*)(size_t))dlsym(loaded, "leak_in_the_plugin");
    for (int i = 0; i < LEAKS; i++) {
        leak_without_a_main_thread();
        leak(LEAK_BYTES);
    }
    truth_site("leak_without_a_main_thread", LEAKS * LEAK_BYTES, LEAKS);
    truth_site("leak_in_the_plugin", LEAKS * LEAK_BYTES, LEAKS);
    finish();
    exit(5);
    return argument;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 1;
    library = argv[1];
    begin();
    pthread_t thread;
    pthread_create(&thread, NULL, run_on, NULL);
    pthread_exit(NULL);
}
