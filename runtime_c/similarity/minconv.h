/* Min-selector ("minconv", "synapse"): S(x, w) = sum_i sign(x_i) sign(w_i) min(|x_i|, |w_i|).
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 bits
 *   w    decoded weight, in the scale of x
 * No multiply: x is clipped to -|w|..|w| and has its sign changed if w is negative.
 * Twin: compiler/mcucompile/similarities/minconv/reference.py
 * Source: Yang et al., "MinConvNets", Table 2; Li et al., "EuclidNets", equation 4.
 */
#ifndef MCU_SIMILARITY_MINCONV_H
#define MCU_SIMILARITY_MINCONV_H

#include <stdint.h>

static inline int32_t mcu_minconv_step(int32_t acc, int32_t x, int32_t w)
{
    const int32_t bound = w < 0 ? -w : w;
    const int32_t clipped = x > bound ? bound : (x < -bound ? -bound : x);
    return w < 0 ? acc - clipped : acc + clipped;
}

#endif
