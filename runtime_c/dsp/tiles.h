/* Sums of one or two windows with a few outputs' weights, for cores with DSP instructions (Cortex-M4, M7,
 * M33).
 *
 * A tile keeps eight sums in registers, r4 to r11: two windows by four outputs (2X4) or one by eight (1X8);
 * or six: two windows by three outputs (2X3), whose weights then have three registers and one load.
 * The loops are written in assembler because compilers spill eight sums, two words of x and two of the
 * weights. Elsewhere the same sums are made in C, so that a project's own model.c runs on a computer.
 *
 * Layouts, in 32-bit words that each hold four bytes or two halfwords:
 *   x    2X4, 2X3: a word of the first window, a word of the second, ...; 1X8: the words of the window
 *   w    2X4: for each word of x one of each of the four outputs; 2X3: of the three; 1X8: of the eight
 *   PAIRS: a halfword is 256 * a + b, the weights of two outputs; there is one word for two outputs
 *   LANES: a halfword is a + 2^bits * b, small weights of two of 2X8 or 1X16 outputs
 *   sums of the first window's outputs, then of the second's; LANES: the outputs of all a, then of all b
 *
 * Cost of a word of x and w, in instructions: 2X3 8, 2X4 and 2X8_LANES 11, 1X8 and 1X16_LANES 12, 2X4_PAIRS
 * 12, 1X8_PAIRS 15.
 */
#ifndef MCU_DSP_TILES_H
#define MCU_DSP_TILES_H

#include <stdint.h>

#include "words.h"

#ifdef MCU_DSP

/* One instruction a line. */
/* clang-format off */

/* A function of its own section. In r0 x and in r1 w, which move; in r2 the end of x and in r3 the sums, which wait
 * on the stack.
 */
#define MCU_TILE_FUNCTION(name, body)                                                          \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums);        \
    __asm__(".pushsection .text." #name ", \"ax\", %progbits\n"                                \
            ".syntax unified\n"                                                                \
            ".thumb\n"                                                                         \
            ".balign 4\n"                                                                      \
            ".thumb_func\n"                                                                    \
            ".type " #name ", %function\n"                                                     \
            #name ":\n"                                                                        \
            "push {r2-r11, lr}\n"                                                              \
            body                                                                               \
            "pop {r2-r11, pc}\n"                                                               \
            ".size " #name ", . - " #name "\n"                                                 \
            ".popsection\n")

/* Words in turns of a loop; or all of them once, the first one without a sum to add to. */
#define MCU_TILE_LOOP(unrolled, begin, first, step, turn) \
    begin                                             \
    "1:\n"                                            \
    ".rept " #unrolled "\n"                           \
    step                                              \
    ".endr\n"                                         \
    turn                                              \
    "ldr r2, [sp]\n"                                  \
    "cmp r0, r2\n"                                    \
    "bne 1b\n"

#define MCU_TILE_ONCE(unrolled, begin, first, step, turn) \
    first                                             \
    ".rept " #unrolled " - 1\n"                       \
    step                                              \
    ".endr\n"                                         \
    turn

#define MCU_TILE_ZERO                                 \
    "mov r4, #0\n"                                    \
    "mov r5, #0\n"                                    \
    "mov r6, #0\n"                                    \
    "mov r7, #0\n"                                    \
    "mov r8, #0\n"                                    \
    "mov r9, #0\n"                                    \
    "mov r10, #0\n"                                   \
    "mov r11, #0\n"

#define MCU_TILE_STORE                                \
    "ldr r0, [sp, #4]\n"                              \
    "stm r0, {r4-r11}\n"

#define MCU_TILE_ADD(operation, sum, x, w) #operation " " sum ", " x ", " w ", " sum "\n"
#define MCU_TILE_SET(operation, sum, x, w) MCU_TILE_SET_##operation " " sum ", " x ", " w "\n"
#define MCU_TILE_SET_usada8 "usad8"
#define MCU_TILE_SET_smlad "smuad"

