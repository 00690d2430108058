/* THE arithmetic: the only places where a value is rounded.
 * Twin: compiler/mcucompile/numerics.py
 *
 * Sums are made modulo 2^32 in unsigned integers, whose overflow C defines; the compiler has proven
 * (passes/check_accumulators.py) that every signed result fits int32, so nothing is ever lost.
 * Right shifts of negative numbers are arithmetic, as gcc and clang define them.
 * No divide, no float; a multiply in mcu_multiply_s32 only, and not there if MCU_NO_MULTIPLY is defined.
 */
#ifndef MCU_NUMERICS_H
#define MCU_NUMERICS_H

#include <stdint.h>

/* Layers keep their own symbols, so that a profile or a disassembly names them. */
#define MCU_NOINLINE __attribute__((noinline))

/* Compilers know that a shift and an addition can be one multiply, which is what must not be. Code that
 * defines MCU_NO_MULTIPLY gets shifts whose results the compiler cannot look through.
 */
#ifdef MCU_NO_MULTIPLY
#define MCU_OPAQUE(value) __asm__("" : "+r"(value))
#else
#define MCU_OPAQUE(value) ((void)0)
#endif

/* At the end of a loop: keeps the compiler from unrolling it and from copying what it counts, so that it
 * costs what was planned.
 */
#define MCU_LOOP_AS_IT_IS(pointer, sum) __asm__("" : "+r"(pointer), "+r"(sum))

/* acc * 2^n, n in 0..31. */
static inline int32_t mcu_shift_left_s32(int32_t acc, uint32_t n)
{
    uint32_t shifted = (uint32_t)acc << n;
    MCU_OPAQUE(shifted);
    return (int32_t)shifted;
}

/* acc * 2^n if sign is 0, - acc * 2^n if it is -1; modulo 2^32, n in 0..31. */
static inline int32_t mcu_signed_shift_left_s32(int32_t acc, uint32_t n, int32_t sign)
{
    return (int32_t)((((uint32_t)acc << n) ^ (uint32_t)sign) - (uint32_t)sign);
}

/* floor(acc / 2^n), n in 0..31. */
static inline int32_t mcu_shift_right_s32(int32_t acc, uint32_t n)
{
    return acc >> n;
}

static inline int32_t mcu_add_s32(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* -sum; a compiler must not take the minus into a product by a power of two. */
static inline int32_t mcu_negate_s32(uint32_t sum)
{
    uint32_t negated = 0U - sum;
    MCU_OPAQUE(negated);
    return (int32_t)negated;
}

/* sum + x modulo 2^32. */
static inline uint32_t mcu_add_u32(uint32_t sum, int32_t x)
{
    return sum + (uint32_t)x;
}

static inline int32_t mcu_subtract_s32(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}

/* 2 * sum - norm modulo 2^32. */
static inline int32_t mcu_twice_less_s32(int32_t sum, uint32_t norm)
{
    return (int32_t)((uint32_t)sum + (uint32_t)sum - norm);
}

/* a * b of two values known at run time, modulo 2^32: one instruction, or an addition for each bit of b. */
static inline int32_t mcu_multiply_s32(int32_t a, int32_t b)
{
#ifdef MCU_NO_MULTIPLY
    uint32_t addend = b < 0 ? 0U - (uint32_t)a : (uint32_t)a;
    uint32_t rest = b < 0 ? 0U - (uint32_t)b : (uint32_t)b;
    uint32_t product = 0;
    while (rest != 0) {
        if (rest & 1U) {
            product += addend;
        }
        addend <<= 1;
        rest >>= 1;
    }
    return (int32_t)product;
#else
    return (int32_t)((uint32_t)a * (uint32_t)b);
#endif
}

/* The straight line from low to high, at fraction / 2^bits of the way, divided by 2^(shift - bits), ties up.
 *   |low|, |high| below 2^(31 - bits), shift at least bits and 1
 */
static inline int32_t mcu_interpolate_s32(int32_t low, int32_t high, uint32_t fraction, uint32_t bits,
                                          uint32_t shift)
{
    const int32_t scaled =
        mcu_add_s32(mcu_shift_left_s32(low, bits), mcu_multiply_s32(high - low, (int32_t)fraction));
    return mcu_shift_right_s32(mcu_add_s32(scaled, (int32_t)(1U << (shift - 1))), shift);
}

/* The value nearest to v in low..high. */
static inline int32_t mcu_clamp_s32(int32_t v, int32_t low, int32_t high)
{
    const int32_t raised = v < low ? low : v;
    return raised > high ? high : raised;
}

/* acc times a multiplier given as signed powers of two.
 *   digits  count of them: n > 0 adds acc * 2^(n-1), n < 0 subtracts acc * 2^(-n-1), 0 is nothing
 */
static inline int32_t mcu_multiply_digits_s32(int32_t acc, const int8_t *digits, uint32_t count)
{
    uint32_t product = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t digit = digits[i];
        if (digit > 0) {
            product += (uint32_t)acc << (uint32_t)(digit - 1);
        } else if (digit < 0) {
            product -= (uint32_t)acc << (uint32_t)(-digit - 1);
        }
    }
    return (int32_t)product;
}

