/* Sums of products of one or two windows with a few outputs' weights, for cores with a multiplier and without
 * DSP instructions: RV32IMAC, and Cortex-M0, whose loads with an offset have no sign: there x and w have none
 * (U8).
 *
 * A block keeps all its sums in registers: two windows by 8 outputs or 4 (2X8, 2X4), one by 16, 8 or 4. The
 * loops are written in assembler because compilers spill so many sums. Elsewhere the same sums are made in C,
 * so that a project's own model.c runs on a computer.
 *
 * Layouts, in words of four bytes:
 *   x    2X: a word of the first window, a word of the second, ...; 1X: the words of the window
 *   w    for each word of x one of each output
 *   sums of the first window's outputs, then of the second's
 *
 * Cost of a word of x, in instructions: four for each of its bytes, of the weights' and of the products,
 * which takes two, and beside 3 on RV32IMAC and 5 on Cortex-M0, which copies what a product overwrites.
 */
#ifndef MCU_BLOCKS_H
#define MCU_BLOCKS_H

#include <stdint.h>

/* Byte k of a word, with a sign and without. */
static inline int32_t mcu_block_lb(uint32_t word, uint32_t k)
{
    return (int8_t)(uint8_t)(word >> (8U * k));
}

static inline int32_t mcu_block_lbu(uint32_t word, uint32_t k)
{
    return (uint8_t)(word >> (8U * k));
}

/* What sums and norms make, modulo 2^32: sum - 128 * norm, sum + 256 * norm, (norm - sum) / 2 rounded down.
 */
static inline int32_t mcu_less_128_s32(int32_t sum, uint32_t norm)
{
    return (int32_t)((uint32_t)sum - (norm << 7));
}

static inline int32_t mcu_more_256_s32(int32_t sum, uint32_t norm)
{
    return (int32_t)((uint32_t)sum + (norm << 8));
}

static inline int32_t mcu_half_below_s32(int32_t sum, uint32_t norm)
{
    return (int32_t)(norm - (uint32_t)sum) >> 1;
}

/* sum + the bytes of a word. */
static inline uint32_t mcu_add_bytes(uint32_t sum, uint32_t word)
{
    const uint32_t pairs = (word & 0x00FF00FFU) + ((word >> 8) & 0x00FF00FFU);
    return sum + (pairs >> 16) + (pairs & 0xFFFFU);
}

/* sum + the entries of a table that the bytes of a word say, with a sign and without. */
static inline uint32_t mcu_add_entries_s8x4(uint32_t sum, uint32_t word, const uint16_t *table)
{
    for (uint32_t k = 0; k < 4U; ++k) {
        sum += table[mcu_block_lb(word, k)];
    }
    return sum;
}

static inline uint32_t mcu_add_entries_u8x4(uint32_t sum, uint32_t word, const uint16_t *table)
{
    for (uint32_t k = 0; k < 4U; ++k) {
        sum += table[mcu_block_lbu(word, k)];
    }
    return sum;
}

/* sum + the squares of four bytes with a sign. */
static inline uint32_t mcu_add_squares_s8x4(uint32_t sum, uint32_t word)
{
    for (uint32_t shift = 0; shift < 32U; shift += 8U) {
        const int32_t byte = (int8_t)(uint8_t)(word >> shift);
        sum += (uint32_t)(byte * byte);
    }
    return sum;
}

/* sum + the squares of four bytes without a sign. */
static inline uint32_t mcu_add_squares_u8x4(uint32_t sum, uint32_t word)
{
    for (uint32_t shift = 0; shift < 32U; shift += 8U) {
        const uint32_t byte = (word >> shift) & 255U;
        sum += byte * byte;
    }
    return sum;
}

/* sum + byte * (byte + 256) of four bytes without a sign. */
static inline uint32_t mcu_add_squares_256_u8x4(uint32_t sum, uint32_t word)
{
    for (uint32_t shift = 0; shift < 32U; shift += 8U) {
        const uint32_t byte = (word >> shift) & 255U;
        sum += byte * (byte + 256U);
    }
    return sum;
}

