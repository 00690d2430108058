/* Two 4-bit codes in a byte: the even input's code is the low half.
 * Twin: compiler/mcucompile/encodings/encoding.py, pack
 */
#ifndef MCU_ENCODING_NIBBLE_H
#define MCU_ENCODING_NIBBLE_H

#include <stdint.h>

/* The code of an even input, 0..15. */
static inline uint32_t mcu_nibble_low(uint32_t pair)
{
    return pair & 15U;
}

/* The code of an odd input, 0..15. */
static inline uint32_t mcu_nibble_high(uint32_t pair)
{
    return pair >> 4;
}

/* A code as a two's complement integer, -8..7. */
static inline int32_t mcu_nibble_value(uint32_t code)
{
    return (int32_t)(code ^ 8U) - 8;
}

#endif
