/* Dot product: S(x, w) = sum_i x_i * w_i, one term per call.
 *   acc  running sum, int32; cannot overflow (passes/check_accumulators.py)
 *   x    activation, 8 bits
 *   w    decoded weight, at most 17 bits
 * Twin: compiler/mcucompile/similarities/dot/reference.py
 */
#ifndef MCU_SIMILARITY_DOT_H
#define MCU_SIMILARITY_DOT_H

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

#endif
