/* CORDIC: trigonometric, hyperbolic and logistic functions by shifts and additions, all in int32.
 * Arguments and results are in steps of 2^-15 ("Q15"), what lies between them in steps of 2^-21.
 * No multiply, no divide. About 8 instructions a step: sin, cos 17 steps, exp 18, sigmoid and tanh 35.
 * Twin: compiler/mcucompile/cordic.py, which says the errors
 * Sources: Volder, "The CORDIC trigonometric computing technique", 1959; Walther, "A unified algorithm for
 * elementary functions", 1971.
 */
#ifndef MCU_CORDIC_H
#define MCU_CORDIC_H

#include <stdint.h>

#include "mcu_numerics.h"

/* One copy in flash, however many layers call it. */
#define MCU_CORDIC_SHARED static __attribute__((noinline, unused))

#define MCU_CORDIC_GUARD_BITS 6
/* 1, pi and ln 2 in steps of 2^-21; in steps of 2^-15 pi / 2 and 16, the largest argument: exp(-16) is 0. */
#define MCU_CORDIC_ONE 2097152
#define MCU_CORDIC_PI 6588397
#define MCU_CORDIC_LN2 1453635
#define MCU_CORDIC_HALF_PI 51472
#define MCU_CORDIC_REACH 524288

/* Circular steps: step i turns by atan(2^-i). The start is 1 / (the gain of all steps). */
#define MCU_CORDIC_CIRCULAR_STEPS 17
#define MCU_CORDIC_CIRCULAR_START 1273502
static const int32_t mcu_cordic_circular_angles[MCU_CORDIC_CIRCULAR_STEPS] = {
    1647099, 972340, 513757, 260791, 130902, 65515, 32765, 16384, 8192,
    4096,    2048,   1024,   512,    256,    128,   64,    32,
};
/* 1 / (the gain of the circular steps): n adds x / 2^n, -n subtracts it. */
#define MCU_CORDIC_SCALE_DIGITS 9
static const int8_t mcu_cordic_scale_digits[MCU_CORDIC_SCALE_DIGITS] = {1, 3, -6, -9, -12, 14, 16, -20, -23};

/* Hyperbolic steps: shift i turns by atanh(2^-i); 4 and 13 occur twice, or they would not converge. */
#define MCU_CORDIC_HYPERBOLIC_STEPS 18
#define MCU_CORDIC_HYPERBOLIC_START 2532305
static const uint8_t mcu_cordic_hyperbolic_shifts[MCU_CORDIC_HYPERBOLIC_STEPS] = {
    1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16,
};
static const int32_t mcu_cordic_hyperbolic_angles[MCU_CORDIC_HYPERBOLIC_STEPS] = {
    1151978, 535639, 263522, 131243, 131243, 65557, 32771, 16384, 8192,
    4096,    2048,   1024,   512,    256,    256,   128,   64,    32,
};

#define MCU_CORDIC_DIVISION_STEPS 17
/* Bits of the larger coordinate of a vector whose angle is measured. */
#define MCU_CORDIC_LONG_BITS 28

/* A value in steps of 2^-21 in steps of 2^-15, ties up. */
static inline int32_t mcu_cordic_round_s32(int32_t value)
{
    return mcu_shift_right_s32(mcu_add_s32(value, 1 << (MCU_CORDIC_GUARD_BITS - 1)), MCU_CORDIC_GUARD_BITS);
}

/* Sine and cosine.
 *   angle  Q15 radians, magnitude up to MCU_CORDIC_REACH; pi is 102944
 *   cosine  gets the cosine, Q15
 */
MCU_CORDIC_SHARED int32_t mcu_cordic_sin_cos_s32(int32_t angle, int32_t *cosine)
{
    int32_t z = mcu_shift_left_s32(angle, MCU_CORDIC_GUARD_BITS);
    for (int32_t turn = 4 * MCU_CORDIC_PI; turn > MCU_CORDIC_PI; turn = mcu_shift_right_s32(turn, 1)) {
        const int32_t half = mcu_shift_right_s32(turn, 1);
        if (z > half) {
            z -= turn;
        } else if (z < -half) {
            z += turn;
        }
    }
    const int32_t quarter = MCU_CORDIC_HALF_PI << MCU_CORDIC_GUARD_BITS;
    const int32_t is_reflected = z > quarter || z < -quarter;
    if (is_reflected) {
        z = (z > 0 ? MCU_CORDIC_PI : -MCU_CORDIC_PI) - z;
    }
    int32_t x = MCU_CORDIC_CIRCULAR_START;
    int32_t y = 0;
    for (uint32_t i = 0; i < MCU_CORDIC_CIRCULAR_STEPS; ++i) {
        const int32_t dx = mcu_shift_right_s32(y, i);
        const int32_t dy = mcu_shift_right_s32(x, i);
        if (z < 0) {
            x += dx;
            y -= dy;
            z += mcu_cordic_circular_angles[i];
        } else {
            x -= dx;
            y += dy;
            z -= mcu_cordic_circular_angles[i];
        }
    }
    const int32_t rounded = mcu_cordic_round_s32(x);
    *cosine = is_reflected ? -rounded : rounded;
    return mcu_cordic_round_s32(y);
}

/* Sine, Q15, of Q15 radians, magnitude up to MCU_CORDIC_REACH. */
static inline int32_t mcu_cordic_sin_s32(int32_t angle)
{
    int32_t cosine;
    return mcu_cordic_sin_cos_s32(angle, &cosine);
}

/* Cosine, Q15, of Q15 radians, magnitude up to MCU_CORDIC_REACH. */
static inline int32_t mcu_cordic_cos_s32(int32_t angle)
{
    int32_t cosine;
    (void)mcu_cordic_sin_cos_s32(angle, &cosine);
    return cosine;
}

