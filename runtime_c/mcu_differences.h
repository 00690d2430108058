/* Sums of differences max(w - x, 0) in lanes of a word: four of 8 bits, or three of 10.
 *   x     values side by side, the first one lowest: 0..127 (quads) or 0..255 (triples)
 *   w     the same, with the flag of each lane set: bit 7 (quads) or bit 8 (triples)
 *   sums  lanes never carry into their neighbours, because the compiler has proven that few enough words are
 *         added (compiler/mcucompile/kernels/dense_lanes.py)
 * A flag stays in w - x where w is at least x; flag - 1 is then the mask of the lane's value, else 0. With
 * |x - w| = x - w + 2 max(w - x, 0) that makes sums of absolute differences. No multiply.
 * Cost: a word of w takes eight instructions, both loads and the addition to a sum included; Thumb one more.
 * Twin: mcucompile/similarities/adder/reference.py and minconv/reference.py
 */
#ifndef MCU_DIFFERENCES_H
#define MCU_DIFFERENCES_H

#include "mcu_numerics.h"

#include <stdint.h>

#define MCU_QUAD_FLAGS 0x80808080U
#define MCU_QUAD_EVEN 0x00ff00ffU
#define MCU_PAIR_FLAGS 0x01000100U
#define MCU_TRIPLE_FLAGS 0x10040100U

/* Compilers load all words of a turn first, and then have too few registers: this keeps words in their order.
 */
#define MCU_IN_ORDER(value) __asm__ volatile("" : "+r"(value) : : "memory")

/* Words added up. Quads: of all lanes, and of the odd ones; triples: of words, and of words without the lower
 * lanes.
 */
typedef struct {
    uint32_t all;
    uint32_t upper;
} mcu_lane_sums;

#if defined(__thumb__) && !defined(__thumb2__) && !defined(__OPTIMIZE_SIZE__)
#define MCU_FEW_LOW_REGISTERS
/* Few registers of Armv6-M take part in arithmetic, and compilers move values to the others and back. For the
 * least code they keep values in memory, from where they load no other register.
 */
#define MCU_DIFFERENCES(w, x, all_flags, bits)                                                               \
    do {                                                                                                     \
        uint32_t flags;                                                                                      \
        __asm__ volatile(".syntax unified\n"                                                                 \
                         "subs %[w_], %[w_], %[x_]\n"                                                        \
                         "mov %[x_], %[all_]\n"                                                              \
                         "ands %[x_], %[x_], %[w_]\n"                                                        \
                         "lsrs %[flags_], %[x_], #" #bits "\n"                                               \
                         "subs %[x_], %[x_], %[flags_]\n"                                                    \
                         "ands %[w_], %[w_], %[x_]\n"                                                        \
                         : [w_] "+l"(w), [x_] "+l"(x), [flags_] "=&l"(flags)                                 \
                         : [all_] "h"(all_flags)                                                             \
                         : "cc", "memory");                                                                  \
    } while (0)
#else
#define MCU_DIFFERENCES(w, x, all_flags, bits)                                                               \
    do {                                                                                                     \
        (w) -= (x);                                                                                          \
        (x) = (w) & (all_flags);                                                                             \
        (w) &= (x) - ((x) >> (bits));                                                                        \
        MCU_IN_ORDER(w);                                                                                     \
    } while (0)
#endif

/* max(w - x, 0) in each lane. */
static inline uint32_t mcu_quads_differences(uint32_t w, uint32_t x)
{
    MCU_DIFFERENCES(w, x, MCU_QUAD_FLAGS, 7);
    return w;
}

/* max(w - x, 0) in each lane. */
static inline uint32_t mcu_triples_differences(uint32_t w, uint32_t x)
{
    MCU_DIFFERENCES(w, x, MCU_TRIPLE_FLAGS, 8);
    return w;
}

/* Add a word of four lanes; at most 257 of them. */
static inline void mcu_quads_add(mcu_lane_sums *sums, uint32_t word)
{
#ifdef MCU_FEW_LOW_REGISTERS
    uint32_t mask;
    __asm__ volatile(".syntax unified\n"
                     "add %[all], %[all], %[word]\n"
                     "lsrs %[word], %[word], #8\n"
                     "mov %[mask], %[even]\n"
                     "ands %[word], %[word], %[mask]\n"
                     "add %[upper], %[upper], %[word]\n"
                     : [all] "+h"(sums->all), [upper] "+h"(sums->upper), [word] "+l"(word), [mask] "=&l"(mask)
                     : [even] "h"(MCU_QUAD_EVEN)
                     : "cc");
#else
    sums->all += word;
    sums->upper += (word >> 8) & MCU_QUAD_EVEN;
    MCU_IN_ORDER(sums->all);
    MCU_IN_ORDER(sums->upper);
#endif
}

/* Add a word of three lanes; any number of them. */
static inline void mcu_triples_add(mcu_lane_sums *sums, uint32_t word)
{
    const uint32_t upper = word >> 10;
    sums->all += word;
    sums->upper += upper + (upper >> 10);
    MCU_IN_ORDER(sums->all);
    MCU_IN_ORDER(sums->upper);
}

