/* Codes of sums by one multiplication each, for builds that may multiply.
 *
 * Twin: Requantization.apply in compiler/mcucompile/numerics.py, with the rounding half inside the offset.
 */
#ifndef MCU_SCALING_H
#define MCU_SCALING_H

#include <stdint.h>

/* An output's code is (sum * multiplier + offset) / 2^shift, rounded down. */
typedef struct {
    int32_t offset;
    int16_t multiplier;
    uint16_t shift;
} mcu_scaling;

/* The code before it is clamped. */
static inline int32_t mcu_scale_s32(int32_t sum, const mcu_scaling *scaling)
{
    return (int32_t)((uint32_t)sum * (uint32_t)(int32_t)scaling->multiplier + (uint32_t)scaling->offset) >>
           scaling->shift;
}

/* Of two sums the one whose code is larger: multipliers are positive, or negative. */
static inline int32_t mcu_max_s32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static inline int32_t mcu_min_s32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

#endif
