/* Squared distance ("euclid"): S(x, w) = -sum_i (x_i - w_i)^2 / 2; the half is in the scale.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 bits
 *   w    decoded weight, in the scale of x
 * Twin: compiler/mcucompile/similarities/euclid/reference.py
 * Source: Li et al., "EuclidNets", equation 1.
 */
#ifndef MCU_SIMILARITY_EUCLID_H
#define MCU_SIMILARITY_EUCLID_H

#include <stdint.h>

/* One multiply. */
static inline int32_t mcu_euclid_step(int32_t acc, int32_t x, int32_t w)
{
    const int32_t difference = x - w;
    return acc - difference * difference;
}

/* No multiply: n^2 = 4 * floor(n^2 / 4) + (n & 1). `quarter_square` points at the entry of 0 and holds
 * floor(n^2 / 4) on both sides as far as |x| + |w| reaches.
 */
static inline int32_t mcu_euclid_step_quarter_square(int32_t acc, int32_t x, int32_t w,
                                                     const uint16_t *quarter_square)
{
    const int32_t difference = x - w;
    return acc - (int32_t)(((uint32_t)quarter_square[difference] << 2) | ((uint32_t)difference & 1U));
}

#endif
