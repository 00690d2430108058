/* Gates of recurrent layers: the sigmoid by straight lines between the entries of a table.
 * Gates are in steps of 2^-15, tanh(z) = 2 sigmoid(2 z) - 1 in steps of 2^-14.
 * No multiply but in mcu_multiply_s32.
 * Twin: compiler/mcucompile/ops/recurrent.py
 */
#ifndef MCU_RECURRENT_H
#define MCU_RECURRENT_H

#include <stdint.h>

#include "mcu_numerics.h"

/* v / 2^n, ties up. |v| + 2^(n - 1) below 2^31 */
static inline int32_t mcu_round_s32(int32_t v, uint32_t n)
{
    return mcu_shift_right_s32(mcu_add_s32(v, (int32_t)((1U << n) >> 1)), n);
}

/* sigmoid(argument) * 2^15.
 *   table  of the sigmoid at equal distances, from -reach to reach in the argument's steps
 *   shift  bits of the argument between two entries, 1..13
 */
static inline int32_t mcu_sigmoid_s32(int32_t argument, const uint16_t *table, int32_t reach, uint32_t shift)
{
    const uint32_t place = (uint32_t)(mcu_clamp_s32(argument, -reach, reach - 1) + reach);
    const uint16_t *const ends = table + (place >> shift);
    return mcu_interpolate_s32(ends[0], ends[1], place & ((1U << shift) - 1U), shift, shift);
}

/* tanh of half the argument that mcu_sigmoid_s32 would be given, times 2^14. */
static inline int32_t mcu_tanh_s32(int32_t argument, const uint16_t *table, int32_t reach, uint32_t shift)
{
    return mcu_sigmoid_s32(argument, table, reach, shift) - 16384;
}

/* (a * share_of_a + b * share_of_b) / 2^15, ties up.
 *   shares 0..2^15; the sum of products and 2^14 below 2^31
 */
static inline int32_t mcu_mix_s32(int32_t a, int32_t share_of_a, int32_t b, int32_t share_of_b)
{
    const int32_t sum = mcu_add_s32(mcu_multiply_s32(a, share_of_a), mcu_multiply_s32(b, share_of_b));
    return mcu_round_s32(sum, 15);
}

#endif