/* scaled / 2^shift to the nearest integer, ties to those whose lowest bit is `even`.
 *   scaled  what is less than `window` above half a code counts as a tie; window is at least 1
 *   shift   1..31
 */
static inline int32_t mcu_round_even_s32(int32_t scaled, uint32_t shift, int32_t window, int32_t even)
{
    const int32_t half = (int32_t)(1U << (shift - 1U));
    const int32_t is_odd = (mcu_shift_right_s32(scaled, shift) ^ even) & 1;
    return mcu_shift_right_s32(mcu_add_s32(scaled, is_odd ? half : half - window), shift);
}

/* A 64-bit integer in two words, for products that int32 cannot hold: no helper routine of the compiler's. */
typedef struct {
    uint32_t low;
    int32_t high;
} mcu_wide;

/* sum + acc * 2^n, n in 0..31. */
static inline void mcu_wide_add(mcu_wide *sum, int32_t acc, uint32_t n)
{
    const uint32_t low = (uint32_t)mcu_shift_left_s32(acc, n);
    sum->low += low;
    sum->high =
        (int32_t)((uint32_t)sum->high + (uint32_t)((acc >> 1) >> (31U - n)) + (sum->low < low ? 1U : 0U));
}

/* sum - acc * 2^n, n in 0..31. */
static inline void mcu_wide_subtract(mcu_wide *sum, int32_t acc, uint32_t n)
{
    const uint32_t low = (uint32_t)mcu_shift_left_s32(acc, n);
    sum->high =
        (int32_t)((uint32_t)sum->high - (uint32_t)((acc >> 1) >> (31U - n)) - (sum->low < low ? 1U : 0U));
    sum->low -= low;
}

/* sum + acc times a multiplier given as in mcu_multiply_digits_s32. */
static inline void mcu_wide_add_digits(mcu_wide *sum, int32_t acc, const int8_t *digits, uint32_t count)
{
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t digit = digits[i];
        if (digit > 0) {
            mcu_wide_add(sum, acc, (uint32_t)(digit - 1));
        } else if (digit < 0) {
            mcu_wide_subtract(sum, acc, (uint32_t)(-digit - 1));
        }
    }
}

/* floor(sum / 2^n), n in 0..63; the compiler has proven that it fits int32. */
static inline int32_t mcu_wide_shift_right(const mcu_wide *sum, uint32_t n)
{
    if (n >= 32U) {
        return sum->high >> (n - 32U);
    }
    /* Two shifts, because a shift by 32 is not defined. */
    return (int32_t)((sum->low >> n) | (((uint32_t)sum->high << 1) << (31U - n)));
}

/* sum / 2^shift as float32 arithmetic rounds it: to 24 significant bits, then to an integer, ties to even
 * both times. sum    magnitude below 2^48 shift  1..52; a result beyond 2^23 is another one beyond 2^23,
 * which is clamped anyway
 */
static inline int32_t mcu_wide_round_float32(mcu_wide sum, uint32_t shift)
{
    const int32_t is_negative = sum.high < 0;
    if (is_negative) {
        sum.low = 0U - sum.low;
        sum.high = (int32_t)(~(uint32_t)sum.high + (sum.low == 0U ? 1U : 0U));
    }
    uint32_t dropped = 0;
    for (uint32_t above = ((uint32_t)sum.high << 8) | (sum.low >> 24); above != 0U; above >>= 1) {
        ++dropped;
    }
    if (dropped > 0U) {
        const int32_t is_odd = mcu_wide_shift_right(&sum, dropped) & 1;
        mcu_wide_add(&sum, (int32_t)(1U << (dropped - 1U)) - 1 + is_odd, 0);
    }
    int32_t code = mcu_wide_shift_right(&sum, dropped);
    if (shift > dropped) {
        /* 25 bits are less than half of 2^26. */
        code = shift - dropped > 26U ? 0 : mcu_round_even_s32(code, shift - dropped, 1, 0);
    }
    return is_negative ? -code : code;
}

/* round(numerator * 2^bits / denominator), ties up, by restoring division.
 *   numerator 0..denominator, denominator 1..2^31 - 1, bits 0..30
 */
static inline uint32_t mcu_fraction_u32(uint32_t numerator, uint32_t denominator, uint32_t bits)
{
    uint32_t quotient = 0;
    uint32_t rest = numerator;
    if (rest >= denominator) {
        rest -= denominator;
        quotient = 1;
    }
    for (uint32_t bit = 0; bit < bits; ++bit) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= denominator) {
            rest -= denominator;
            quotient |= 1U;
        }
    }
    return rest + rest >= denominator ? quotient + 1U : quotient;
}

#endif
