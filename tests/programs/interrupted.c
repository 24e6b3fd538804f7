/* Is interrupted at the first instruction of a function, and allocates in the handler. */
#include "protocol.h"
#include <signal.h>
#include <ucontext.h>

enum { BLOCKS = 30, BLOCK_BYTES = 900, INSTRUCTION_BYTES = 2 };

void stands_before(void);
void is_interrupted(void);
__asm__(".text\n"
        ".type stands_before, @function\n"
        "stands_before:\n"
        ".cfi_startproc\n"
        ".fill 16, 1, 0x90\n"
        ".cfi_endproc\n"
        ".size stands_before, . - stands_before\n"
        ".globl is_interrupted\n"
        ".type is_interrupted, @function\n"
        "is_interrupted:\n"
        ".cfi_startproc\n"
        "ud2\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size is_interrupted, . - is_interrupted\n");

static long long interrupted_at;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    interrupted_at = *rip;
    keep(malloc(BLOCK_BYTES));
    *rip += INSTRUCTION_BYTES;
}

int main(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = on_signal};
    sigaction(SIGILL, &action, NULL);
    begin();
    for (int i = 0; i < BLOCKS; i++)
        is_interrupted();
    truth_site("on_signal", (long long)BLOCKS * BLOCK_BYTES, BLOCKS);
    truth_number("interrupted_at", interrupted_at);
    finish();
    return 0;
}