/* operation: usada8 or smlad; unrolled: words of each window in one turn of the loop; how: LOOP or ONCE. */
#define MCU_TILE_2X4(name, operation, unrolled, how)  \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_##how(unrolled, MCU_TILE_ZERO, MCU_TILE_2X4_STEP(MCU_TILE_SET, operation), \
                       MCU_TILE_2X4_STEP(MCU_TILE_ADD, operation), "") \
        MCU_TILE_STORE)

#define MCU_TILE_2X4_STEP(sum, operation)             \
    "ldrd r2, r3, [r0], #8\n"                         \
    "ldrd r12, lr, [r1], #8\n"                        \
    sum(operation, "r4", "r2", "r12")                 \
    sum(operation, "r8", "r3", "r12")                 \
    sum(operation, "r5", "r2", "lr")                  \
    sum(operation, "r9", "r3", "lr")                  \
    "ldrd r12, lr, [r1], #8\n"                        \
    sum(operation, "r6", "r2", "r12")                 \
    sum(operation, "r10", "r3", "r12")                \
    sum(operation, "r7", "r2", "lr")                  \
    sum(operation, "r11", "r3", "lr")

#define MCU_TILE_2X3(name, operation, unrolled, how)  \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_##how(unrolled, MCU_TILE_ZERO, MCU_TILE_2X3_STEP(MCU_TILE_SET, operation), \
                       MCU_TILE_2X3_STEP(MCU_TILE_ADD, operation), "") \
        "ldr r0, [sp, #4]\n"                          \
        "stm r0, {r4-r9}\n")

#define MCU_TILE_2X3_STEP(sum, operation)             \
    "ldrd r2, r3, [r0], #8\n"                         \
    "ldm r1!, {r10, r11, r12}\n"                      \
    sum(operation, "r4", "r2", "r10")                 \
    sum(operation, "r7", "r3", "r10")                 \
    sum(operation, "r5", "r2", "r11")                 \
    sum(operation, "r8", "r3", "r11")                 \
    sum(operation, "r6", "r2", "r12")                 \
    sum(operation, "r9", "r3", "r12")

#define MCU_TILE_1X8(name, operation, unrolled, how)  \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_##how(unrolled, MCU_TILE_ZERO, MCU_TILE_1X8_STEP(MCU_TILE_SET, operation), \
                       MCU_TILE_1X8_STEP(MCU_TILE_ADD, operation), "") \
        MCU_TILE_STORE)

#define MCU_TILE_1X8_STEP(sum, operation)             \
    "ldr r2, [r0], #4\n"                              \
    "ldm r1!, {r3, r12, lr}\n"                        \
    sum(operation, "r4", "r2", "r3")                  \
    sum(operation, "r5", "r2", "r12")                 \
    sum(operation, "r6", "r2", "lr")                  \
    "ldm r1!, {r3, r12, lr}\n"                        \
    sum(operation, "r7", "r2", "r3")                  \
    sum(operation, "r8", "r2", "r12")                 \
    sum(operation, "r9", "r2", "lr")                  \
    "ldrd r12, lr, [r1], #8\n"                        \
    sum(operation, "r10", "r2", "r12")                \
    sum(operation, "r11", "r2", "lr")

/* The products of the whole halfwords make 256 * A + B, those of their lower bytes, sign-extended, B; then
 * A = (256 * A + B - B) / 256, of which there are 24 bits.
 */
#define MCU_TILE_2X4_PAIRS(name, unrolled, how)       \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_##how(unrolled, MCU_TILE_ZERO, MCU_TILE_2X4_PAIRS_STEP(MCU_TILE_SET), \
                       MCU_TILE_2X4_PAIRS_STEP(MCU_TILE_ADD), "") \
        MCU_TILE_SPLIT MCU_TILE_STORE)

