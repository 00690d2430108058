/* Multiplication-free operator ("mfo"): S(x, w) = sum_i sign(x_i) sign(w_i) (|x_i| + |w_i|), sign(0) = 0.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 bits
 *   w    decoded weight, in the scale of x
 * No multiply: the term is sign(w) x + sign(x) w.
 * Twin: compiler/mcucompile/similarities/mfo/reference.py
 * Source: Li et al., "EuclidNets", equation 5.
 */
#ifndef MCU_SIMILARITY_MFO_H
#define MCU_SIMILARITY_MFO_H

#include <stdint.h>

static inline int32_t mcu_mfo_step(int32_t acc, int32_t x, int32_t w)
{
    if (w == 0 || x == 0) {
        return acc;
    }
    const int32_t signed_x = w < 0 ? -x : x;
    const int32_t signed_w = x < 0 ? -w : w;
    return acc + signed_x + signed_w;
}

#endif
