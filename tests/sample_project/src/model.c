/* Layer "hidden": y[o] = clamp((sum_i x[i] << w[o][i]) >> 4); layer "out": sum of even minus sum of odd, and
 * max. */
#include "model.h"

#ifdef MCU_OBSERVE_LAYERS
#include "mcu_link.h"
#define MCU_OBSERVE_LAYER(index, data, bytes) mcu_link_observe_layer((index), (data), (bytes))
#else
#define MCU_OBSERVE_LAYER(index, data, bytes) ((void)0)
#endif

static const uint8_t sample_hidden_weights[4][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7},
    {7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0},
    {1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4},
    {0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7, 0, 7},
};

/* Not constant: the start-up must copy it. */
extern int32_t sample_hidden_half;
int32_t sample_hidden_half = 8;
static int8_t sample_arena[4];

__attribute__((noinline)) static void sample_hidden(const int8_t x[16], int8_t y[4])
{
    const uint8_t *w = sample_hidden_weights[0];
    for (uint32_t o = 0; o < 4u; ++o) {
        int32_t acc = sample_hidden_half;
        for (uint32_t i = 0; i < 16u; ++i) {
            acc += (int32_t)((uint32_t)(int32_t)x[i] << *w++);
        }
        acc >>= 4;
        y[o] = (int8_t)(acc < -128 ? -128 : acc > 127 ? 127 : acc);
    }
}

__attribute__((noinline)) static void sample_out(const int8_t x[4], int32_t y[2])
{
    /* out */
    y[0] = x[0] - x[1] + x[2] - x[3];
    y[1] = x[0];
    for (uint32_t i = 1; i < 4u; ++i) {
        y[1] = x[i] > y[1] ? x[i] : y[1];
    }
}

/* declarations */
int sample_run(const int8_t input[16], int32_t output[2])
{
    /* statements */
    sample_hidden(input, sample_arena);
    MCU_OBSERVE_LAYER(0, sample_arena, sizeof(sample_arena));
    sample_out(sample_arena, output);
    MCU_OBSERVE_LAYER(1, output, (uint32_t)(2 * sizeof(output[0])));
    return 0;
}
