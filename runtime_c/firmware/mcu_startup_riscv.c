/* Start-up for RV32I and RV32E in machine mode: stack, trap vector, memory, main.
 * Source: RISC-V Privileged Architecture, version 1.10, sections 3.1.12 (mtvec), 3.1.19 (mepc), 3.1.20
 * (mcause).
 */
#include "mcu_startup.h"

/* The entry stands first in flash. A trap takes the whole stack (an overflow is one of its causes) and
 * reports itself over the link. Registers x16 and above are not used: RV32E has none.
 */
__asm__(".section .text.mcu_entry, \"ax\"\n"
        ".globl mcu_entry\n"
        ".type mcu_entry, @function\n"
        "mcu_entry:\n"
        "    la sp, mcu_stack_top\n"
        "    la a0, mcu_trap\n"
        "    csrw mtvec, a0\n"
        "    j mcu_start\n"
        ".size mcu_entry, . - mcu_entry\n"
        ".balign 4\n"
        ".globl mcu_trap\n"
        ".type mcu_trap, @function\n"
        "mcu_trap:\n"
        "    la sp, mcu_stack_top\n"
        "    csrr a0, mcause\n"
        "    csrr a1, mepc\n"
        "    j mcu_link_fault\n"
        ".size mcu_trap, . - mcu_trap\n"
        ".text\n");

void mcu_start(void);

void mcu_start(void)
{
    mcu_startup_memory();
    main();
    for (;;) {
    }
}
