/* Sums of table rows in 16-bit lanes: two pixels in a word, up to 16 pixels at a time.
 *   row     words of a table; a lane never carries into its neighbour, because the compiler has proven that
 * no lane's sum exceeds 65535 (compiler/mcucompile/kernels/lanes.py) token   where a row begins, in bytes
 * from the start of the table One addition serves two pixels of every input that the row stands for. No
 * multiply. Compilers interleave the additions of several rows until they have too few registers, so each
 * core has functions of its own: eight rows in a turn, 18 (RISC-V) or 13 (Thumb) instructions for each row of
 * eight words.
 */
#ifndef MCU_LANES_H
#define MCU_LANES_H

#include "mcu_numerics.h"

#include <stdint.h>

/* Two values side by side; 0 <= low, high < 2^16. */
static inline uint32_t mcu_lanes_pair(uint32_t low, uint32_t high)
{
    return low | (high << 16);
}

/* A value that lies in the upper half of a word, so that either lane takes one load. */
typedef union {
    uint32_t upper;
    uint16_t halves[2];
} mcu_lanes_entry;

/* Two of them side by side. */
static inline uint32_t mcu_lanes_entries(const mcu_lanes_entry *low, const mcu_lanes_entry *high)
{
    return low->halves[1] | high->upper;
}

/* Lets no load from tables of entries go before an earlier store: compilers for RISC-V load ahead until they
 * have too few registers.
 */
#ifdef __riscv
#define MCU_LANES_IN_ORDER(low, high) __asm__ volatile("" : "+r"(low), "+r"(high) : : "memory")
#else
#define MCU_LANES_IN_ORDER(low, high) ((void)0)
#endif

/* The 15 sums of one or more of four words, the one of the set bits of n at to[(n - 1) * stride]. */
static inline void mcu_lanes_subsets(uint32_t *to, uint32_t stride, uint32_t a, uint32_t b, uint32_t c,
                                     uint32_t d)
{
    const uint32_t ab = a + b;
    const uint32_t cd = c + d;
    to[0] = a;
    to[stride] = b;
    to[2 * stride] = ab;
    to[3 * stride] = c;
    to[4 * stride] = a + c;
    to[5 * stride] = b + c;
    to[6 * stride] = ab + c;
    to[7 * stride] = d;
    to[8 * stride] = a + d;
    to[9 * stride] = b + d;
    to[10 * stride] = ab + d;
    to[11 * stride] = cd;
    to[12 * stride] = a + cd;
    to[13 * stride] = b + cd;
    to[14 * stride] = ab + cd;
}

/* uint16_t *mcu_lanes_add_rows_N(sums, table, token): adds rows of N words, 4 or 8, to N sums. token points
 * at the number of rows, then at them. Returns where they end.
 */
#if defined(__riscv)
#define MCU_LANES_FUNCTION(words, load, row, store)                                                          \
    __asm__(".section .text.mcu_lanes_add_rows_" words ",\"ax\",%progbits\n"                                 \
            ".align 2\n"                                                                                     \
            ".type mcu_lanes_add_rows_" words ",%function\n"                                                 \
            "mcu_lanes_add_rows_" words ":\n"                                                                \
            "addi sp, sp, -32\n"                                                                             \
            "sw ra, 28(sp)\n"                                                                                \
            "sw s0, 24(sp)\n"                                                                                \
            "sw s1, 20(sp)\n"                                                                                \
            "sw a0, 16(sp)\n"                                                                                \
            "lhu a5, 0(a2)\n"                                                                                \
            "addi a2, a2, 2\n"                                                                               \
            "slli a5, a5, 1\n"                                                                               \
            "andi a4, a5, -16\n"                                                                             \
            "add a5, a5, a2\n"                                                                               \
            "add a4, a4, a2\n"                                                                               \
            "sw a5, 12(sp)\n"                                                                                \
            "sw a4, 8(sp)\n"                                                                                 \
            "mv ra, a4\n" load "beq a2, ra, 2f\n"                                                            \
            "1:\n" row("0") row("2") row("4") row("6") row("8") row("10") row("12")                          \
                row("14") "addi a2, a2, 16\n"                                                                \
                          "lw ra, 8(sp)\n"                                                                   \
                          "bne a2, ra, 1b\n"                                                                 \
                          "2:\n"                                                                             \
                          "lw ra, 12(sp)\n"                                                                  \
                          "beq a2, ra, 4f\n"                                                                 \
                          "3:\n" row("0") "addi a2, a2, 2\n"                                                 \
                                          "lw ra, 12(sp)\n"                                                  \
                                          "bne a2, ra, 3b\n"                                                 \
                                          "4:\n"                                                             \
                                          "lw a0, 16(sp)\n" store "mv a0, a2\n"                              \
                                          "lw ra, 28(sp)\n"                                                  \
                                          "lw s0, 24(sp)\n"                                                  \
                                          "lw s1, 20(sp)\n"                                                  \
                                          "addi sp, sp, 32\n"                                                \
                                          "ret\n"                                                            \
                                          ".size mcu_lanes_add_rows_" words ", .-mcu_lanes_add_rows_" words  \
                                          "\n"                                                               \
                                          ".text\n")