#define MCU_TILE_2X4_PAIRS_STEP(sum)                  \
    "ldrd r2, r3, [r0], #8\n"                         \
    "ldrd r12, lr, [r1], #8\n"                        \
    sum(smlad, "r4", "r2", "r12")                     \
    sum(smlad, "r8", "r3", "r12")                     \
    sum(smlad, "r6", "r2", "lr")                      \
    sum(smlad, "r10", "r3", "lr")                     \
    "sxtb16 r12, r12\n"                               \
    "sxtb16 lr, lr\n"                                 \
    sum(smlad, "r5", "r2", "r12")                     \
    sum(smlad, "r9", "r3", "r12")                     \
    sum(smlad, "r7", "r2", "lr")                      \
    sum(smlad, "r11", "r3", "lr")

#define MCU_TILE_1X8_PAIRS(name, unrolled, how)       \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_##how(unrolled, MCU_TILE_ZERO, MCU_TILE_1X8_PAIRS_STEP(MCU_TILE_SET), \
                       MCU_TILE_1X8_PAIRS_STEP(MCU_TILE_ADD), "") \
        MCU_TILE_SPLIT MCU_TILE_STORE)

#define MCU_TILE_1X8_PAIRS_STEP(sum)                  \
    "ldr r2, [r0], #4\n"                              \
    "ldrd r12, lr, [r1], #8\n"                        \
    sum(smlad, "r4", "r2", "r12")                     \
    sum(smlad, "r6", "r2", "lr")                      \
    "sxtb16 r12, r12\n"                               \
    "sxtb16 lr, lr\n"                                 \
    sum(smlad, "r5", "r2", "r12")                     \
    sum(smlad, "r7", "r2", "lr")                      \
    "ldrd r12, lr, [r1], #8\n"                        \
    sum(smlad, "r8", "r2", "r12")                     \
    sum(smlad, "r10", "r2", "lr")                     \
    "sxtb16 r12, r12\n"                               \
    "sxtb16 lr, lr\n"                                 \
    sum(smlad, "r9", "r2", "r12")                     \
    sum(smlad, "r11", "r2", "lr")

#define MCU_TILE_SPLIT                                \
    "sub r4, r4, r5\n"                                \
    "sub r6, r6, r7\n"                                \
    "sub r8, r8, r9\n"                                \
    "sub r10, r10, r11\n"                             \
    "asr r4, r4, #8\n"                                \
    "asr r6, r6, #8\n"                                \
    "asr r8, r8, #8\n"                                \
    "asr r10, r10, #8\n"

/* A halfword of the weights is a + 2^bits * b, so that a register's sum is A + 2^bits * B. What a turn adds to A fits
 * `bits` bits with a sign: A is followed turn by turn, in memory, and B is what is left.
 */
#define MCU_TILE_2X8_LANES(name, bits, unrolled)      \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_LOOP(unrolled, MCU_TILE_ZERO "stm r3, {r4-r11}\n", "", \
        "ldrd r2, r3, [r0], #8\n"                     \
        "ldrd r12, lr, [r1], #8\n"                    \
        "smlad r4, r2, r12, r4\n"                     \
        "smlad r8, r3, r12, r8\n"                     \
        "smlad r5, r2, lr, r5\n"                      \
        "smlad r9, r3, lr, r9\n"                      \
        "ldrd r12, lr, [r1], #8\n"                    \
        "smlad r6, r2, r12, r6\n"                     \
        "smlad r10, r3, r12, r10\n"                   \
        "smlad r7, r2, lr, r7\n"                      \
        "smlad r11, r3, lr, r11\n",                   \
        MCU_TILE_FOLLOW(bits)) MCU_TILE_SPLIT_LANES(bits))

#define MCU_TILE_1X16_LANES(name, bits, unrolled)     \
    MCU_TILE_FUNCTION(name,                           \
        MCU_TILE_LOOP(unrolled, MCU_TILE_ZERO "stm r3, {r4-r11}\n", "", \
        "ldr r2, [r0], #4\n"                          \
        "ldm r1!, {r3, r12, lr}\n"                    \
        "smlad r4, r2, r3, r4\n"                      \
        "smlad r5, r2, r12, r5\n"                     \
        "smlad r6, r2, lr, r6\n"                      \
        "ldm r1!, {r3, r12, lr}\n"                    \
        "smlad r7, r2, r3, r7\n"                      \
        "smlad r8, r2, r12, r8\n"                     \
        "smlad r9, r2, lr, r9\n"                      \
        "ldrd r12, lr, [r1], #8\n"                    \
        "smlad r10, r2, r12, r10\n"                   \
        "smlad r11, r2, lr, r11\n",                   \
        MCU_TILE_FOLLOW(bits)) MCU_TILE_SPLIT_LANES(bits))

