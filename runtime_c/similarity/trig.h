/* Trigonometric similarity ("trig"): sum_i sin x_i sin w_i = sum_i (cos(x_i - w_i) - cos(x_i + w_i)) / 2; the
 * half is in the scale.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x, w angles in steps of 2^-7 rad, magnitudes up to 201 (pi / 2)
 * No multiply: two cosines, in steps of 2^-12, and a subtraction.
 * Twin: compiler/mcucompile/similarities/trig/reference.py
 * Source: Wu, "Log or trig?" (thesis), section 4.1.
 */
#ifndef MCU_SIMILARITY_TRIG_H
#define MCU_SIMILARITY_TRIG_H

#include "mcu_cordic.h"

#include <stdint.h>

/* Cosines from a table: `cosines` holds those of 0, 1, 2, ... 402 steps. */
static inline int32_t mcu_trig_step(int32_t acc, int32_t x, int32_t w, const int16_t *cosines)
{
    const int32_t difference = x - w;
    const int32_t sum = x + w;
    return acc + cosines[difference < 0 ? -difference : difference] - cosines[sum < 0 ? -sum : sum];
}

/* Cosine in steps of 2^-12, by CORDIC. */
static inline int32_t mcu_trig_cosine(int32_t angle)
{
    return mcu_shift_right_s32(mcu_cordic_cos_s32((angle < 0 ? -angle : angle) << 8) + 4, 3);
}

/* The same without a table. */
static inline int32_t mcu_trig_step_cordic(int32_t acc, int32_t x, int32_t w)
{
    return acc + mcu_trig_cosine(x - w) - mcu_trig_cosine(x + w);
}

#endif
