/* Sums of table rows in 16-bit lanes: two pixels in a word, up to 16 pixels at a time.
 *   row    words of a table. Words count modulo 2^32, so that a lane may be negative on the way; what leaves
 *          them has lanes of a range that the compiler has proven (compiler/mcucompile/kernels/lanes.py)
 *   token  what is done to as many words in registers, which begin as 0:
 *     0    adds eight rows; the next eight tokens say where each begins, in bytes from the table's start
 *     8 n  the same for n rows, 0 < n < 8
 *     64   doubles the words
 *     72   negates them
 *     80   stores them, and begins the next ones, which lie behind them, as 0
 *     88   adds them to what is there, and begins the next ones
 *     96   leaves out as many words
 *     104  stores them, and ends
 *     112  adds them to what is there, and ends
 * One addition serves two pixels of every input that the row stands for. No multiply.
 * Compilers interleave the additions of several rows until they have too few registers, so each core has
 * functions of its own: 18 (RISC-V) or 13 (Thumb) instructions for each row of eight words. There, a token is
 * how far to jump.
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

/* const uint16_t *mcu_lanes_run_N(sums, table, token): follows tokens with N words, 4 or 8, until one ends
 * it. Returns where the tokens end. Slots of eight bytes follow the jump; the proof of the stack finds them
 * by the symbols around them (compiler/mcucompile/targets/binary/stack.py).
 */
#if defined(__riscv)
/* op on each of the words, `(a0)` the memory of it. */
#define MCU_LANES_EACH_4(op) op("s0", "0") op("s1", "4") op("a3", "8") op("a4", "12")
#define MCU_LANES_EACH_8(op) MCU_LANES_EACH_4(op) op("a5", "16") op("t0", "20") op("t1", "24") op("t2", "28")
#define MCU_LANES_ROW(word, at) "lw ra, " at "(a0)\n add " word ", " word ", ra\n"
#define MCU_LANES_ZERO(word, at) "li " word ", 0\n"
#define MCU_LANES_DOUBLE(word, at) "add " word ", " word ", " word "\n"
#define MCU_LANES_NEGATE(word, at) "neg " word ", " word "\n"
#define MCU_LANES_STORE(word, at) "sw " word ", " at "(a0)\n"
#define MCU_LANES_ADD(word, at) MCU_LANES_ROW(word, at) MCU_LANES_STORE(word, at)
#define MCU_LANES_NEXT                                                                                       \
    "lhu a0, 0(a2)\n"                                                                                        \
    "lw ra, 12(sp)\n"                                                                                        \
    "addi a2, a2, 2\n"                                                                                       \
    "add a0, a0, ra\n"                                                                                       \
    "jr a0\n"
