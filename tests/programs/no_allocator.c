/* Built without a C library: there is no allocation function in it. Waits for end of file. */

static long system_call(long number, long first, void *second, long third)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third)
                     : "rcx", "r11", "memory");
    return result;
}

void _start(void)
{
    char byte;
    while (system_call(0, 0, &byte, 1) > 0)
        ;
    system_call(231, 0, 0, 0);
    __builtin_unreachable();
}
