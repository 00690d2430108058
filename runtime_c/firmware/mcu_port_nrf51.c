/* Nordic nRF51822: 16 MHz crystal, UART0 on the pins of the BBC micro:bit's interface chip, TIMER0 counts
 * cycles. Source: nRF51 Series Reference Manual v3.0, chapters "Clock management (CLOCK)", "General-Purpose
 * Input/Output (GPIO)", "Universal Asynchronous Receiver/Transmitter (UART)", "Timer/counter (TIMER)". The
 * core has no SysTick. Pins: BBC micro:bit v1.3B schematics, TGT_TX on P0.24 and TGT_RX on P0.25.
 */
#include "mcu_port.h"

#define CLOCK_TASKS_HFCLKSTART 0x40000000u
#define CLOCK_EVENTS_HFCLKSTARTED 0x40000100u

#define GPIO_OUTSET 0x50000508u
#define GPIO_DIRSET 0x50000518u
#define TX_PIN 24u
#define RX_PIN 25u

#define UART_TASKS_STARTRX 0x40002000u
#define UART_TASKS_STARTTX 0x40002008u
#define UART_EVENTS_RXDRDY 0x40002108u
#define UART_EVENTS_TXDRDY 0x4000211Cu
#define UART_ENABLE 0x40002500u
#define UART_PSELTXD 0x4000250Cu
#define UART_PSELRXD 0x40002514u
#define UART_RXD 0x40002518u
#define UART_TXD 0x4000251Cu
#define UART_BAUDRATE 0x40002524u
#define UART_ENABLED 4u
#define UART_115200 0x01D7E000u

#define TIMER_TASKS_START 0x40008000u
#define TIMER_TASKS_CAPTURE0 0x40008040u
#define TIMER_BITMODE 0x40008508u
#define TIMER_PRESCALER 0x40008510u
#define TIMER_CC0 0x40008540u
#define TIMER_32_BITS 3u

void mcu_port_init(void)
{
    MCU_REGISTER(CLOCK_EVENTS_HFCLKSTARTED) = 0;
    MCU_REGISTER(CLOCK_TASKS_HFCLKSTART) = 1;
    while (MCU_REGISTER(CLOCK_EVENTS_HFCLKSTARTED) == 0u) {
    }
    MCU_REGISTER(GPIO_OUTSET) = 1u << TX_PIN; /* an idle line is high */
    MCU_REGISTER(GPIO_DIRSET) = 1u << TX_PIN;
    MCU_REGISTER(UART_PSELTXD) = TX_PIN;
    MCU_REGISTER(UART_PSELRXD) = RX_PIN;
    MCU_REGISTER(UART_BAUDRATE) = UART_115200;
    MCU_REGISTER(UART_ENABLE) = UART_ENABLED;
    MCU_REGISTER(UART_TASKS_STARTTX) = 1;
    MCU_REGISTER(UART_TASKS_STARTRX) = 1;
    MCU_REGISTER(TIMER_BITMODE) = TIMER_32_BITS;
    MCU_REGISTER(TIMER_PRESCALER) = 0; /* 16 MHz, as the core */
    MCU_REGISTER(TIMER_TASKS_START) = 1;
}

uint8_t mcu_port_read(void)
{
    while (MCU_REGISTER(UART_EVENTS_RXDRDY) == 0u) {
    }
    MCU_REGISTER(UART_EVENTS_RXDRDY) = 0; /* before the byte is taken, so that the next one's event is kept */
    return (uint8_t)MCU_REGISTER(UART_RXD);
}

void mcu_port_write(uint8_t byte)
{
    MCU_REGISTER(UART_EVENTS_TXDRDY) = 0;
    MCU_REGISTER(UART_TXD) = byte;
    while (MCU_REGISTER(UART_EVENTS_TXDRDY) == 0u) {
    }
}

uint32_t mcu_port_cycles(void)
{
    MCU_REGISTER(TIMER_TASKS_CAPTURE0) = 1;
    return MCU_REGISTER(TIMER_CC0);
}
