/* Start-up for Cortex-M: vector table, memory, main.
 * Source: Armv6-M Architecture Reference Manual, sections B1.5.3 (vector table) and B1.5.6 (exception entry:
 * the return address lies 24 bytes above the stack pointer); Armv7-M Architecture Reference Manual has them
 * alike.
 */
#include "mcu_startup.h"

/* Interrupts stay off, so the table ends with the core's own exceptions, and all of them are faults. A fault
 * takes the whole stack (an overflow is one of its causes: then there is no frame to read) and reports its
 * exception number and the address where it happened over the link.
 */
__asm__(".syntax unified\n"
        ".section .mcu_vectors, \"a\"\n"
        ".balign 4\n"
        ".globl mcu_vectors\n"
        ".type mcu_vectors, %object\n"
        "mcu_vectors:\n"
        ".word mcu_stack_top\n"
        ".word mcu_entry\n"
        ".rept 14\n"
        ".word mcu_trap\n"
        ".endr\n"
        ".size mcu_vectors, . - mcu_vectors\n"
        ".section .text.mcu_trap, \"ax\"\n"
        ".thumb\n"
        ".balign 4\n"
        ".globl mcu_trap\n"
        ".type mcu_trap, %function\n"
        ".thumb_func\n"
        "mcu_trap:\n"
        "    mrs r0, ipsr\n"
        "    movs r1, #0\n"
        "    ldr r2, =mcu_stack_bottom\n"
        "    cmp sp, r2\n"
        "    blo 1f\n"
        "    ldr r1, [sp, #24]\n"
        "1:  ldr r2, =mcu_stack_top\n"
        "    mov sp, r2\n"
        "    bl mcu_link_fault\n"
        ".ltorg\n"
        ".size mcu_trap, . - mcu_trap\n"
        ".text\n");

void mcu_entry(void);

/* The table's entry point: the core has loaded the stack pointer. */
__attribute__((used)) void mcu_entry(void)
{
    mcu_startup_memory();
    main();
    for (;;) {
    }
}