#define MCU_LANES_ROW_4(at)                                                                                  \
    "lhu a0, " at "(a2)\n"                                                                                   \
    "add a0, a0, a1\n"                                                                                       \
    "lw ra, 0(a0)\n"                                                                                         \
    "add s0, s0, ra\n"                                                                                       \
    "lw ra, 4(a0)\n"                                                                                         \
    "add s1, s1, ra\n"                                                                                       \
    "lw ra, 8(a0)\n"                                                                                         \
    "add a3, a3, ra\n"                                                                                       \
    "lw ra, 12(a0)\n"                                                                                        \
    "add a4, a4, ra\n"
#define MCU_LANES_ROW_8(at)                                                                                  \
    MCU_LANES_ROW_4(at)                                                                                      \
    "lw ra, 16(a0)\n"                                                                                        \
    "add a5, a5, ra\n"                                                                                       \
    "lw ra, 20(a0)\n"                                                                                        \
    "add t0, t0, ra\n"                                                                                       \
    "lw ra, 24(a0)\n"                                                                                        \
    "add t1, t1, ra\n"                                                                                       \
    "lw ra, 28(a0)\n"                                                                                        \
    "add t2, t2, ra\n"
#define MCU_LANES_MOVE_4(op) op " s0, 0(a0)\n" op " s1, 4(a0)\n" op " a3, 8(a0)\n" op " a4, 12(a0)\n"
#define MCU_LANES_MOVE_8(op)                                                                                 \
    MCU_LANES_MOVE_4(op) op " a5, 16(a0)\n" op " t0, 20(a0)\n" op " t1, 24(a0)\n" op " t2, 28(a0)\n"
MCU_LANES_FUNCTION("4", MCU_LANES_MOVE_4("lw"), MCU_LANES_ROW_4, MCU_LANES_MOVE_4("sw"));
MCU_LANES_FUNCTION("8", MCU_LANES_MOVE_8("lw"), MCU_LANES_ROW_8, MCU_LANES_MOVE_8("sw"));
#define MCU_LANES_IS_ASSEMBLER

#elif defined(__thumb__)
/* Thumb of Armv6-M adds to high registers, but loads and stores low ones only. */
#define MCU_LANES_FUNCTION(words, load, row, store)                                                          \
    __asm__(".syntax unified\n"                                                                              \
            ".section .text.mcu_lanes_add_rows_" words ",\"ax\",%progbits\n"                                 \
            ".balign 4\n"                                                                                    \
            ".thumb\n"                                                                                       \
            ".thumb_func\n"                                                                                  \
            ".type mcu_lanes_add_rows_" words ",%function\n"                                                 \
            "mcu_lanes_add_rows_" words ":\n"                                                                \
            "push {r4, r5, r6, r7, lr}\n"                                                                    \
            "mov r4, r8\n"                                                                                   \
            "mov r5, r9\n"                                                                                   \
            "mov r6, r10\n"                                                                                  \
            "mov r7, r11\n"                                                                                  \
            "push {r4, r5, r6, r7}\n"                                                                        \
            "sub sp, #12\n"                                                                                  \
            "str r0, [sp, #8]\n"                                                                             \
            "mov lr, r1\n"                                                                                   \
            "ldrh r3, [r2]\n"                                                                                \
            "adds r2, #2\n"                                                                                  \
            "lsls r3, r3, #1\n"                                                                              \
            "lsrs r4, r3, #4\n"                                                                              \
            "lsls r4, r4, #4\n"                                                                              \
            "adds r3, r3, r2\n"                                                                              \
            "adds r4, r4, r2\n"                                                                              \
            "str r3, [sp, #4]\n"                                                                             \
            "str r4, [sp]\n" load "ldr r3, [sp]\n"                                                           \
            "cmp r2, r3\n"                                                                                   \
            "beq 2f\n"                                                                                       \
            "1:\n" row("0") row("2") row("4") row("6") row("8") row("10") row("12")                          \
                row("14") "adds r2, #16\n"                                                                   \
                          "ldr r3, [sp]\n"                                                                   \
                          "cmp r2, r3\n"                                                                     \
                          "bne 1b\n"                                                                         \
                          "2:\n"                                                                             \
                          "ldr r3, [sp, #4]\n"                                                               \
                          "cmp r2, r3\n"                                                                     \
                          "beq 4f\n"                                                                         \
                          "3:\n" row("0") "adds r2, #2\n"                                                    \
                                          "ldr r3, [sp, #4]\n"                                               \
                                          "cmp r2, r3\n"                                                     \
                                          "bne 3b\n"                                                         \
                                          "4:\n"                                                             \
                                          "ldr r6, [sp, #8]\n" store "mov r0, r2\n"                          \
                                          "add sp, #12\n"                                                    \
                                          "pop {r4, r5, r6, r7}\n"                                           \
                                          "mov r8, r4\n"                                                     \
                                          "mov r9, r5\n"                                                     \
                                          "mov r10, r6\n"                                                    \
                                          "mov r11, r7\n"                                                    \
                                          "pop {r4, r5, r6, r7, pc}\n"                                       \
                                          ".size mcu_lanes_add_rows_" words ", .-mcu_lanes_add_rows_" words  \
                                          "\n"                                                               \
                                          ".text\n")
