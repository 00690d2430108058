/* Two 4-bit codes in a byte: the even input's code is the low half.
 * Twin: compiler/mcucompile/encodings/encoding.py, pack
 */
#ifndef MCU_ENCODING_NIBBLE_H
#define MCU_ENCODING_NIBBLE_H

#include <stdint.h>

/* The code of input i in a row of packed codes, 0..15. */
static inline uint32_t mcu_nibble_code(const uint8_t *row, uint32_t i)
{
    const uint32_t pair = row[i >> 1];
    return (i & 1U) != 0U ? pair >> 4 : pair & 15U;
}

/* A code as a two's complement integer, -8..7. */
static inline int32_t mcu_nibble_value(uint32_t code)
{
    return (int32_t)(code ^ 8U) - 8;
}

#endif
