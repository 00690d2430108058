/* L1 distance ("adder"): S(x, w) = -sum_i |x_i - w_i|, one term per call.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 bits
 *   w    decoded weight, in the scale of x
 * No multiply: two subtractions and a test.
 * Twin: compiler/mcucompile/similarities/adder/reference.py
 * Source: Chen et al., "AdderNet", arXiv:1912.13200, equation 2.
 */
#ifndef MCU_SIMILARITY_ADDER_H
#define MCU_SIMILARITY_ADDER_H

#include <stdint.h>

static inline int32_t mcu_adder_step(int32_t acc, int32_t x, int32_t w)
{
    const int32_t difference = x - w;
    return difference < 0 ? acc + difference : acc - difference;
}

#endif