/* The sum of both lanes of 16 bits. */
static inline uint32_t mcu_pair_sum(uint32_t pair)
{
    return (pair & 0xffffU) + (pair >> 16);
}

/* The sum of all lanes: both hold two lanes of 16 bits then. */
static inline uint32_t mcu_quads_sum(const mcu_lane_sums *sums)
{
    const uint32_t odd = sums->upper;
    const uint32_t even = sums->all - (odd << 8);
    return mcu_pair_sum(even) + mcu_pair_sum(odd);
}

/* The sum of all lanes: a + b + c = (a + 2^10 b + 2^20 c) - (2^10 - 1) ((b + 2^10 c) + c). */
static inline uint32_t mcu_triples_sum(const mcu_lane_sums *sums)
{
    const uint32_t scaled = (uint32_t)mcu_shift_left_s32((int32_t)sums->upper, 10);
    return sums->all - scaled + sums->upper;
}

/* sum less half of what |x - w| is less than |x - edge| + |edge - w|, for a w beyond the edge of a window.
 *   beyond  how far x is on the same side of the edge; most: how far w is
 */
static inline uint32_t mcu_less_beyond(uint32_t sum, int32_t beyond, int32_t most)
{
    if (beyond > 0) {
        sum -= (uint32_t)(beyond < most ? beyond : most);
    }
    return sum;
}

/* Two bytes in lanes of 16 bits as distances from low, 0 for those below it; adds the distances to above.
 *   bias  2^8 - low in both lanes
 */
static inline uint32_t mcu_above_low(uint32_t pair, uint32_t bias, uint32_t *above)
{
    const uint32_t biased = pair + bias;
    const uint32_t flags = biased & MCU_PAIR_FLAGS;
    const uint32_t distances = biased & (flags - (flags >> 8));
    *above += distances;
    return distances;
}

/* Pack bytes in lanes as distances from low, none below 0 or beyond 127, and zeros behind them.
 *   count   words that bytes fill; rest: bytes behind them; words: in all
 *   flip    128 if the bytes have a sign, which makes them 0..255, else 0
 *   return  the sum of all |distance| - low
 */
static inline uint32_t mcu_quads_pack(uint32_t *to, const uint8_t *x, uint32_t count, uint32_t rest,
                                      uint32_t words, uint32_t flip, uint32_t low)
{
    const uint32_t flips = flip | flip << 16;
    const uint32_t bias = (256U - low) | (256U - low) << 16;
    /* |distance| is twice what is above low, less the byte, and low more; lanes of 16 bits hold 257 bytes. */
    uint32_t sum = 0;
    const uint32_t *const end = to + words;
    while (count > 0) {
        const uint32_t some = count < 128U ? count : 128U;
        uint32_t above = 0;
        uint32_t all = 0;
        for (const uint32_t *whole = to + some; to != whole; ++to) {
            const uint32_t even = ((uint32_t)x[0] | (uint32_t)x[2] << 16) ^ flips;
            const uint32_t odd = ((uint32_t)x[1] | (uint32_t)x[3] << 16) ^ flips;
            const uint32_t bytes = mcu_above_low(even, bias, &above) | mcu_above_low(odd, bias, &above) << 8;
            const uint32_t large = bytes & MCU_QUAD_FLAGS;
            all += even + odd;
            *to = (bytes | (large - (large >> 7))) & ~MCU_QUAD_FLAGS;
            x += 4;
        }
        sum += 2 * mcu_pair_sum(above) - mcu_pair_sum(all);
        count -= some;
    }
    if (rest > 0) {
        uint32_t word = 0;
        for (uint32_t i = 0; i < rest; ++i) {
            const int32_t distance = (int32_t)((x[i] ^ flip) - low);
            sum += (uint32_t)(distance < 0 ? -distance : distance) - low;
            word |= (uint32_t)mcu_clamp_s32(distance, 0, 127) << (8 * i);
        }
        *to++ = word;
    }
    while (to != end) {
        *to++ = 0;
    }
    return sum;
}

/* Pack bytes in lanes, and zeros behind them; return their sum. Arguments as above. */
static inline uint32_t mcu_triples_pack(uint32_t *to, const uint8_t *x, uint32_t count, uint32_t rest,
                                        uint32_t words, uint32_t flip)
{
    uint32_t sum = 0;
    const uint32_t *const end = to + words;
    for (const uint32_t *whole = to + count; to != whole; ++to) {
        const uint32_t a = x[0] ^ flip;
        const uint32_t b = x[1] ^ flip;
        const uint32_t c = x[2] ^ flip;
        sum += a + b + c;
        *to = a | b << 10 | c << 20;
        x += 3;
    }
    if (rest > 0) {
        uint32_t word = 0;
        for (uint32_t i = 0; i < rest; ++i) {
            const uint32_t value = x[i] ^ flip;
            sum += value;
            word |= value << (10 * i);
        }
        *to++ = word;
    }
    while (to != end) {
        *to++ = 0;
    }
    return sum;
}

#endif
