/* What the link needs from a board: bytes in, bytes out, a cycle counter. One source file per chip. */
#ifndef MCU_PORT_H
#define MCU_PORT_H

#include <stdint.h>

/* A memory-mapped 32-bit register. */
#define MCU_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Sets up the clock, the UART (115200 baud, 8 data bits, no parity, 1 stop bit) and the cycle counter. */
void mcu_port_init(void);

/* Waits for one byte from the host. */
uint8_t mcu_port_read(void);

/* Sends one byte to the host, waiting while the transmitter is full. */
void mcu_port_write(uint8_t byte);

/* Core cycles, modulo 2^32; always 0 where there is no counter. */
uint32_t mcu_port_cycles(void);

#endif
