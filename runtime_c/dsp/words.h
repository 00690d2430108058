/* Four bytes or two halfwords in a word, for cores with DSP instructions (Cortex-M4, M7, M33).
 *
 * Elsewhere the same is computed in C, so that a project's own model.c runs on a computer.
 */
#ifndef MCU_DSP_WORDS_H
#define MCU_DSP_WORDS_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define MCU_DSP
#endif

#ifdef MCU_DSP

/* Bytes 0 and 2 of a word as halfwords, and bytes 1 and 3. */
#define MCU_EXTEND(name, instruction)                                                                        \
    static inline uint32_t name(uint32_t word)                                                               \
    {                                                                                                        \
        uint32_t halfwords;                                                                                  \
        __asm__(instruction : "=r"(halfwords) : "r"(word));                                                  \
        return halfwords;                                                                                    \
    }
MCU_EXTEND(mcu_even_u8, "uxtb16 %0, %1")
MCU_EXTEND(mcu_odd_u8, "uxtb16 %0, %1, ror #8")
MCU_EXTEND(mcu_even_s8, "sxtb16 %0, %1")
MCU_EXTEND(mcu_odd_s8, "sxtb16 %0, %1, ror #8")

/* sum + the squares of two halfwords, modulo 2^32. */
static inline uint32_t mcu_add_squares_s16(uint32_t sum, uint32_t halfwords)
{
    uint32_t squares;
    __asm__("smlad %0, %1, %1, %2" : "=r"(squares) : "r"(halfwords), "r"(sum));
    return squares;
}

/* A word from any address, not before what stands before it: compilers load all they can first, and spill it.
 */
typedef struct __attribute__((packed, may_alias)) {
    uint32_t word;
} mcu_unaligned;

static inline uint32_t mcu_load_now_u32(const void *from)
{
    uint32_t word;
    __asm__ volatile("ldr %0, %1" : "=r"(word) : "m"(*(const mcu_unaligned *)from));
    return word;
}

/* Two words side by side, and where the next ones go: compilers store them one by one, in an order of theirs.
 */
static inline uint32_t *mcu_store_two_u32(uint32_t *to, uint32_t first, uint32_t second)
{
    __asm__ volatile("strd %1, %2, [%0], #8" : "+&r"(to) : "r"(first), "r"(second) : "memory");
    return to;
}

/* Add |a - b| of each pair of bytes without a sign: of two differences one is cut off at 0. even: two
 * halfwords, of bytes 0 and 2; odd: of 1 and 3.
 */
static inline void mcu_add_distances_u8x4(uint32_t *even, uint32_t *odd, uint32_t a, uint32_t b)
{
    uint32_t above;
    uint32_t below;
    __asm__ volatile("uqsub8 %2, %4, %5\n\t"
                     "uqsub8 %3, %5, %4\n\t"
                     "orr %2, %2, %3\n\t"
                     "uxtab16 %0, %0, %2\n\t"
                     "uxtab16 %1, %1, %2, ror #8"
                     : "+r"(*even), "+r"(*odd), "=&r"(above), "=&r"(below)
                     : "r"(a), "r"(b));
}

