/* SiFive FE310-G000 and FE310-G002: 16 MHz crystal, UART0.
 * Source: SiFive FE310-G002 Manual v1p5: chapter 6 (clocks: hfrosccfg, hfxosccfg, pllcfg), chapter 17 (GPIO,
 * table 52: UART0 is I/O function 0 of pins 16 and 17), chapter 18 (UART). The FE310-G000 has them alike.
 */
#include "mcu_port.h"

#define HFXOSCCFG 0x10008004u
#define HFXOSC_ENABLE (1u << 30)
#define HFXOSC_READY (1u << 31)
#define PLLCFG 0x10008008u
#define PLL_SELECT (1u << 16)
#define PLL_REFERENCE_CRYSTAL (1u << 17)
#define PLL_BYPASS (1u << 18)

#define GPIO_IOF_ENABLE 0x10012038u
#define GPIO_IOF_SELECT 0x1001203Cu
#define GPIO_UART0_PINS ((1u << 16) | (1u << 17))

#define UART_TXDATA 0x10013000u
#define UART_RXDATA 0x10013004u
#define UART_TXCTRL 0x10013008u
#define UART_RXCTRL 0x1001300Cu
#define UART_DIV 0x10013018u
#define UART_ENABLE 1u
#define UART_WAIT (1u << 31) /* transmitter full, receiver empty */

/* Baud rate = clock / (div + 1): 16 MHz / 139 = 115108 baud, 0.08 % low. */
#define UART_DIV_115200 138u

void mcu_port_init(void)
{
    MCU_REGISTER(HFXOSCCFG) = HFXOSC_ENABLE;
    while ((MCU_REGISTER(HFXOSCCFG) & HFXOSC_READY) == 0u) {
    }
    /* Crystal around the PLL; the reset clock, a ring oscillator, is too far off for a UART. */
    MCU_REGISTER(PLLCFG) = PLL_REFERENCE_CRYSTAL | PLL_BYPASS;
    MCU_REGISTER(PLLCFG) = PLL_REFERENCE_CRYSTAL | PLL_BYPASS | PLL_SELECT;
    MCU_REGISTER(GPIO_IOF_SELECT) &= ~GPIO_UART0_PINS;
    MCU_REGISTER(GPIO_IOF_ENABLE) |= GPIO_UART0_PINS;
    MCU_REGISTER(UART_DIV) = UART_DIV_115200;
    MCU_REGISTER(UART_TXCTRL) = UART_ENABLE;
    MCU_REGISTER(UART_RXCTRL) = UART_ENABLE;
}

uint8_t mcu_port_read(void)
{
    uint32_t data = MCU_REGISTER(UART_RXDATA);
    while ((data & UART_WAIT) != 0u) {
        data = MCU_REGISTER(UART_RXDATA);
    }
    return (uint8_t)data;
}

void mcu_port_write(uint8_t byte)
{
    while ((MCU_REGISTER(UART_TXDATA) & UART_WAIT) != 0u) {
    }
    MCU_REGISTER(UART_TXDATA) = byte;
}

uint32_t mcu_port_cycles(void)
{
    uint32_t cycles;
    __asm__ volatile("csrr %0, mcycle" : "=r"(cycles));
    return cycles;
}
