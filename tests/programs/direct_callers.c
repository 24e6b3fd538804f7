/* Built without frame pointers: whatever becomes of the rest of the stack, each caller of an
 * allocation function is to be seen, from a plain call, from code that uses rbp for data, and from
 * a frame of variable size. */
#include "protocol.h"

enum { BLOCKS = 7 };

NOINLINE static void plain_caller(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(111));
}

NOINLINE static void caller_with_data_in_rbp(void)
{
    for (int i = 0; i < BLOCKS; i++) {
        void *block;
        /* rbp holds a number while malloc runs. */
        __asm__ volatile("push %%rbp\n\t"
                         "mov %%rsp, %%rbx\n\t"
                         "and $-16, %%rsp\n\t"
                         "mov $0x1234567, %%rbp\n\t"
                         "mov $222, %%edi\n\t"
                         "call malloc@PLT\n\t"
                         "mov %%rbx, %%rsp\n\t"
                         "pop %%rbp"
                         : "=a"(block)
                         :
                         : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
        keep(block);
    }
}

NOINLINE static void caller_with_variable_frame(int size)
{
    char room[size];
    room[0] = 1;
    keep(room);
    for (int i = 0; i < BLOCKS; i++)
        keep(malloc(333));
    keep(room);
}

int main(int argc, char **argv)
{
    keep(argv);
    begin();
    plain_caller();
    caller_with_data_in_rbp();
    caller_with_variable_frame(100 * argc);
    truth_site("plain_caller", BLOCKS * 111, BLOCKS);
    truth_site("caller_with_data_in_rbp", BLOCKS * 222, BLOCKS);
    truth_site("caller_with_variable_frame", BLOCKS * 333, BLOCKS);
    truth_number("live_bytes", BLOCKS * 666);
    truth_number("live_count", 3 * BLOCKS);
    finish();
}