#define MCU_TILE_FOLLOW(bits)                         \
    "ldr r2, [sp, #4]\n"                              \
    MCU_TILE_FOLLOW_TWO("r4", "r5", bits)              \
    MCU_TILE_FOLLOW_TWO("r6", "r7", bits)              \
    MCU_TILE_FOLLOW_TWO("r8", "r9", bits)              \
    MCU_TILE_FOLLOW_TWO("r10", "r11", bits)

#define MCU_TILE_FOLLOW_TWO(first, second, bits)       \
    "ldrd r12, lr, [r2]\n"                            \
    "sub r3, " first ", r12\n"                        \
    "sbfx r3, r3, #0, #" #bits "\n"                   \
    "add r12, r12, r3\n"                              \
    "sub r3, " second ", lr\n"                        \
    "sbfx r3, r3, #0, #" #bits "\n"                   \
    "add lr, lr, r3\n"                                \
    "strd r12, lr, [r2], #8\n"

#define MCU_TILE_SPLIT_LANES(bits)                    \
    "ldr r0, [sp, #4]\n"                              \
    "ldm r0!, {r2, r3, r12, lr}\n"                    \
    "sub r4, r4, r2\n"                                \
    "sub r5, r5, r3\n"                                \
    "sub r6, r6, r12\n"                               \
    "sub r7, r7, lr\n"                                \
    "ldm r0!, {r2, r3, r12, lr}\n"                    \
    "sub r8, r8, r2\n"                                \
    "sub r9, r9, r3\n"                                \
    "sub r10, r10, r12\n"                             \
    "sub r11, r11, lr\n"                              \
    "asr r4, r4, #" #bits "\n"                        \
    "asr r5, r5, #" #bits "\n"                        \
    "asr r6, r6, #" #bits "\n"                        \
    "asr r7, r7, #" #bits "\n"                        \
    "asr r8, r8, #" #bits "\n"                        \
    "asr r9, r9, #" #bits "\n"                        \
    "asr r10, r10, #" #bits "\n"                      \
    "asr r11, r11, #" #bits "\n"                      \
    "stm r0, {r4-r11}\n"

/* clang-format on */

#else

static inline int32_t mcu_signed_halfword(uint32_t word, uint32_t place)
{
    return (int16_t)(uint16_t)(word >> (16U * place));
}

/* sum + |x - w| over the four bytes of each, all modulo 2^32 as everything here. */
static inline uint32_t mcu_usada8(uint32_t x, uint32_t w, uint32_t sum)
{
    for (uint32_t shift = 0; shift < 32U; shift += 8U) {
        const uint32_t a = (x >> shift) & 255U;
        const uint32_t b = (w >> shift) & 255U;
        sum += a > b ? a - b : b - a;
    }
    return sum;
}

/* sum + the products of the halfwords. */
static inline uint32_t mcu_smlad(uint32_t x, uint32_t w, uint32_t sum)
{
    for (uint32_t place = 0; place < 2U; ++place) {
        sum += (uint32_t)(mcu_signed_halfword(x, place) * mcu_signed_halfword(w, place));
    }
    return sum;
}

/* step: what word k of the windows, of which there are `windows`, and of the weights adds to the totals;
 * turn, last: what happens to all of them after so many words, and in the end.
 */
