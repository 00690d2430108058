/* Start-up for WCH's QingKe V2 cores (CH32V003): stack, trap vector, memory, main.
 * Source: WCH QingKe V2 Microprocessor Manual, section 2.2: with the two low bits of mtvec 0, all exceptions
 * enter at its address, which must be a multiple of 1 KiB. The start of flash is one, so reset and traps
 * enter alike and mcause tells them apart: it is 0 after a reset, and its trap 0 (a misaligned jump) cannot
 * happen with compressed instructions.
 */
#include "mcu_startup.h"

__asm__(".section .text.mcu_entry, \"ax\"\n"
        ".globl mcu_entry\n"
        ".type mcu_entry, @function\n"
        "mcu_entry:\n"
        "    la sp, mcu_stack_top\n"
        "    csrr a0, mcause\n"
        "    bnez a0, 1f\n"
        "    la a0, mcu_entry\n"
        "    csrw mtvec, a0\n"
        "    j mcu_start\n"
        "1:  csrr a1, mepc\n"
        "    j mcu_link_fault\n"
        ".size mcu_entry, . - mcu_entry\n"
        ".text\n");

void mcu_start(void);

void mcu_start(void)
{
    mcu_startup_memory();
    main();
    for (;;) {
    }
}
