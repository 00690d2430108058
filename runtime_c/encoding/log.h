/* LogQuant: a weight is 0 or a signed power of two.
 *   code  sign in bit `bits`, exponent below it; exponent of all ones with a clear sign: the weight 0
 * No multiply: one shift, one add or subtract for each weight.
 * Twin: compiler/mcucompile/encodings/log_quant.py
 * Source: Miyashita et al., arXiv:1603.01025, section 3.
 */
#ifndef MCU_ENCODING_LOG_H
#define MCU_ENCODING_LOG_H

#include <stdint.h>

/* acc + x * w for dot products. Sums are modulo 2^32; the final one fits int32. */
static inline int32_t mcu_log_dot_step(int32_t acc, int32_t x, uint32_t code, uint32_t bits)
{
    const uint32_t sign = 1U << bits;
    const uint32_t exponent = code & (sign - 1U);
    const uint32_t shifted = (uint32_t)x << (exponent & 31U);
    if ((code & sign) != 0U) {
        return (int32_t)((uint32_t)acc - shifted);
    }
    return exponent == sign - 1U ? acc : (int32_t)((uint32_t)acc + shifted);
}

#endif