#define MCU_LANES_NAME(n) ".Lmcu_lanes_" n "_"
/* clang-format off */
#define MCU_LANES_FUNCTION(n, bytes, each)                                                        \
    __asm__(                                                                                      \
        ".section .text.mcu_lanes_run_" n ",\"ax\",%progbits\n"                                   \
        ".align 2\n"                                                                              \
        ".type mcu_lanes_run_" n ",%function\n"                                                   \
        "mcu_lanes_run_" n ":\n"                                                                  \
        "addi sp, sp, -32\n"                                                                      \
        "sw ra, 28(sp)\n"                                                                         \
        "sw s0, 24(sp)\n"                                                                         \
        "sw s1, 20(sp)\n"                                                                         \
        "sw a0, 16(sp)\n"                                                                         \
        "lla a0, " MCU_LANES_NAME(n) "slots\n"                                                    \
        "sw a0, 12(sp)\n"                                                                         \
        MCU_LANES_NAME(n) "start:\n"                                                              \
        each(MCU_LANES_ZERO)                                                                      \
        MCU_LANES_NAME(n) "next:\n"                                                               \
        MCU_LANES_NEXT                                                                            \
        ".irp at, 0, 2, 4, 6, 8, 10, 12, 14\n"                                                    \
        MCU_LANES_NAME(n) "row_\\at:\n"                                                           \
        "lhu a0, \\at(a2)\n"                                                                      \
        "add a0, a0, a1\n"                                                                        \
        each(MCU_LANES_ROW)                                                                       \
        ".endr\n"                                                                                 \
        "lhu a0, 16(a2)\n"                                                                        \
        "addi a2, a2, 18\n"                                                                       \
        "beqz a0, " MCU_LANES_NAME(n) "row_0\n"                                                   \
        "lw ra, 12(sp)\n"                                                                         \
        "add a0, a0, ra\n"                                                                        \
        "jr a0\n"                                                                                 \
        ".option push\n"                                                                          \
        ".option norvc\n"                                                                         \
        ".align 2\n"                                                                              \
        "mcu_lanes_run_" n "_slots:\n"                                                            \
        MCU_LANES_NAME(n) "slots:\n"                                                              \
        "j " MCU_LANES_NAME(n) "row_0\n"                                                          \
        "nop\n"                                                                                   \
        ".irp at, 14, 12, 10, 8, 6, 4, 2\n"                                                       \
        "addi a2, a2, -\\at\n"                                                                    \
        "j " MCU_LANES_NAME(n) "row_\\at\n"                                                       \
        ".endr\n"                                                                                 \
        ".irp op, double, negate\n"                                                               \
        "j " MCU_LANES_NAME(n) "\\op\n"                                                           \
        "nop\n"                                                                                   \
        ".endr\n"                                                                                 \
        ".irp op, store, add, skip, store_end, add_end\n"                                         \
        "lw a0, 16(sp)\n"                                                                         \
        "j " MCU_LANES_NAME(n) "\\op\n"                                                           \
        ".endr\n"                                                                                 \
        "mcu_lanes_run_" n "_slots_end:\n"                                                        \
        ".option pop\n"                                                                           \
        MCU_LANES_NAME(n) "double:\n"                                                             \
        each(MCU_LANES_DOUBLE)                                                                    \
        MCU_LANES_NEXT                                                                            \
        MCU_LANES_NAME(n) "negate:\n"                                                             \
        each(MCU_LANES_NEGATE)                                                                    \
        MCU_LANES_NEXT                                                                            \
        MCU_LANES_NAME(n) "store:\n"                                                              \
        each(MCU_LANES_STORE)                                                                     \
        MCU_LANES_NAME(n) "skip:\n"                                                               \
        "addi a0, a0, " bytes "\n"                                                                \
        "sw a0, 16(sp)\n"                                                                         \
        "j " MCU_LANES_NAME(n) "start\n"                                                          \
        MCU_LANES_NAME(n) "add:\n"                                                                \
        each(MCU_LANES_ADD)                                                                       \
        "j " MCU_LANES_NAME(n) "skip\n"                                                           \
        MCU_LANES_NAME(n) "add_end:\n"                                                            \
        each(MCU_LANES_ADD)                                                                       \
        "j " MCU_LANES_NAME(n) "end\n"                                                            \
        MCU_LANES_NAME(n) "store_end:\n"                                                          \
        each(MCU_LANES_STORE)                                                                     \
        MCU_LANES_NAME(n) "end:\n"                                                                \
        "mv a0, a2\n"                                                                             \
        "lw ra, 28(sp)\n"                                                                         \
        "lw s0, 24(sp)\n"                                                                         \
        "lw s1, 20(sp)\n"                                                                         \
        "addi sp, sp, 32\n"                                                                       \
        "ret\n"                                                                                   \
        ".size mcu_lanes_run_" n ", .-mcu_lanes_run_" n "\n"                                      \
        ".text\n")
/* clang-format on */
MCU_LANES_FUNCTION("4", "16", MCU_LANES_EACH_4);
MCU_LANES_FUNCTION("8", "32", MCU_LANES_EACH_8);
#define MCU_LANES_IS_ASSEMBLER

#elif defined(__thumb__)
/* Thumb of Armv6-M adds to high registers, but loads and stores low ones only. Each op: one on the words in
 * r0, r1, r7, one on a high one. r6: row; lr: table.
 */
#define MCU_LANES_EACH_4(low, high) low("r0", "0") low("r1", "4") low("r7", "8") high("r8", "12")
#define MCU_LANES_EACH_8(low, high)                                                                          \
    MCU_LANES_EACH_4(low, high) high("r9", "16") high("r10", "20") high("r11", "24") high("r12", "28")
#define MCU_LANES_ZERO_LOW(word, at) "movs " word ", #0\n"
#define MCU_LANES_ZERO_HIGH(word, at) "mov " word ", r0\n"
#define MCU_LANES_DOUBLE(word, at) "add " word ", " word "\n"
#define MCU_LANES_NEGATE_LOW(word, at) "rsbs " word ", " word ", #0\n"
#define MCU_LANES_NEGATE_HIGH(word, at) "mov r3, " word "\n rsbs r3, r3, #0\n mov " word ", r3\n"
#define MCU_LANES_STORE_LOW(word, at) "str " word ", [r6, #" at "]\n"
#define MCU_LANES_STORE_HIGH(word, at) "mov r3, " word "\n str r3, [r6, #" at "]\n"
#define MCU_LANES_ADD(word, at) "ldr r3, [r6, #" at "]\n add r3, " word "\n str r3, [r6, #" at "]\n"
#define MCU_LANES_ROW_4                                                                                      \
    "ldm r6!, {r3, r4, r5}\n"                                                                                \
    "adds r0, r0, r3\n"                                                                                      \
    "adds r1, r1, r4\n"                                                                                      \
    "adds r7, r7, r5\n"                                                                                      \
    "ldr r3, [r6]\n"                                                                                         \
    "add r8, r3\n"
