/* STM32F401: the internal 16 MHz oscillator (the clock after reset), USART2 on PA2 and PA3, DWT cycle
 * counter. Source: RM0368 (STM32F401xB/C and xD/E reference manual), sections 6.3 (RCC), 8.4 (GPIO), 19.6
 * (USART); STM32F401xD/xE data sheet, table 9 (alternate function 7 of PA2, PA3); UM1724 (Nucleo-64 boards),
 * section 6.8: USART2 goes to the ST-LINK's virtual port; Armv7-M Architecture Reference Manual, sections
 * C1.6.5 and C1.8.8.
 */
#include "mcu_port.h"

#define RCC_AHB1ENR 0x40023830u
#define RCC_AHB1ENR_GPIOA (1u << 0)
#define RCC_APB1ENR 0x40023840u
#define RCC_APB1ENR_USART2 (1u << 17)

#define GPIOA_MODER 0x40020000u
#define GPIOA_AFRL 0x40020020u
#define PA2_PA3_MODES (0xFu << 4)
#define PA2_PA3_ALTERNATE (0xAu << 4)
#define PA2_PA3_FUNCTIONS (0xFFu << 8)
#define PA2_PA3_USART2 (0x77u << 8)

#define USART2_SR 0x40004400u
#define USART2_DR 0x40004404u
#define USART2_BRR 0x40004408u
#define USART2_CR1 0x4000440Cu
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TXE (1u << 7)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_UE (1u << 13)

/* Baud rate = clock / BRR with oversampling by 16: 16 MHz / 139 = 115108 baud, 0.08 % low. */
#define USART_BRR_115200 139u

#define DEMCR 0xE000EDFCu
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL 0xE0001000u
#define DWT_CTRL_CYCCNTENA (1u << 0)
#define DWT_CYCCNT 0xE0001004u

void mcu_port_init(void)
{
    MCU_REGISTER(RCC_AHB1ENR) |= RCC_AHB1ENR_GPIOA;
    MCU_REGISTER(RCC_APB1ENR) |= RCC_APB1ENR_USART2;
    MCU_REGISTER(GPIOA_AFRL) = (MCU_REGISTER(GPIOA_AFRL) & ~PA2_PA3_FUNCTIONS) | PA2_PA3_USART2;
    MCU_REGISTER(GPIOA_MODER) = (MCU_REGISTER(GPIOA_MODER) & ~PA2_PA3_MODES) | PA2_PA3_ALTERNATE;
    MCU_REGISTER(USART2_BRR) = USART_BRR_115200;
    MCU_REGISTER(USART2_CR1) = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE;
    MCU_REGISTER(DEMCR) |= DEMCR_TRCENA;
    MCU_REGISTER(DWT_CTRL) |= DWT_CTRL_CYCCNTENA;
}

uint8_t mcu_port_read(void)
{
    while ((MCU_REGISTER(USART2_SR) & USART_SR_RXNE) == 0u) {
    }
    return (uint8_t)MCU_REGISTER(USART2_DR);
}

void mcu_port_write(uint8_t byte)
{
    while ((MCU_REGISTER(USART2_SR) & USART_SR_TXE) == 0u) {
    }
    MCU_REGISTER(USART2_DR) = byte;
}

uint32_t mcu_port_cycles(void)
{
    return MCU_REGISTER(DWT_CYCCNT);
}
