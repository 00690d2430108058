/* Products of signs ("binary", XNOR): S(x, w) = sum_i sgn(x_i) sgn(w_i), sgn(0) = 1, one term per call.
 *   acc  running sum, int32
 *   x    activation
 *   w    decoded weight
 * No multiply: a test of the signs.
 * Twin: compiler/mcucompile/similarities/binary/reference.py
 * Source: Rastegari et al., "XNOR-Net", arXiv:1603.05279, section 3.2.
 */
#ifndef MCU_SIMILARITY_BINARY_H
#define MCU_SIMILARITY_BINARY_H

#include <stdint.h>

static inline int32_t mcu_binary_step(int32_t acc, int32_t x, int32_t w)
{
    return (x ^ w) < 0 ? acc - 1 : acc + 1;
}

#endif
