/* Dot product: S(x, w) = sum_i x_i * w_i, one term per call.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 or 16 bits
 *   w    decoded weight, at most 17 bits
 * Twin: compiler/mcucompile/similarities/dot/reference.py
 */
#ifndef MCU_SIMILARITY_DOT_H
#define MCU_SIMILARITY_DOT_H

#include "mcu_numerics.h"

#include <stdint.h>

/* One multiply. */
static inline int32_t mcu_dot_step(int32_t acc, int32_t x, int32_t w)
{
    return acc + x * w;
}

/* No multiply: x * w = floor((x + w)^2 / 4) - floor((x - w)^2 / 4), exact because x + w and x - w are
 * both even or both odd. `quarter_square` points at the entry of 0 and holds floor(n^2 / 4) on both
 * sides as far as |x| + |w| reaches.
 */
static inline int32_t mcu_dot_step_quarter_square(int32_t acc, int32_t x, int32_t w,
                                                  const uint16_t *quarter_square)
{
    return acc + (int32_t)quarter_square[x + w] - (int32_t)quarter_square[x - w];
}

/* The same for an activation of 16 bits, in two bytes: x * w = 256 * (x >> 8) * w + (x & 255) * w. Sums are
 * made modulo 2^32, since the parts may leave int32 where the whole does not.
 */
static inline int32_t mcu_dot_step_quarter_square_s16(int32_t acc, int32_t x, int32_t w,
                                                      const uint16_t *quarter_square)
{
    const int32_t high = x >> 8;
    const int32_t low = x & 255;
    uint32_t upper = (uint32_t)quarter_square[high + w] - (uint32_t)quarter_square[high - w];
    upper <<= 8;
    MCU_OPAQUE(upper);
    const uint32_t lower = (uint32_t)quarter_square[low + w] - (uint32_t)quarter_square[low - w];
    return (int32_t)((uint32_t)acc + upper + lower);
}

#endif