/* The larger byte of each pair: the difference sets flags, one a byte, by which bytes are selected. */
#define MCU_MAX_BYTES(name, subtract)                                                                        \
    static inline uint32_t name(uint32_t a, uint32_t b)                                                      \
    {                                                                                                        \
        uint32_t larger;                                                                                     \
        __asm__(subtract " %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b) : "cc");           \
        return larger;                                                                                       \
    }
MCU_MAX_BYTES(mcu_max_u8x4, "usub8")
MCU_MAX_BYTES(mcu_max_s8x4, "ssub8")

#else

static inline int32_t mcu_signed_byte(uint32_t word, uint32_t place)
{
    return (int8_t)(uint8_t)(word >> (8U * place));
}

static inline uint32_t mcu_even_u8(uint32_t word)
{
    return word & 0x00FF00FFU;
}

static inline uint32_t mcu_odd_u8(uint32_t word)
{
    return (word >> 8) & 0x00FF00FFU;
}

static inline uint32_t mcu_even_s8(uint32_t word)
{
    return ((uint32_t)mcu_signed_byte(word, 0) & 0xFFFFU) | ((uint32_t)mcu_signed_byte(word, 2) << 16);
}

static inline uint32_t mcu_odd_s8(uint32_t word)
{
    return mcu_even_s8(word >> 8);
}

static inline uint32_t mcu_add_squares_s16(uint32_t sum, uint32_t halfwords)
{
    const int32_t first = (int16_t)(uint16_t)halfwords;
    const int32_t second = (int16_t)(uint16_t)(halfwords >> 16);
    return sum + (uint32_t)(first * first) + (uint32_t)(second * second);
}

static inline void mcu_add_distances_u8x4(uint32_t *even, uint32_t *odd, uint32_t a, uint32_t b)
{
    uint32_t distances = 0;
    for (uint32_t mask = 255U; mask != 0U; mask <<= 8) {
        distances |= (a & mask) > (b & mask) ? (a & mask) - (b & mask) : (b & mask) - (a & mask);
    }
    *even += mcu_even_u8(distances);
    *odd += mcu_odd_u8(distances);
}

static inline uint32_t mcu_max_u8x4(uint32_t a, uint32_t b)
{
    uint32_t larger = 0;
    for (uint32_t mask = 255U; mask != 0U; mask <<= 8) {
        larger |= (a & mask) > (b & mask) ? a & mask : b & mask;
    }
    return larger;
}

static inline uint32_t mcu_max_s8x4(uint32_t a, uint32_t b)
{
    return mcu_max_u8x4(a ^ 0x80808080U, b ^ 0x80808080U) ^ 0x80808080U;
}

#endif

/* A word from any address, and to any. Cores that must load it byte by byte do so where they must only. */
static inline uint32_t mcu_load_u32(const void *from)
{
    uint32_t word;
#if defined(__ARM_ARCH_6M__) || defined(__riscv)
    if (((uintptr_t)from & 3U) == 0U) {
        __builtin_memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
        return word;
    }
#endif
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

/* Two bytes from any address. */
static inline uint32_t mcu_load_u16(const void *from)
{
    uint16_t halfword;
    __builtin_memcpy(&halfword, from, sizeof halfword);
    return halfword;
}

#ifndef MCU_DSP
static inline uint32_t mcu_load_now_u32(const void *from)
{
    return mcu_load_u32(from);
}
#endif

static inline void mcu_store_u32(void *to, uint32_t word)
{
    __builtin_memcpy(to, &word, sizeof word);
}

#ifndef MCU_DSP
static inline uint32_t *mcu_store_two_u32(uint32_t *to, uint32_t first, uint32_t second)
{
    to[0] = first;
    to[1] = second;
    return to + 2;
}
#endif

/* Copy a word at a time, whatever the addresses are. */
static inline void mcu_copy_bytes(void *to, const void *from, uint32_t bytes)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    for (; bytes >= 4U; bytes -= 4U, target += 4, source += 4) {
        mcu_store_u32(target, mcu_load_u32(source));
    }
    for (; bytes > 0U; --bytes) {
        *target++ = *source++;
    }
}

/* What absolute differences take for x: a byte as it is; a signed byte plus 128; 1 for a signed byte that is
 * not negative, else 0.
 */
static inline uint32_t mcu_word_u8(uint32_t word)
{
    return word;
}

static inline uint32_t mcu_word_s8(uint32_t word)
{
    return word ^ 0x80808080U;
}

static inline uint32_t mcu_word_sign(uint32_t word)
{
    return (~word >> 7) & 0x01010101U;
}

/* The same halfwords, 128 less: small products of bytes without a sign. */
static inline uint32_t mcu_even_centred(uint32_t word)
{
    return mcu_even_s8(word ^ 0x80808080U);
}

static inline uint32_t mcu_odd_centred(uint32_t word)
{
    return mcu_odd_s8(word ^ 0x80808080U);
}

#endif