#define MCU_TILE_FUNCTION(name, windows, columns, unrolled, step, turn, last)                                \
    static void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums)               \
    {                                                                                                        \
        uint32_t total[16] = {0};                                                                            \
        while (x != end) {                                                                                   \
            for (uint32_t i = 0; i < (unrolled); ++i, x += (windows), w += (columns)) {                      \
                for (uint32_t k = 0; k < (windows) * (columns); ++k) {                                       \
                    const uint32_t x_word = x[k / (columns)];                                                \
                    const uint32_t w_word = w[k % (columns)];                                                \
                    step;                                                                                    \
                }                                                                                            \
            }                                                                                                \
            turn;                                                                                            \
        }                                                                                                    \
        last;                                                                                                \
    }                                                                                                        \
    void name(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums)

#define MCU_TILE_PLAIN(name, windows, columns, operation, unrolled)                                          \
    MCU_TILE_FUNCTION(name, windows, columns, unrolled,                                                      \
                      total[k] = mcu_##operation(x_word, w_word, total[k]), (void)0,                         \
                      mcu_store_totals(total, sums, (windows) * (columns)))
#define MCU_TILE_PAIRS(name, windows, columns, unrolled)                                                     \
    MCU_TILE_FUNCTION(name, windows, columns, unrolled, mcu_pair_step(x_word, w_word, total + 2 * k),        \
                      (void)0, mcu_store_pairs(total, sums))
#define MCU_TILE_LANES(name, windows, columns, bits, unrolled)                                               \
    MCU_TILE_FUNCTION(name, windows, columns, unrolled, total[k] = mcu_smlad(x_word, w_word, total[k]),      \
                      mcu_follow_lanes(total, total + 8, bits),                                              \
                      mcu_store_lanes(total, total + 8, sums, bits))

#define MCU_TILE_2X4(name, operation, unrolled, how) MCU_TILE_PLAIN(name, 2U, 4U, operation, unrolled)
#define MCU_TILE_2X3(name, operation, unrolled, how) MCU_TILE_PLAIN(name, 2U, 3U, operation, unrolled)
#define MCU_TILE_1X8(name, operation, unrolled, how) MCU_TILE_PLAIN(name, 1U, 8U, operation, unrolled)
#define MCU_TILE_2X4_PAIRS(name, unrolled, how) MCU_TILE_PAIRS(name, 2U, 2U, unrolled)
#define MCU_TILE_1X8_PAIRS(name, unrolled, how) MCU_TILE_PAIRS(name, 1U, 4U, unrolled)
#define MCU_TILE_2X8_LANES(name, bits, unrolled) MCU_TILE_LANES(name, 2U, 4U, bits, unrolled)
#define MCU_TILE_1X16_LANES(name, bits, unrolled) MCU_TILE_LANES(name, 1U, 8U, bits, unrolled)

static inline void mcu_store_totals(const uint32_t *total, int32_t *sums, uint32_t count)
{
    for (uint32_t k = 0; k < count; ++k) {
        sums[k] = (int32_t)total[k];
    }
}

static inline void mcu_pair_step(uint32_t x, uint32_t w, uint32_t *total)
{
    total[0] = mcu_smlad(x, w, total[0]);
    total[1] = mcu_smlad(x, mcu_even_s8(w), total[1]);
}

static inline void mcu_store_pairs(const uint32_t *total, int32_t *sums)
{
    for (uint32_t k = 0; k < 8U; k += 2U) {
        sums[k] = (int32_t)(total[k] - total[k + 1U]) >> 8;
        sums[k + 1U] = (int32_t)total[k + 1U];
    }
}

/* lower: the sums of the lower lanes at the end of the last turn. */
static inline void mcu_follow_lanes(const uint32_t *total, uint32_t *lower, uint32_t bits)
{
    for (uint32_t k = 0; k < 8U; ++k) {
        const uint32_t added = (total[k] - lower[k]) << (32U - bits);
        lower[k] += (uint32_t)((int32_t)added >> (32U - bits));
    }
}

static inline void mcu_store_lanes(const uint32_t *total, const uint32_t *lower, int32_t *sums, uint32_t bits)
{
    for (uint32_t k = 0; k < 8U; ++k) {
        sums[k] = (int32_t)lower[k];
        sums[8U + k] = (int32_t)(total[k] - lower[k]) >> bits;
    }
}

#endif

#endif
