/* The host as a board: the link over standard input and output; ends with its input. POSIX. */
#include <stdlib.h>
#include <unistd.h>

#include "mcu_port.h"

/* Replies are gathered until their delimiter, a zero byte: one system call a frame instead of one a byte. */
static uint8_t received[4096];
static uint8_t *received_next = received;
static uint8_t *received_end = received;
static uint8_t sent[4096];
static uint8_t *sent_next = sent;

void mcu_port_init(void)
{
}

uint8_t mcu_port_read(void)
{
    if (received_next == received_end) {
        const ssize_t bytes = read(STDIN_FILENO, received, sizeof(received));
        if (bytes <= 0) {
            exit(EXIT_SUCCESS);
        }
        received_next = received;
        received_end = received + bytes;
    }
    return *received_next++;
}

void mcu_port_write(uint8_t byte)
{
    *sent_next++ = byte;
    if (byte != 0u && sent_next != sent + sizeof(sent)) {
        return;
    }
    const uint8_t *from = sent;
    while (from != sent_next) {
        const ssize_t bytes = write(STDOUT_FILENO, from, (size_t)(sent_next - from));
        if (bytes <= 0) {
            exit(EXIT_FAILURE);
        }
        from += bytes;
    }
    sent_next = sent;
}

uint32_t mcu_port_cycles(void)
{
    return 0;
}
