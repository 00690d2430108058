/* What every start-up needs after it has a stack: initialised memory. Symbols come from the linker script. */
#ifndef MCU_STARTUP_H
#define MCU_STARTUP_H

#include <stdint.h>

extern const uint32_t mcu_data_load[];
extern uint32_t mcu_data_start[];
extern uint32_t mcu_data_end[];
extern uint32_t mcu_bss_end[];

int main(void);

/* Copies .data from flash and zeroes .bss, which follows it; both are word-aligned. */
static inline void mcu_startup_memory(void)
{
    const uint32_t *from = mcu_data_load;
    uint32_t *to = mcu_data_start;
    while (to != mcu_data_end) {
        *to++ = *from++;
    }
    while (to != mcu_bss_end) {
        *to++ = 0;
    }
}

#endif