#define MCU_LANES_ROW_8                                                                                      \
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
#define MCU_LANES_NAME(n) ".Lmcu_lanes_" n "_"
/* clang-format off */
#define MCU_LANES_FUNCTION(n, bytes, each, row)                                                   \
    __asm__(                                                                                      \
        ".syntax unified\n"                                                                       \
        ".section .text.mcu_lanes_run_" n ",\"ax\",%progbits\n"                                   \
        ".balign 4\n"                                                                             \
        ".thumb\n"                                                                                \
        ".thumb_func\n"                                                                           \
        ".type mcu_lanes_run_" n ",%function\n"                                                   \
        "mcu_lanes_run_" n ":\n"                                                                  \
        "push {r4, r5, r6, r7, lr}\n"                                                             \
        "mov r4, r8\n"                                                                            \
        "mov r5, r9\n"                                                                            \
        "mov r6, r10\n"                                                                           \
        "mov r7, r11\n"                                                                           \
        "push {r4, r5, r6, r7}\n"                                                                 \
        "sub sp, #4\n"                                                                            \
        "mov r6, r0\n"                                                                            \
        "mov lr, r1\n"                                                                            \
        MCU_LANES_NAME(n) "start:\n"                                                              \
        "str r6, [sp]\n"                                                                          \
        each(MCU_LANES_ZERO_LOW, MCU_LANES_ZERO_HIGH)                                             \
        MCU_LANES_NAME(n) "next:\n"                                                               \
        "ldrh r3, [r2]\n"                                                                         \
        "adds r2, #2\n"                                                                           \
        "b " MCU_LANES_NAME(n) "jump\n"                                                           \
        ".irp at, 0, 2, 4, 6, 8, 10, 12, 14\n"                                                    \
        MCU_LANES_NAME(n) "row_\\at:\n"                                                           \
        "ldrh r6, [r2, #\\at]\n"                                                                  \
        "add r6, lr\n"                                                                            \
        row                                                                                       \
        ".endr\n"                                                                                 \
        "ldrh r3, [r2, #16]\n"                                                                    \
        "adds r2, #18\n"                                                                          \
        MCU_LANES_NAME(n) "jump:\n"                                                               \
        "add pc, r3\n"                                                                            \
        "nop\n"                                                                                   \
        "mcu_lanes_run_" n "_slots:\n"                                                            \
        "b " MCU_LANES_NAME(n) "row_0\n"                                                          \
        "nop\n"                                                                                   \
        "nop\n"                                                                                   \
        "nop\n"                                                                                   \
        ".irp at, 14, 12, 10, 8, 6, 4, 2\n"                                                       \
        "subs r2, #\\at\n"                                                                        \
        "b " MCU_LANES_NAME(n) "row_\\at\n"                                                       \
        "nop\n"                                                                                   \
        "nop\n"                                                                                   \
        ".endr\n"                                                                                 \
        ".irp op, double, negate\n"                                                               \
        "b " MCU_LANES_NAME(n) "\\op\n"                                                           \
        "nop\n"                                                                                   \
        "nop\n"                                                                                   \
        "nop\n"                                                                                   \
        ".endr\n"                                                                                 \
        ".irp op, store, add, skip, store_end, add_end\n"                                         \
        "ldr r6, [sp]\n"                                                                          \
        "b " MCU_LANES_NAME(n) "\\op\n"                                                           \
        "nop\n"                                                                                   \
        "nop\n"                                                                                   \
        ".endr\n"                                                                                 \
        "mcu_lanes_run_" n "_slots_end:\n"                                                        \
        MCU_LANES_NAME(n) "double:\n"                                                             \
        each(MCU_LANES_DOUBLE, MCU_LANES_DOUBLE)                                                  \
        "b " MCU_LANES_NAME(n) "next\n"                                                           \
        MCU_LANES_NAME(n) "negate:\n"                                                             \
        each(MCU_LANES_NEGATE_LOW, MCU_LANES_NEGATE_HIGH)                                         \
        "b " MCU_LANES_NAME(n) "next\n"                                                           \
        MCU_LANES_NAME(n) "store:\n"                                                              \
        each(MCU_LANES_STORE_LOW, MCU_LANES_STORE_HIGH)                                           \
        MCU_LANES_NAME(n) "skip:\n"                                                               \
        "adds r6, #" bytes "\n"                                                                   \
        "b " MCU_LANES_NAME(n) "start\n"                                                          \
        MCU_LANES_NAME(n) "add:\n"                                                                \
        each(MCU_LANES_ADD, MCU_LANES_ADD)                                                        \
        "b " MCU_LANES_NAME(n) "skip\n"                                                           \
        MCU_LANES_NAME(n) "add_end:\n"                                                            \
        each(MCU_LANES_ADD, MCU_LANES_ADD)                                                        \
        "b " MCU_LANES_NAME(n) "end\n"                                                            \
        MCU_LANES_NAME(n) "store_end:\n"                                                          \
        each(MCU_LANES_STORE_LOW, MCU_LANES_STORE_HIGH)                                           \
        MCU_LANES_NAME(n) "end:\n"                                                                \
        "mov r0, r2\n"                                                                            \
        "add sp, #4\n"                                                                            \
        "pop {r4, r5, r6, r7}\n"                                                                  \
        "mov r8, r4\n"                                                                            \
        "mov r9, r5\n"                                                                            \
        "mov r10, r6\n"                                                                           \
        "mov r11, r7\n"                                                                           \
        "pop {r4, r5, r6, r7, pc}\n"                                                              \
        ".size mcu_lanes_run_" n ", .-mcu_lanes_run_" n "\n"                                      \
        ".text\n")
