/* Preloaded into leaktrace: from the time on when the file is there that FAILS_WHEN names, the kernel refuses
 * to list the entries of BPF maps. */
#include "protocol.h"
#include <sys/syscall.h>

enum { GET_NEXT_KEY = 4, LOOKUP_BATCH = 24, LOOKUP_AND_DELETE_BATCH = 25 };

static int is_listing(long number, long command)
{
    return number == SYS_bpf
        && (command == GET_NEXT_KEY || command == LOOKUP_BATCH || command == LOOKUP_AND_DELETE_BATCH);
}

long syscall(long number, ...)
{
    long words[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        words[i] = va_arg(arguments, long);
    va_end(arguments);
    const char *when = getenv("FAILS_WHEN");
    if (when && is_listing(number, words[0]) && access(when, F_OK) == 0) {
        errno = EPERM;
        return -1;
    }
    register long fourth __asm__("r10") = words[3];
    register long fifth __asm__("r8") = words[4];
    register long sixth __asm__("r9") = words[5];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(words[0]), "S"(words[1]), "d"(words[2]), "r"(fourth), "r"(fifth),
                       "r"(sixth)
                     : "rcx", "r11", "memory");
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}