/* atan2(y, x) in Q15 radians.
 *   y, x  -32768..32768
 *   length  gets the root of x^2 + y^2, rounded
 */
static inline int32_t mcu_cordic_polar_s32(int32_t y, int32_t x, int32_t *length)
{
    int32_t angle = 0;
    *length = 0;
    if (x == 0 && y == 0) {
        return 0;
    }
    if (x < 0) {
        angle = y < 0 ? -MCU_CORDIC_PI : MCU_CORDIC_PI;
        x = -x;
        y = -y;
    }
    uint32_t shift = 0;
    for (int32_t largest = y > x ? y : -y > x ? -y : x; largest < 1 << (MCU_CORDIC_LONG_BITS - 1); ++shift) {
        largest += largest;
    }
    x = mcu_shift_left_s32(x, shift);
    y = mcu_shift_left_s32(y, shift);
    for (uint32_t i = 0; i < MCU_CORDIC_CIRCULAR_STEPS; ++i) {
        const int32_t dx = mcu_shift_right_s32(y, i);
        const int32_t dy = mcu_shift_right_s32(x, i);
        if (y < 0) {
            x -= dx;
            y += dy;
            angle -= mcu_cordic_circular_angles[i];
        } else {
            x += dx;
            y -= dy;
            angle += mcu_cordic_circular_angles[i];
        }
    }
    int32_t scaled = (1 << shift) >> 1;
    for (uint32_t i = 0; i < MCU_CORDIC_SCALE_DIGITS; ++i) {
        const int32_t digit = mcu_cordic_scale_digits[i];
        if (digit < 0) {
            scaled -= mcu_shift_right_s32(x, (uint32_t)-digit);
        } else {
            scaled += mcu_shift_right_s32(x, (uint32_t)digit);
        }
    }
    *length = mcu_shift_right_s32(scaled, shift);
    return mcu_cordic_round_s32(angle);
}

/* exp(z) in steps of 2^-21; z is Q15, at most 0.
 * exp(z) = exp(z + k ln 2) / 2^k with 0 <= z + k ln 2 < ln 2. In x + y, the sum of the two coordinates of a
 * hyperbolic rotation, a step is one addition.
 */
MCU_CORDIC_SHARED int32_t mcu_cordic_decay_s32(int32_t z)
{
    const int32_t near = z < -MCU_CORDIC_REACH ? -MCU_CORDIC_REACH : z;
    int32_t rest = mcu_shift_left_s32(near, MCU_CORDIC_GUARD_BITS);
    uint32_t halvings = 0;
    for (uint32_t power = 5; power-- > 0;) {
        const int32_t raised = mcu_add_s32(rest, mcu_shift_left_s32(MCU_CORDIC_LN2, power));
        if (raised < MCU_CORDIC_LN2) {
            rest = raised;
            halvings |= 1U << power;
        }
    }
    int32_t u = MCU_CORDIC_HYPERBOLIC_START;
    for (uint32_t i = 0; i < MCU_CORDIC_HYPERBOLIC_STEPS; ++i) {
        const int32_t du = mcu_shift_right_s32(u, mcu_cordic_hyperbolic_shifts[i]);
        if (rest < 0) {
            u -= du;
            rest += mcu_cordic_hyperbolic_angles[i];
        } else {
            u += du;
            rest -= mcu_cordic_hyperbolic_angles[i];
        }
    }
    return mcu_shift_right_s32(u, halvings);
}

/* numerator / denominator, Q15, by linear vectoring; 0 <= numerator <= denominator < 2^29. */
MCU_CORDIC_SHARED int32_t mcu_cordic_divide_s32(int32_t numerator, int32_t denominator)
{
    int32_t rest = numerator;
    int32_t quotient = 0;
    for (uint32_t i = 1; i <= MCU_CORDIC_DIVISION_STEPS; ++i) {
        const int32_t drop = mcu_shift_right_s32(denominator, i);
        const int32_t part = mcu_shift_right_s32(MCU_CORDIC_ONE, i);
        if (rest < 0) {
            rest += drop;
            quotient -= part;
        } else {
            rest -= drop;
            quotient += part;
        }
    }
    return mcu_cordic_round_s32(quotient);
}

/* exp(z), Q15; z is Q15, at most 0. */
static inline int32_t mcu_cordic_exp_s32(int32_t z)
{
    return mcu_cordic_round_s32(mcu_cordic_decay_s32(z));
}

/* -|z|, at least -MCU_CORDIC_REACH. */
static inline int32_t mcu_cordic_negative_s32(int32_t z)
{
    const int32_t negative = z > 0 ? -z : z;
    return negative < -MCU_CORDIC_REACH ? -MCU_CORDIC_REACH : negative;
}

/* 1 / (1 + exp(-z)), Q15; z is Q15, any. */
static inline int32_t mcu_cordic_sigmoid_s32(int32_t z)
{
    const int32_t decay = mcu_cordic_decay_s32(mcu_cordic_negative_s32(z));
    const int32_t share = mcu_cordic_divide_s32(MCU_CORDIC_ONE, mcu_add_s32(MCU_CORDIC_ONE, decay));
    return z < 0 ? (1 << 15) - share : share;
}

/* tanh(z), Q15; z is Q15, any. */
static inline int32_t mcu_cordic_tanh_s32(int32_t z)
{
    const int32_t negative = mcu_cordic_negative_s32(z);
    const int32_t decay = mcu_cordic_decay_s32(mcu_add_s32(negative, negative));
    const int32_t magnitude =
        mcu_cordic_divide_s32(mcu_subtract_s32(MCU_CORDIC_ONE, decay), MCU_CORDIC_ONE + decay);
    return z < 0 ? -magnitude : magnitude;
}

#endif
