/* Wide sums and roots for normalising layers: once for each row of values, not for each value.
 * Twin: compiler/mcucompile/ops/normalize.py, compiler/mcucompile/numerics.py (square_root)
 * No divide, no float; no multiply if MCU_NO_MULTIPLY is defined.
 */
#ifndef MCU_NORMALIZE_H
#define MCU_NORMALIZE_H

#include <stdint.h>

#include "mcu_numerics.h"

/* a * b, less than 2^64. */
static inline uint64_t mcu_multiply_u64(uint64_t a, uint32_t b)
{
#ifdef MCU_NO_MULTIPLY
    uint64_t product = 0;
    while (b != 0) {
        if (b & 1U) {
            product += a;
        }
        a += a;
        b >>= 1;
    }
    return product;
#else
    return a * b;
#endif
}

/* a^2 */
static inline uint64_t mcu_square_s32(int32_t a)
{
    const uint32_t magnitude = a < 0 ? 0U - (uint32_t)a : (uint32_t)a;
    return mcu_multiply_u64(magnitude, magnitude);
}

/* floor(sqrt(v)), v below 2^62, a bit at a time.
 * Source: Woo, "Square root by abacus algorithm", 1985.
 */
static inline uint32_t mcu_root_u64(uint64_t v)
{
    uint64_t root = 0;
    uint64_t rest = v;
    for (uint64_t bit = UINT64_C(1) << 60; bit != 0; bit >>= 2) {
        const uint64_t trial = root + bit;
        root >>= 1;
        if (rest >= trial) {
            rest -= trial;
            root += bit;
        }
    }
    return (uint32_t)root;
}

/* i with i / 2^e = 1 / sqrt(spread), 15 bits; 0 for 0.
 *   spread  below 2^62
 *   exponent  gets e, 15..45
 */
static inline int32_t mcu_inverse_root_u64(uint64_t spread, uint32_t *exponent)
{
    *exponent = 45;
    if (spread == 0) {
        return 0;
    }
    while (spread < UINT64_C(1) << 60) {
        spread += spread;
        spread += spread;
        --*exponent;
    }
    return (int32_t)mcu_fraction_u32(1U << 30, mcu_root_u64(spread), 15);
}

#endif