/* load_x, load_w: functions of a word and the number of a byte in it. */
#define MCU_BLOCK_LOOP(name, windows, outputs, load_x, load_w)                                               \
    static void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums)               \
    {                                                                                                        \
        uint32_t total[(windows) * (outputs)] = {0};                                                         \
        for (; x != end; x += (windows), w += (outputs)) {                                                   \
            for (uint32_t i = 0; i < (windows) * (outputs); ++i) {                                           \
                for (uint32_t k = 0; k < 4U; ++k) {                                                          \
                    total[i] += (uint32_t)(load_x(x[i / (outputs)], k) * load_w(w[i % (outputs)], k));       \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
        for (uint32_t i = 0; i < (windows) * (outputs); ++i) {                                               \
            sums[i] = (int32_t)total[i];                                                                     \
        }                                                                                                    \
    }                                                                                                        \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums)

/* Sums of what a table has for differences x - w: the square blocks. table: the entry of a difference of 0,
 * or where it is for x as a byte without a sign.
 */
/* clang-format off */
#ifdef __riscv

/* With the 15 registers of RV32E, and tp, which programs of one thread do not have. */
#define MCU_SQUARE_BLOCK_WEIGHT(c, sum)                                                        \
    "lb t1, " #c "*4+\\k(a1)\n"                                                                \
    "slli t1, t1, 1\n"                                                                         \
    "sub t1, t0, t1\n"                                                                         \
    "lhu t1, 0(t1)\n"                                                                          \
    "add " sum ", " sum ", t1\n"

#define MCU_SQUARE_BLOCK_1X8(name, load)                                                       \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums, const uint16_t *table); \
    __asm__(".pushsection .text." #name ", \"ax\", %progbits\n"                                \
            ".balign 4\n"                                                                      \
            ".type " #name ", @function\n"                                                     \
            #name ":\n"                                                                        \
            "addi sp, sp, -32\n"                                                               \
            "sw ra, 0(sp)\n" "sw s0, 4(sp)\n" "sw s1, 8(sp)\n" "sw tp, 12(sp)\n"               \
            "sw a2, 16(sp)\n" "sw a3, 20(sp)\n"                                                \
            "mv tp, a4\n"                                                                      \
            "li a2, 0\n" "li a3, 0\n" "li a4, 0\n" "li a5, 0\n"                                \
            "li s0, 0\n" "li s1, 0\n" "li t2, 0\n" "li ra, 0\n"                                \
            "1:\n"                                                                             \
            ".irp k, 0, 1, 2, 3\n"                                                             \
            #load " t0, \\k(a0)\n"                                                             \
            "slli t0, t0, 1\n"                                                                 \
            "add t0, t0, tp\n"                                                                 \
            MCU_SQUARE_BLOCK_WEIGHT(0, "a2") MCU_SQUARE_BLOCK_WEIGHT(1, "a3")                  \
            MCU_SQUARE_BLOCK_WEIGHT(2, "a4") MCU_SQUARE_BLOCK_WEIGHT(3, "a5")                  \
            MCU_SQUARE_BLOCK_WEIGHT(4, "s0") MCU_SQUARE_BLOCK_WEIGHT(5, "s1")                  \
            MCU_SQUARE_BLOCK_WEIGHT(6, "t2") MCU_SQUARE_BLOCK_WEIGHT(7, "ra")                  \
            ".endr\n"                                                                          \
            "addi a0, a0, 4\n"                                                                 \
            "addi a1, a1, 32\n"                                                                \
            "lw t1, 16(sp)\n"                                                                  \
            "bne a0, t1, 1b\n"                                                                 \
            "lw t1, 20(sp)\n"                                                                  \
            "sw a2, 0(t1)\n" "sw a3, 4(t1)\n" "sw a4, 8(t1)\n" "sw a5, 12(t1)\n"               \
            "sw s0, 16(t1)\n" "sw s1, 20(t1)\n" "sw t2, 24(t1)\n" "sw ra, 28(t1)\n"            \
            "lw ra, 0(sp)\n" "lw s0, 4(sp)\n" "lw s1, 8(sp)\n" "lw tp, 12(sp)\n"               \
            "addi sp, sp, 32\n"                                                                \
            "ret\n"                                                                            \
            ".size " #name ", . - " #name "\n"                                                 \
            ".popsection\n")

#else

#define MCU_SQUARE_BLOCK_1X8(name, load)                                                       \
    static void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums, \
                     const uint16_t *table)                                                    \
    {                                                                                          \
        uint32_t total[8] = {0};                                                               \
        for (; x != end; ++x, w += 8) {                                                        \
            for (uint32_t i = 0; i < 32U; ++i) {                                               \
                total[i / 4U] += table[mcu_block_##load(*x, i % 4U) - mcu_block_lb(w[i / 4U], i % 4U)]; \
            }                                                                                  \
        }                                                                                      \
        for (uint32_t i = 0; i < 8U; ++i) {                                                    \
            sums[i] = (int32_t)total[i];                                                       \
        }                                                                                      \
    }                                                                                          \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums, const uint16_t *table)

#endif

#if defined(__riscv_mul) && !defined(__riscv_32e)

/* One instruction a line. In a0 x and in a1 w, which move; in a2 the end of x; in a3 the sums. */
#define MCU_BLOCK_FUNCTION(name, first, step, x_bytes, w_bytes, last)                          \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums);        \
    __asm__(".pushsection .text." #name ", \"ax\", %progbits\n"                                \
            ".balign 4\n"                                                                      \
            ".type " #name ", @function\n"                                                     \
            #name ":\n"                                                                        \
            first                                                                              \
            "1:\n"                                                                             \
            ".irp k, 0, 1, 2, 3\n"                                                             \
            step                                                                               \
            ".endr\n"                                                                          \
            "addi a0, a0, " #x_bytes "\n"                                                      \
            "addi a1, a1, " #w_bytes "\n"                                                      \
            "bne a0, a2, 1b\n"                                                                 \
            last                                                                               \
            "ret\n"                                                                            \
            ".size " #name ", . - " #name "\n"                                                 \
            ".popsection\n")

/* Bytes in t0 and t1 times two outputs' weights: the first sum of each output is the first window's. */
#define MCU_BLOCK_TWO(c, next_c, first_0, second_0, first_1, second_1)                         \
    "lb t2, " #c "*4+\\k(a1)\n"                                                                \
    "lb t3, " #next_c "*4+\\k(a1)\n"                                                           \
    "mul t4, t0, t2\n"                                                                         \
    "mul t5, t1, t2\n"                                                                         \
    "mul t6, t0, t3\n"                                                                         \
    "mul t3, t1, t3\n"                                                                         \
    "add " first_0 ", " first_0 ", t4\n"                                                       \
    "add " second_0 ", " second_0 ", t5\n"                                                     \
    "add " first_1 ", " first_1 ", t6\n"                                                       \
    "add " second_1 ", " second_1 ", t3\n"

/* A byte in t0 times two outputs' weights. */
#define MCU_BLOCK_ONE(c, next_c, sum_0, sum_1)                                                 \
    "lb t2, " #c "*4+\\k(a1)\n"                                                                \
    "lb t3, " #next_c "*4+\\k(a1)\n"                                                           \
    "mul t2, t0, t2\n"                                                                         \
    "mul t3, t0, t3\n"                                                                         \
    "add " sum_0 ", " sum_0 ", t2\n"                                                           \
    "add " sum_1 ", " sum_1 ", t3\n"

#define MCU_BLOCK_CLEAR_4(a, b, c, d)                                                          \
    "li " a ", 0\n" "li " b ", 0\n" "li " c ", 0\n" "li " d ", 0\n"
#define MCU_BLOCK_STORE_4(at, a, b, c, d)                                                      \
    "sw " a ", " #at "+0(a3)\n" "sw " b ", " #at "+4(a3)\n"                                    \
    "sw " c ", " #at "+8(a3)\n" "sw " d ", " #at "+12(a3)\n"

#define MCU_BLOCK_MOVE_SAVED(move, count)                                                      \
    move " s0, 0(sp)\n" move " s1, 4(sp)\n" move " s2, 8(sp)\n" move " s3, 12(sp)\n"           \
    MCU_BLOCK_MOVE_##count(move)
#define MCU_BLOCK_MOVE_4(move)
#define MCU_BLOCK_MOVE_12(move)                                                                \
    move " s4, 16(sp)\n" move " s5, 20(sp)\n" move " s6, 24(sp)\n" move " s7, 28(sp)\n"        \
    move " s8, 32(sp)\n" move " s9, 36(sp)\n" move " s10, 40(sp)\n" move " s11, 44(sp)\n"
#define MCU_BLOCK_SAVE(count) "addi sp, sp, -48\n" MCU_BLOCK_MOVE_SAVED("sw", count)
#define MCU_BLOCK_RESTORE(count) MCU_BLOCK_MOVE_SAVED("lw", count) "addi sp, sp, 48\n"

#define MCU_BLOCK_FIRST_16                                                                     \
    MCU_BLOCK_SAVE(12)                                                                         \
    MCU_BLOCK_CLEAR_4("s0", "s1", "s2", "s3") MCU_BLOCK_CLEAR_4("s4", "s5", "s6", "s7")        \
    MCU_BLOCK_CLEAR_4("s8", "s9", "s10", "s11") MCU_BLOCK_CLEAR_4("a4", "a5", "a6", "a7")
#define MCU_BLOCK_LAST_16                                                                      \
    MCU_BLOCK_STORE_4(0, "s0", "s1", "s2", "s3") MCU_BLOCK_STORE_4(16, "s4", "s5", "s6", "s7") \
    MCU_BLOCK_STORE_4(32, "s8", "s9", "s10", "s11")                                            \
    MCU_BLOCK_STORE_4(48, "a4", "a5", "a6", "a7")                                              \
    MCU_BLOCK_RESTORE(12)

/* load: lb or lbu, of bytes of x. */
#define MCU_BLOCK_2X8(name, load)                                                              \
    MCU_BLOCK_FUNCTION(name, MCU_BLOCK_FIRST_16,                                               \
        #load " t0, \\k(a0)\n"                                                                 \
        #load " t1, 4+\\k(a0)\n"                                                               \
        MCU_BLOCK_TWO(0, 1, "s0", "s8", "s1", "s9")                                            \
        MCU_BLOCK_TWO(2, 3, "s2", "s10", "s3", "s11")                                          \
        MCU_BLOCK_TWO(4, 5, "s4", "a4", "s5", "a5")                                            \
        MCU_BLOCK_TWO(6, 7, "s6", "a6", "s7", "a7"),                                           \
        8, 32, MCU_BLOCK_LAST_16)

#define MCU_BLOCK_1X16(name, load)                                                             \
    MCU_BLOCK_FUNCTION(name, MCU_BLOCK_FIRST_16,                                               \
        #load " t0, \\k(a0)\n"                                                                 \
        MCU_BLOCK_ONE(0, 1, "s0", "s1") MCU_BLOCK_ONE(2, 3, "s2", "s3")                        \
        MCU_BLOCK_ONE(4, 5, "s4", "s5") MCU_BLOCK_ONE(6, 7, "s6", "s7")                        \
        MCU_BLOCK_ONE(8, 9, "s8", "s9") MCU_BLOCK_ONE(10, 11, "s10", "s11")                    \
        MCU_BLOCK_ONE(12, 13, "a4", "a5") MCU_BLOCK_ONE(14, 15, "a6", "a7"),                   \
        4, 64, MCU_BLOCK_LAST_16)

#define MCU_BLOCK_2X4(name, load)                                                              \
    MCU_BLOCK_FUNCTION(name,                                                                   \
        MCU_BLOCK_SAVE(4)                                                                      \
        MCU_BLOCK_CLEAR_4("s0", "s1", "s2", "s3") MCU_BLOCK_CLEAR_4("a4", "a5", "a6", "a7"),   \
        #load " t0, \\k(a0)\n"                                                                 \
        #load " t1, 4+\\k(a0)\n"                                                               \
        MCU_BLOCK_TWO(0, 1, "s0", "a4", "s1", "a5")                                            \
        MCU_BLOCK_TWO(2, 3, "s2", "a6", "s3", "a7"),                                           \
        8, 16,                                                                                 \
        MCU_BLOCK_STORE_4(0, "s0", "s1", "s2", "s3")                                           \
        MCU_BLOCK_STORE_4(16, "a4", "a5", "a6", "a7")                                          \
        MCU_BLOCK_RESTORE(4))

#define MCU_BLOCK_1X8(name, load)                                                              \
    MCU_BLOCK_FUNCTION(name,                                                                   \
        MCU_BLOCK_CLEAR_4("a4", "a5", "a6", "a7") MCU_BLOCK_CLEAR_4("t1", "t4", "t5", "t6"),   \
        #load " t0, \\k(a0)\n"                                                                 \
        MCU_BLOCK_ONE(0, 1, "a4", "a5") MCU_BLOCK_ONE(2, 3, "a6", "a7")                        \
        MCU_BLOCK_ONE(4, 5, "t1", "t4") MCU_BLOCK_ONE(6, 7, "t5", "t6"),                       \
        4, 32,                                                                                 \
        MCU_BLOCK_STORE_4(0, "a4", "a5", "a6", "a7")                                           \
        MCU_BLOCK_STORE_4(16, "t1", "t4", "t5", "t6"))

#define MCU_BLOCK_1X4(name, load)                                                              \
    MCU_BLOCK_FUNCTION(name,                                                                   \
        MCU_BLOCK_CLEAR_4("a4", "a5", "a6", "a7"),                                             \
        #load " t0, \\k(a0)\n"                                                                 \
        MCU_BLOCK_ONE(0, 1, "a4", "a5") MCU_BLOCK_ONE(2, 3, "a6", "a7"),                       \
        4, 16,                                                                                 \
        MCU_BLOCK_STORE_4(0, "a4", "a5", "a6", "a7"))

#else

#define MCU_BLOCK_2X8(name, load) MCU_BLOCK_LOOP(name, 2U, 8U, mcu_block_##load, mcu_block_lb)
#define MCU_BLOCK_1X16(name, load) MCU_BLOCK_LOOP(name, 1U, 16U, mcu_block_##load, mcu_block_lb)
#define MCU_BLOCK_2X4(name, load) MCU_BLOCK_LOOP(name, 2U, 4U, mcu_block_##load, mcu_block_lb)
#define MCU_BLOCK_1X8(name, load) MCU_BLOCK_LOOP(name, 1U, 8U, mcu_block_##load, mcu_block_lb)
#define MCU_BLOCK_1X4(name, load) MCU_BLOCK_LOOP(name, 1U, 4U, mcu_block_##load, mcu_block_lb)

#endif

#ifdef __ARM_ARCH_6M__

/* One instruction a line. In r0 x and in r1 w, which move; the end of x waits on the stack, below the sums. What
 * is in r8 and above can be added to only.
 */
#define MCU_BLOCK_FUNCTION_U8(name, first, step, x_bytes, w_bytes, last)                          \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums);        \
    __asm__(".pushsection .text." #name ", \"ax\", %progbits\n"                                \
            ".syntax unified\n"                                                                \
            ".thumb\n"                                                                         \
            ".balign 4\n"                                                                      \
            ".thumb_func\n"                                                                    \
            ".type " #name ", %function\n"                                                     \
            #name ":\n"                                                                        \
            "push {r4-r7, lr}\n"                                                               \
            "mov r4, r8\n"                                                                     \
            "mov r5, r9\n"                                                                     \
            "mov r6, r10\n"                                                                    \
            "mov r7, r11\n"                                                                    \
            "push {r2-r7}\n"                                                                   \
            "movs r4, #0\n"                                                                    \
            "mov r8, r4\n"                                                                     \
            "mov r9, r4\n"                                                                     \
            first                                                                              \
            "1:\n"                                                                             \
            ".irp k, 0, 1, 2, 3\n"                                                             \
            step                                                                               \
            ".endr\n"                                                                          \
            "adds r0, #" #x_bytes "\n"                                                         \
            "adds r1, #" #w_bytes "\n"                                                         \
            "ldr r3, [sp]\n"                                                                   \
            "cmp r0, r3\n"                                                                     \
            "bne 1b\n"                                                                         \
            last                                                                               \
            "pop {r2-r7}\n"                                                                    \
            "mov r8, r4\n"                                                                     \
            "mov r9, r5\n"                                                                     \
            "mov r10, r6\n"                                                                    \
            "mov r11, r7\n"                                                                    \
            "pop {r4-r7, pc}\n"                                                                \
            ".size " #name ", . - " #name "\n"                                                 \
            ".popsection\n")

#define MCU_BLOCK_ONE_U8(c, add, sum)                                                             \
    "ldrb r3, [r1, #" #c "*4+\\k]\n"                                                           \
    "muls r3, r2, r3\n"                                                                        \
    add " " sum ", " sum ", r3\n"

/* Bytes in r2 and r3 times a weight. */
#define MCU_BLOCK_TWO_U8(c, add, first, second)                                                   \
    "ldrb r4, [r1, #" #c "*4+\\k]\n"                                                           \
    "mov r5, r4\n"                                                                             \
    "muls r5, r2, r5\n"                                                                        \
    "muls r4, r3, r4\n"                                                                        \
    add " " first ", " first ", r5\n"                                                          \
    "add " second ", " second ", r4\n"

#define MCU_BLOCK_2X4_U8(name)                                                                    \
    MCU_BLOCK_FUNCTION_U8(name,                                                                   \
        "mov r10, r4\n" "mov r11, r4\n" "mov r12, r4\n" "mov lr, r4\n"                         \
        "movs r6, #0\n" "movs r7, #0\n",                                                       \
        "ldrb r2, [r0, #\\k]\n"                                                                \
        "ldrb r3, [r0, #4+\\k]\n"                                                              \
        MCU_BLOCK_TWO_U8(0, "adds", "r6", "r10")                                                  \
        MCU_BLOCK_TWO_U8(1, "adds", "r7", "r11")                                                  \
        MCU_BLOCK_TWO_U8(2, "add", "r8", "r12")                                                   \
        "ldrb r4, [r1, #12+\\k]\n"                                                             \
        "muls r2, r4, r2\n"                                                                    \
        "muls r3, r4, r3\n"                                                                    \
        "add r9, r9, r2\n"                                                                     \
        "add lr, lr, r3\n",                                                                    \
        8, 16,                                                                                 \
        "ldr r0, [sp, #4]\n"                                                                   \
        "mov r2, r8\n" "mov r3, r9\n" "mov r4, r10\n" "mov r5, r11\n"                          \
        "str r6, [r0]\n" "str r7, [r0, #4]\n" "str r2, [r0, #8]\n" "str r3, [r0, #12]\n"       \
        "mov r6, r12\n" "mov r7, lr\n"                                                         \
        "str r4, [r0, #16]\n" "str r5, [r0, #20]\n" "str r6, [r0, #24]\n" "str r7, [r0, #28]\n")

#define MCU_BLOCK_1X8_U8(name)                                                                    \
    MCU_BLOCK_FUNCTION_U8(name,                                                                   \
        "mov r10, r4\n" "mov r11, r4\n" "movs r5, #0\n" "movs r6, #0\n" "movs r7, #0\n",       \
        "ldrb r2, [r0, #\\k]\n"                                                                \
        MCU_BLOCK_ONE_U8(0, "adds", "r4") MCU_BLOCK_ONE_U8(1, "adds", "r5")                          \
        MCU_BLOCK_ONE_U8(2, "adds", "r6") MCU_BLOCK_ONE_U8(3, "adds", "r7")                          \
        MCU_BLOCK_ONE_U8(4, "add", "r8") MCU_BLOCK_ONE_U8(5, "add", "r9")                            \
        MCU_BLOCK_ONE_U8(6, "add", "r10") MCU_BLOCK_ONE_U8(7, "add", "r11"),                         \
        4, 32,                                                                                 \
        "ldr r0, [sp, #4]\n"                                                                   \
        "stm r0!, {r4-r7}\n"                                                                   \
        "mov r4, r8\n" "mov r5, r9\n" "mov r6, r10\n" "mov r7, r11\n"                          \
        "stm r0!, {r4-r7}\n")

#define MCU_BLOCK_1X4_U8(name)                                                                    \
    MCU_BLOCK_FUNCTION_U8(name,                                                                   \
        "movs r5, #0\n" "movs r6, #0\n" "movs r7, #0\n",                                       \
        "ldrb r2, [r0, #\\k]\n"                                                                \
        MCU_BLOCK_ONE_U8(0, "adds", "r4") MCU_BLOCK_ONE_U8(1, "adds", "r5")                          \
        MCU_BLOCK_ONE_U8(2, "adds", "r6") MCU_BLOCK_ONE_U8(3, "adds", "r7"),                         \
        4, 16,                                                                                 \
        "ldr r0, [sp, #4]\n"                                                                   \
        "stm r0!, {r4-r7}\n")

#else

#define MCU_BLOCK_2X4_U8(name) MCU_BLOCK_LOOP(name, 2U, 4U, mcu_block_lbu, mcu_block_lbu)
#define MCU_BLOCK_1X8_U8(name) MCU_BLOCK_LOOP(name, 1U, 8U, mcu_block_lbu, mcu_block_lbu)
#define MCU_BLOCK_1X4_U8(name) MCU_BLOCK_LOOP(name, 1U, 4U, mcu_block_lbu, mcu_block_lbu)

#endif
/* clang-format on */

#endif
