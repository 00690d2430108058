/* Ternary sum ("ternary"): S(x, w) = sum_i x_i sign(w_i), sign(0) = 0, one term per call.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 or 16 bits
 *   w    decoded weight
 * No multiply: add, subtract or leave out.
 * Twin: compiler/mcucompile/similarities/ternary/reference.py
 * Source: Li & Liu, "Ternary weight networks", arXiv:1605.04711, section 2.
 */
#ifndef MCU_SIMILARITY_TERNARY_H
#define MCU_SIMILARITY_TERNARY_H

#include <stdint.h>

static inline int32_t mcu_ternary_step(int32_t acc, int32_t x, int32_t w)
{
    return w > 0 ? acc + x : (w < 0 ? acc - x : acc);
}

#endif