#define MCU_LANES_ROW_4(at)                                                                                  \
    "ldrh r6, [r2, #" at "]\n"                                                                               \
    "add r6, lr\n"                                                                                           \
    "ldm r6!, {r3, r4, r5}\n"                                                                                \
    "adds r0, r0, r3\n"                                                                                      \
    "adds r1, r1, r4\n"                                                                                      \
    "adds r7, r7, r5\n"                                                                                      \
    "ldr r3, [r6]\n"                                                                                         \
    "add r8, r3\n"
#define MCU_LANES_ROW_8(at)                                                                                  \
    "ldrh r6, [r2, #" at "]\n"                                                                               \
    "add r6, lr\n"                                                                                           \
    "ldm r6!, {r3, r4, r5}\n"                                                                                \
    "adds r0, r0, r3\n"                                                                                      \
    "adds r1, r1, r4\n"                                                                                      \
    "adds r7, r7, r5\n"                                                                                      \
    "ldm r6!, {r3, r4, r5}\n"                                                                                \
    "add r8, r3\n"                                                                                           \
    "add r9, r4\n"                                                                                           \
    "add r10, r5\n"                                                                                          \
    "ldm r6!, {r3, r4}\n"                                                                                    \
    "add r11, r3\n"                                                                                          \
    "add r12, r4\n"
#define MCU_LANES_LOAD_4                                                                                     \
    "mov r6, r0\n"                                                                                           \
    "ldm r6!, {r0, r1}\n"                                                                                    \
    "ldm r6!, {r3, r7}\n"                                                                                    \
    "mov r8, r7\n"                                                                                           \
    "mov r7, r3\n"
#define MCU_LANES_STORE_4                                                                                    \
    "stm r6!, {r0, r1, r7}\n"                                                                                \
    "mov r3, r8\n"                                                                                           \
    "str r3, [r6]\n"
#define MCU_LANES_LOAD_8                                                                                     \
    MCU_LANES_LOAD_4                                                                                         \
    "ldm r6!, {r3, r4, r5}\n"                                                                                \
    "mov r9, r3\n"                                                                                           \
    "mov r10, r4\n"                                                                                          \
    "mov r11, r5\n"                                                                                          \
    "ldr r3, [r6]\n"                                                                                         \
    "mov r12, r3\n"
#define MCU_LANES_STORE_8                                                                                    \
    MCU_LANES_STORE_4                                                                                        \
    "mov r3, r9\n"                                                                                           \
    "mov r4, r10\n"                                                                                          \
    "mov r5, r11\n"                                                                                          \
    "mov r7, r12\n"                                                                                          \
    "adds r6, #4\n"                                                                                          \
    "stm r6!, {r3, r4, r5, r7}\n"
MCU_LANES_FUNCTION("4", MCU_LANES_LOAD_4, MCU_LANES_ROW_4, MCU_LANES_STORE_4);
MCU_LANES_FUNCTION("8", MCU_LANES_LOAD_8, MCU_LANES_ROW_8, MCU_LANES_STORE_8);
#define MCU_LANES_IS_ASSEMBLER
#endif

#ifdef MCU_LANES_IS_ASSEMBLER
const uint16_t *mcu_lanes_add_rows_4(uint32_t *sums, const uint32_t *table, const uint16_t *token);
const uint16_t *mcu_lanes_add_rows_8(uint32_t *sums, const uint32_t *table, const uint16_t *token);
#else
static inline const uint16_t *mcu_lanes_add_rows(uint32_t *sums, const uint32_t *table, const uint16_t *token,
                                                 uint32_t words)
{
    for (uint32_t count = *token++; count > 0; --count) {
        const uint32_t *row = table + (*token++ >> 2);
        for (uint32_t i = 0; i < words; ++i) {
            sums[i] += row[i];
        }
    }
    return token;
}

static inline const uint16_t *mcu_lanes_add_rows_4(uint32_t *sums, const uint32_t *table,
                                                   const uint16_t *token)
{
    return mcu_lanes_add_rows(sums, table, token, 4);
}

static inline const uint16_t *mcu_lanes_add_rows_8(uint32_t *sums, const uint32_t *table,
                                                   const uint16_t *token)
{
    return mcu_lanes_add_rows(sums, table, token, 8);
}
#endif

#endif
