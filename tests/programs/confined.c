/* Under seccomp, where a system call that is not on the list kills. Argument: "filter" allows what an
 * allocator needs, "strict" nothing but read, write and the end of the thread, "late" is "filter"
 * from the first line of input on. */
#include "protocol.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { ROUNDS = 2000, LEAKS = 40, LEAK_BYTES = 700 };

NOINLINE static void leak_under_seccomp(void)
{
    keep(malloc(LEAK_BYTES));
}

static unsigned long allocate(int with_mappings)
{
    unsigned long sum = 0;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned char *block = malloc((size_t)i + 1);
        memset(block, i & 255, (size_t)i + 1);
        block = realloc(block, (size_t)i * 2 + 2);
        sum = sum * 31 + block[i / 2];
        free(block);
        free(calloc(7, (size_t)i % 50 + 1));
        void *aligned = NULL;
        sum += (unsigned long)posix_memalign(&aligned, 64, 100);
        free(aligned);
        if (i < LEAKS)
            leak_under_seccomp();
        if (with_mappings && i % 100 == 0) {
            void *mapping = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            munmap(mapping, 8192);
        }
    }
    return sum;
}

#define ALLOW(call)                                            \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1),     \
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void confine(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read), ALLOW(write), ALLOW(brk), ALLOW(mmap), ALLOW(munmap), ALLOW(getpid), ALLOW(getrandom),
        ALLOW(exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(96);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "filter";
    int strict = strcmp(how, "strict") == 0;
    if (strict) {
        /* All memory that it will need is in the heap already. */
#ifdef __GLIBC__
        mallopt(M_MMAP_THRESHOLD, 1 << 24);
        mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
        free(malloc(1 << 22));
        say("ready %d\n", (int)getpid());
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        wait_line();
    } else {
        if (strcmp(how, "filter") == 0)
            confine();
        begin();
        if (strcmp(how, "late") == 0)
            confine();
    }
    say("sum %lu\n", allocate(!strict));
    truth_site("leak_under_seccomp", LEAKS * LEAK_BYTES, LEAKS);
    truth_number("live_bytes", LEAKS * LEAK_BYTES);
    truth_number("live_count", LEAKS);
    finish();
    syscall(strict ? SYS_exit : SYS_exit_group, 42);
}
