/* Maps code by itself, without the dynamic linker, and then other code at the same place. Both are pages of
 * this very program. With an argument, a child does what comes after the first code. */
#include "protocol.h"
#include <sys/mman.h>
#include <sys/wait.h>

enum { OF_ONE = 40, OF_OTHER = 30, BLOCK_BYTES = 600, PAGE = 4096 };

typedef void *allocates(size_t, void *(*)(size_t));

extern const char __ehdr_start[];
allocates one_at_the_place, other_at_the_place;
__asm__(".text\n"
        ".p2align 12\n"
        ".globl one_at_the_place\n"
        ".type one_at_the_place, @function\n"
        "one_at_the_place:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        "call *%rsi\n"
        "pop %rbp\n"
        ".cfi_def_cfa_offset 8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size one_at_the_place, . - one_at_the_place\n"
        ".p2align 12\n"
        ".globl other_at_the_place\n"
        ".type other_at_the_place, @function\n"
        "other_at_the_place:\n"
        ".cfi_startproc\n"
        "sub $0x48, %rsp\n"
        ".cfi_def_cfa_offset 0x50\n"
        "call *%rsi\n"
        "add $0x48, %rsp\n"
        ".cfi_def_cfa_offset 8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size other_at_the_place, . - other_at_the_place\n"
        ".p2align 12\n");

static allocates *load(allocates *code, void *place)
{
    int file = open("/proc/self/exe", O_RDONLY);
    off_t in_file = (const char *)(uintptr_t)code - __ehdr_start;
    int flags = MAP_PRIVATE | (place ? MAP_FIXED : 0);
    void *mapped = mmap(place, PAGE, PROT_READ | PROT_EXEC, flags, file, in_file);
    if (mapped == MAP_FAILED || memcmp(mapped, (const void *)(uintptr_t)code, PAGE))
        _exit(95);
    close(file);
    return (allocates *)(uintptr_t)mapped;
}

int main(int count, char **arguments)
{
    (void)arguments;
    begin();
    allocates *code = load(one_at_the_place, NULL);
    for (int i = 0; i < OF_ONE; i++)
        keep(code(BLOCK_BYTES, malloc));
    truth_site("one_at_the_place", (long long)OF_ONE * BLOCK_BYTES, OF_ONE);
    say("done\n");
    if (!wait_line())
        _exit(94);
    if (count > 1 && fork() != 0)
        _exit(wait(NULL) < 0);
    load(other_at_the_place, (void *)(uintptr_t)code);
    say("done\n");
    if (!wait_line())
        _exit(94);
    for (int i = 0; i < OF_OTHER; i++)
        keep(code(BLOCK_BYTES, malloc));
    truth_site("other_at_the_place", (long long)OF_OTHER * BLOCK_BYTES, OF_OTHER);
    finish();
    return 0;
}
