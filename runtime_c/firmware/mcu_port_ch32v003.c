/* WCH CH32V003: 48 MHz from the internal oscillator, USART1 on PD5 (transmit) and PD6 (receive), the system
 * timer counts cycles. Source: CH32V003 Reference Manual V1.7, chapters 3 (RCC), 6 (PFIC and STK), 7 (GPIO),
 * 12 (USART), 16 (FLASH).
 */
#include "mcu_port.h"

#define RCC_CTLR 0x40021000u
#define RCC_CTLR_PLLON (1u << 24)
#define RCC_CTLR_PLLRDY (1u << 25)
#define RCC_CFGR0 0x40021004u
#define RCC_CFGR0_SW_PLL 2u /* the PLL doubles the 24 MHz oscillator; no prescaler */
#define RCC_CFGR0_SWS 0xCu
#define RCC_CFGR0_SWS_PLL 8u
#define RCC_APB2PCENR 0x40021018u
#define RCC_APB2PCENR_GPIOD (1u << 5)
#define RCC_APB2PCENR_USART1 (1u << 14)

#define FLASH_ACTLR 0x40022000u
#define FLASH_ACTLR_ONE_WAIT 1u /* needed above 24 MHz */

#define GPIOD_CFGLR 0x40011400u
#define GPIOD_BSHR 0x40011410u
#define PD5_PD6_MODES (0xFFu << 20)
#define PD5_ALTERNATE_10MHZ (0x9u << 20)
#define PD6_INPUT_PULLED (0x8u << 24)
#define PD6 (1u << 6)

#define USART1_STATR 0x40013800u
#define USART1_DATAR 0x40013804u
#define USART1_BRR 0x40013808u
#define USART1_CTLR1 0x4001380Cu
#define USART_STATR_RXNE (1u << 5)
#define USART_STATR_TXE (1u << 7)
#define USART_CTLR1_RE (1u << 2)
#define USART_CTLR1_TE (1u << 3)
#define USART_CTLR1_UE (1u << 13)

/* Baud rate = clock / BRR: 48 MHz / 417 = 115108 baud, 0.08 % low. */
#define USART_BRR_115200 417u

#define STK_CTLR 0xE000F000u
#define STK_CTLR_ENABLE (1u << 0)
#define STK_CTLR_CORE_CLOCK (1u << 2)
#define STK_CNTL 0xE000F008u

void mcu_port_init(void)
{
    MCU_REGISTER(FLASH_ACTLR) = FLASH_ACTLR_ONE_WAIT;
    MCU_REGISTER(RCC_CTLR) |= RCC_CTLR_PLLON;
    while ((MCU_REGISTER(RCC_CTLR) & RCC_CTLR_PLLRDY) == 0u) {
    }
    MCU_REGISTER(RCC_CFGR0) = RCC_CFGR0_SW_PLL;
    while ((MCU_REGISTER(RCC_CFGR0) & RCC_CFGR0_SWS) != RCC_CFGR0_SWS_PLL) {
    }
    MCU_REGISTER(RCC_APB2PCENR) |= RCC_APB2PCENR_GPIOD | RCC_APB2PCENR_USART1;
    MCU_REGISTER(GPIOD_BSHR) = PD6; /* pulled up, so that an open line is idle */
    MCU_REGISTER(GPIOD_CFGLR) =
        (MCU_REGISTER(GPIOD_CFGLR) & ~PD5_PD6_MODES) | PD5_ALTERNATE_10MHZ | PD6_INPUT_PULLED;
    MCU_REGISTER(USART1_BRR) = USART_BRR_115200;
    MCU_REGISTER(USART1_CTLR1) = USART_CTLR1_UE | USART_CTLR1_TE | USART_CTLR1_RE;
    MCU_REGISTER(STK_CTLR) = STK_CTLR_ENABLE | STK_CTLR_CORE_CLOCK;
}

uint8_t mcu_port_read(void)
{
    while ((MCU_REGISTER(USART1_STATR) & USART_STATR_RXNE) == 0u) {
    }
    return (uint8_t)MCU_REGISTER(USART1_DATAR);
}

void mcu_port_write(uint8_t byte)
{
    while ((MCU_REGISTER(USART1_STATR) & USART_STATR_TXE) == 0u) {
    }
    MCU_REGISTER(USART1_DATAR) = byte;
}

uint32_t mcu_port_cycles(void)
{
    return MCU_REGISTER(STK_CNTL);
}