/* clang-format on */
MCU_LANES_FUNCTION("4", "16", MCU_LANES_EACH_4, MCU_LANES_ROW_4);
MCU_LANES_FUNCTION("8", "32", MCU_LANES_EACH_8, MCU_LANES_ROW_8);
#define MCU_LANES_IS_ASSEMBLER
#endif

#ifdef MCU_LANES_IS_ASSEMBLER
const uint16_t *mcu_lanes_run_4(uint32_t *sums, const uint32_t *table, const uint16_t *token);
const uint16_t *mcu_lanes_run_8(uint32_t *sums, const uint32_t *table, const uint16_t *token);
#else
#define MCU_LANES_ROWS 8U
#define MCU_LANES_DOUBLE 64U
#define MCU_LANES_NEGATE 72U
#define MCU_LANES_ADD 88U
#define MCU_LANES_SKIP 96U
#define MCU_LANES_STORE_END 104U
#define MCU_LANES_ADD_END 112U

static inline const uint16_t *mcu_lanes_run(uint32_t *sums, const uint32_t *table, const uint16_t *token,
                                            uint32_t words)
{
    uint32_t sum[8] = {0};
    for (;;) {
        const uint32_t op = *token++;
        if (op < MCU_LANES_DOUBLE) {
            for (uint32_t rows = op == 0 ? MCU_LANES_ROWS : op >> 3; rows > 0; --rows) {
                const uint32_t *row = table + (*token++ >> 2);
                for (uint32_t i = 0; i < words; ++i) {
                    sum[i] += row[i];
                }
            }
            continue;
        }
        for (uint32_t i = 0; i < words; ++i) {
            if (op == MCU_LANES_DOUBLE) {
                sum[i] += sum[i];
            } else if (op == MCU_LANES_NEGATE) {
                sum[i] = 0U - sum[i];
            } else if (op == MCU_LANES_SKIP) {
                sum[i] = 0;
            } else {
                sums[i] = sum[i] + (op == MCU_LANES_ADD || op == MCU_LANES_ADD_END ? sums[i] : 0);
                sum[i] = 0;
            }
        }
        if (op == MCU_LANES_STORE_END || op == MCU_LANES_ADD_END) {
            return token;
        }
        if (op != MCU_LANES_DOUBLE && op != MCU_LANES_NEGATE) {
            sums += words;
        }
    }
}

static inline const uint16_t *mcu_lanes_run_4(uint32_t *sums, const uint32_t *table, const uint16_t *token)
{
    return mcu_lanes_run(sums, table, token, 4);
}

static inline const uint16_t *mcu_lanes_run_8(uint32_t *sums, const uint32_t *table, const uint16_t *token)
{
    return mcu_lanes_run(sums, table, token, 8);
}
#endif

#endif
