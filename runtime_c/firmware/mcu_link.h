/* The link between host and firmware: framed requests and replies over a UART, one at a time.
 *
 * Packet   sequence (1 byte), type (1), body, CRC-32 of all before it (4, little-endian, as in zlib)
 * Frame    the packet in COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM
 *          Transactions on Networking 7(2), 1999), then one zero byte
 *
 * The host sends a request and waits for its reply, so a receiver never holds more than one frame and no
 * UART FIFO can overflow. A reply carries the sequence number of its request and its type | 0x80. All
 * requests may be repeated: a host that hears nothing sends the same request again.
 *
 * request (type)   body                            body of the reply
 * HELLO   0x01     -                               version 1, chunk bytes 2, hash 16, input bytes 4,
 *                                                  output bytes 4, layers 4, name (cut to what fits)
 * WRITE   0x02     offset 4, input bytes           -
 * RUN     0x03     1: digest each layer, 0: not    status 4, cycles 4 (without the time of the digests)
 * READ    0x04     offset 4, length 2              those output bytes
 * DIGESTS 0x05     offset 4, length 2              those bytes of the table of layer CRC-32s (4 a layer)
 * ECHO    0x06     any bytes                       the same bytes
 * OBSERVE 0x07     layer 4, offset 4, length 4     status 4, CRC-32 of those bytes of the layer's output 4,
 *                                                  and the first of them, up to chunk bytes - 8
 * any error        -                               type 0xFF: one MCU_LINK_ERROR_ code
 * a trap           -                               type 0xFE: cause 4, program counter 4; then no other
 * answer
 *
 * OBSERVE runs the model again and looks at one range of one layer's output while it passes, so that no copy
 * of a layer is ever kept; a host that knows the right bytes finds a wrong one by halving the range.
 *
 * Integers are little-endian. No offset or length can make the firmware touch memory outside the input, the
 * output and the digests.
 * Twin: compiler/mcucompile/targets/link.py
 */
#ifndef MCU_LINK_H
#define MCU_LINK_H

#include <stdint.h>

#define MCU_LINK_VERSION 1u

/* Most data bytes in one request or reply; at least 64. */
#ifndef MCU_LINK_CHUNK_BYTES
#define MCU_LINK_CHUNK_BYTES 64u
#endif

enum {
    MCU_LINK_HELLO = 0x01,
    MCU_LINK_WRITE = 0x02,
    MCU_LINK_RUN = 0x03,
    MCU_LINK_READ = 0x04,
    MCU_LINK_DIGESTS = 0x05,
    MCU_LINK_ECHO = 0x06,
    MCU_LINK_OBSERVE = 0x07,
    MCU_LINK_REPLY = 0x80,
    MCU_LINK_FAULT = 0xFE,
    MCU_LINK_ERROR = 0xFF
};

enum {
    MCU_LINK_ERROR_FRAME = 1, /* not COBS, too long or too short, or a wrong CRC; sequence 0 */
    MCU_LINK_ERROR_TYPE = 2,  /* unknown request */
    MCU_LINK_ERROR_RANGE = 3  /* body of the wrong size, or offset and length outside the buffer */
};

/* Answers requests for ever. */
void mcu_link_serve(void);

/* Called by the model after each layer (MCU_OBSERVE_LAYER), or several times, each with the next bytes of the
 * layer's output: keeps their CRC-32.
 *   layer  index, 0 .. MCU_MODEL_LAYER_COUNT - 1; others are ignored
 *   data   the layer's output, bytes long
 */
void mcu_link_observe_layer(uint32_t layer, const void *data, uint32_t bytes);

/* Tells the host that the core trapped, in answer to everything it says. Never returns. */
void mcu_link_fault(uint32_t cause, uint32_t program_counter);

/* Called around each inference, so that an emulator or debugger sees where it begins and ends. */
void mcu_inference_begin(void);
void mcu_inference_end(void);

#endif
