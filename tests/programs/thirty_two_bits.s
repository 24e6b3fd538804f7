# A 32-bit program. Waits for end of file.
    .globl _start
    .text
_start:
    mov $3, %eax
    xor %ebx, %ebx
    lea byte, %ecx
    mov $1, %edx
    int $0x80
    test %eax, %eax
    jg _start
    mov $1, %eax
    xor %ebx, %ebx
    int $0x80
    .bss
byte:
    .byte 0
    .section .note.GNU-stack,"",@progbits
