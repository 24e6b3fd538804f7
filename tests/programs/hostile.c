/* A program whose owner wants to harm whoever names its stacks. First argument:
 * "junk": maps the files behind it as code, and calls malloc as if from each of them;
 * "truncate": loads the library behind it and leaks through it; told once more, it truncates the library
 * and calls malloc as if from it, at a place that was never looked at. */
#include "protocol.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { LEAK_BYTES = 700, MAX_FILES = 64 };

static sigjmp_buf back;
static char *mapped[MAX_FILES];
static int files;
static long long leaks;

static void jump_back(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

/* malloc returns to `place`, which cannot be executed. */
NOINLINE static void call_malloc_from(void *place)
{
    leaks++;
    if (sigsetjmp(back, 1))
        return;
    __asm__ volatile("andq $-16, %%rsp\n\t"
                     "pushq %0\n\t"
                     "jmpq *%1"
                     :
                     : "r"(place), "r"(malloc), "D"((size_t)LEAK_BYTES)
                     : "memory");
    __builtin_unreachable();
}

static void tell(void)
{
    truth_number("live_bytes", leaks * LEAK_BYTES);
    truth_number("live_count", leaks);
    truth_number("allocated_count", leaks);
}

static void map_as_code(const char *path)
{
    int fd = open(path, O_RDONLY);
    void *mapping = mmap(NULL, 1 << 16, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (fd < 0 || mapping == MAP_FAILED || files == MAX_FILES)
        _exit(96);
    close(fd);
    mapped[files++] = mapping;
}

static void allocate_from_junk(void)
{
    begin();
    for (int i = 0; i < files; i++)
        mprotect(mapped[i], 1 << 16, PROT_READ);
    for (int offset = 0x40; offset < 1 << 14; offset += 0x7f0)
        for (int i = 0; i < files; i++)
            call_malloc_from(mapped[i] + offset);
    tell();
    finish();
}

static void truncate_what_is_named(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        _exit(95);
    void (*leak)(size_t) = (void (*)(size_t))dlsym(library, "leak_in_the_plugin");
    begin();
    leak(LEAK_BYTES);
    leaks++;
    tell();
    finish();
    if (truncate(path, 0))
        _exit(94);
    call_malloc_from((char *)leak + 1);
    tell();
    finish();
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 1;
    struct sigaction action = {.sa_handler = jump_back, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (strcmp(argv[1], "truncate") == 0) {
        truncate_what_is_named(argv[2]);
    } else {
        for (int i = 2; i < argc; i++)
            map_as_code(argv[i]);
        allocate_from_junk();
    }
    _exit(42);
}
