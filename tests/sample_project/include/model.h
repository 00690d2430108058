/* A two-layer network written by hand, in the shape of a generated one: 16 int8 -> 4 int8 -> 2 int32. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#define MCU_MODEL_NAME "sample"
#define MCU_MODEL_HASH                                                                                       \
    {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF}
#define MCU_MODEL_RUN sample_run
#define MCU_MODEL_INPUT_TYPE int8_t
#define MCU_MODEL_INPUT_COUNT 16
#define MCU_MODEL_OUTPUT_TYPE int32_t
#define MCU_MODEL_OUTPUT_COUNT 2
#define MCU_MODEL_LAYER_COUNT 2

int sample_run(const int8_t input[16], int32_t output[2]);

#endif
