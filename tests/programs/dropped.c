/* Built so that the linker drops a function that nobody calls. GNU ld leaves its description behind, at
 * address 0: where code without one lies among the first bytes of the program, it seems to be that function. */
#include "protocol.h"

enum { BLOCKS = 30, BLOCK_BYTES = 700 };

void dropped_by_the_linker(void)
{
    __asm__ volatile(".fill 65536, 1, 0x90");
}

void *allocates_through(void *(*allocate)(size_t), size_t bytes);
__asm__(".text\n"
        ".globl allocates_through\n"
        ".type allocates_through, @function\n"
        "allocates_through:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset 6, -16\n"
        "mov %rsp, %rbp\n"
        ".cfi_def_cfa_register 6\n"
        "mov %rdi, %rax\n"
        "mov %rsi, %rdi\n"
        "call *%rax\n"
        "pop %rbp\n"
        ".cfi_def_cfa 7, 8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size allocates_through, . - allocates_through\n");

int main(void)
{
    begin();
    for (int i = 0; i < BLOCKS; i++)
        keep(allocates_through(malloc, BLOCK_BYTES));
    truth_site("allocates_through", (long long)BLOCKS * BLOCK_BYTES, BLOCKS);
    finish();
    return 0;
}
