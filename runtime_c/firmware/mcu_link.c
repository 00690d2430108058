/* The link's firmware side: see mcu_link.h for the protocol.
 * Buffers are static; nothing multiplies, divides, recurses or calls through a pointer.
 */
#include "mcu_link.h"
#include "mcu_port.h"
#include "model.h"

#define INPUT_BYTES ((uint32_t)(MCU_MODEL_INPUT_COUNT * sizeof(MCU_MODEL_INPUT_TYPE)))
#define OUTPUT_BYTES ((uint32_t)(MCU_MODEL_OUTPUT_COUNT * sizeof(MCU_MODEL_OUTPUT_TYPE)))
#define DIGEST_BYTES ((uint32_t)(MCU_MODEL_LAYER_COUNT * sizeof(uint32_t)))

/* Offsets in a packet, and the longest packet: a WRITE of a whole chunk. */
#define BODY 2u
#define OFFSET_BYTES 4u
#define CRC_BYTES 4u
#define PACKET_BYTES (BODY + OFFSET_BYTES + MCU_LINK_CHUNK_BYTES + CRC_BYTES)

/* Body of the request OBSERVE; status and CRC before the bytes in its reply. */
#define OBSERVE_BYTES 12u
#define OBSERVED (BODY + 8u)

/* The longest run of a COBS block. */
#define COBS_RUN 254u

static MCU_MODEL_INPUT_TYPE input[MCU_MODEL_INPUT_COUNT];
static MCU_MODEL_OUTPUT_TYPE output[MCU_MODEL_OUTPUT_COUNT];
static uint32_t digests[MCU_MODEL_LAYER_COUNT];
static uint32_t digest_cycles;

/* What the inference that runs now is asked to keep of its layers: nothing, every digest, or one range. */
enum { KEEP_NOTHING, KEEP_DIGESTS, KEEP_RANGE };
static uint8_t kept;

/* A range of one layer's output; counts down as the bytes come. */
static struct {
    uint32_t layer;
    uint32_t before; /* bytes until the range begins */
    uint32_t left;   /* bytes until it ends */
    uint32_t crc;
    uint8_t *next; /* in `packet`: where the range's next byte goes, as long as there is space */
} range;

/* One request, then its reply in the same place. */
static uint8_t packet[PACKET_BYTES];

/* The body of the reply to HELLO, before the name; bytes only, so that there is no padding. */
#define BYTES_OF(value)                                                                                      \
    {(uint8_t)(value), (uint8_t)((value) >> 8), (uint8_t)((value) >> 16), (uint8_t)((value) >> 24)}
static const struct {
    uint8_t version;
    uint8_t chunk_bytes[2];
    uint8_t hash[16];
    uint8_t input_bytes[4];
    uint8_t output_bytes[4];
    uint8_t layers[4];
} greeting = {MCU_LINK_VERSION,       {(uint8_t)MCU_LINK_CHUNK_BYTES, (uint8_t)(MCU_LINK_CHUNK_BYTES >> 8)},
              MCU_MODEL_HASH,         BYTES_OF(INPUT_BYTES),
              BYTES_OF(OUTPUT_BYTES), BYTES_OF((uint32_t)MCU_MODEL_LAYER_COUNT)};
static const char model_name[] = MCU_MODEL_NAME;

/* CRC-32 of IEEE 802.3, reflected, four bits a step: 64 bytes of table instead of 1024. */
static const uint32_t crc_table[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};

/* Returns the CRC-32 of all bytes so far, where `crc` was that of the bytes before `data`, 0 for none. */
__attribute__((noinline)) static uint32_t mcu_link_crc32(uint32_t crc, const uint8_t *data, uint32_t bytes)
{
    crc = ~crc;
    for (const uint8_t *end = data + bytes; data != end; ++data) {
        crc ^= *data;
        crc = (crc >> 4) ^ crc_table[crc & 15u];
        crc = (crc >> 4) ^ crc_table[crc & 15u];
    }
    return ~crc;
}

static uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | ((uint32_t)from[1] << 8) | ((uint32_t)from[2] << 16) |
           ((uint32_t)from[3] << 24);
}

static uint8_t *put_u32(uint8_t *to, uint32_t value)
{
    for (uint32_t i = 0; i < 4u; ++i) {
        *to++ = (uint8_t)value;
        value >>= 8;
    }
    return to;
}

static uint8_t *put_bytes(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    for (const uint8_t *end = from + bytes; from != end; ++from) {
        *to++ = *from;
    }
    return to;
}

/* Waits for one frame and decodes it into `packet` as it arrives.
 * Returns the packet's length; 0 for an empty frame; more than PACKET_BYTES for one that is malformed.
 */
static uint32_t receive_packet(void)
{
    uint32_t length = 0;
    uint32_t left = 0; /* bytes until the next code byte */
    uint8_t zero = 0;  /* the block being read stands before a zero */
    for (uint8_t byte = mcu_port_read(); byte != 0u; byte = mcu_port_read()) {
        if (left == 0u) {
            left = (uint32_t)byte - 1u;
            const uint8_t zero_now = zero;
            zero = byte != COBS_RUN + 1u;
            if (!zero_now) {
                continue;
            }
            byte = 0;
        } else {
            --left;
        }
        if (length < PACKET_BYTES) {
            packet[length] = byte;
        }
        if (length <= PACKET_BYTES) {
            ++length;
        }
    }
    return left == 0u ? length : PACKET_BYTES + 1u;
}

/* Appends the CRC to the packet that ends before `end`, and sends it. */
static void send_packet(uint8_t *end)
{
    end = put_u32(end, mcu_link_crc32(0, packet, (uint32_t)(end - packet)));
    const uint8_t *from = packet;
    for (;;) {
        const uint8_t *stop = from;
        uint8_t code = 1;
        while (stop != end && *stop != 0u && code != COBS_RUN + 1u) {
            ++stop;
            ++code;
        }
        mcu_port_write(code);
        while (from != stop) {
            mcu_port_write(*from++);
        }
        if (from == end) {
            break;
        }
        if (code != COBS_RUN + 1u) {
            ++from;
        }
    }
    mcu_port_write(0);
}

static uint8_t *put_error(uint8_t code)
{
    packet[1] = MCU_LINK_ERROR;
    packet[BODY] = code;
    return packet + BODY + 1;
}

static uint8_t *reply_hello(void)
{
    uint8_t *to = put_bytes(packet + BODY, &greeting.version, sizeof(greeting));
    for (const char *from = model_name; *from != '\0' && to != packet + PACKET_BYTES - CRC_BYTES; ++from) {
        *to++ = (uint8_t)*from;
    }
    return to;
}

/* True when offset .. offset + bytes lies in a buffer of `size` bytes; cannot overflow. */
static uint32_t inside(uint32_t offset, uint32_t bytes, uint32_t size)
{
    return offset <= size && bytes <= size - offset;
}

static uint8_t *reply_write(uint32_t body_bytes)
{
    const uint32_t offset = get_u32(packet + BODY);
    const uint32_t bytes = body_bytes - OFFSET_BYTES;
    if (body_bytes < OFFSET_BYTES || !inside(offset, bytes, INPUT_BYTES)) {
        return put_error(MCU_LINK_ERROR_RANGE);
    }
    put_bytes((uint8_t *)input + offset, packet + BODY + OFFSET_BYTES, bytes);
    return packet + BODY;
}

static uint8_t *reply_read(uint32_t body_bytes, const uint8_t *from, uint32_t size)
{
    const uint32_t offset = get_u32(packet + BODY);
    const uint32_t bytes = (uint32_t)packet[BODY + 4] | ((uint32_t)packet[BODY + 5] << 8);
    if (body_bytes != OFFSET_BYTES + 2u || bytes > MCU_LINK_CHUNK_BYTES || !inside(offset, bytes, size)) {
        return put_error(MCU_LINK_ERROR_RANGE);
    }
    return put_bytes(packet + BODY, from + offset, bytes);
}

/* Runs the model and returns its status. */
static int run_model(uint8_t keep)
{
    kept = keep;
    digest_cycles = 0;
    mcu_inference_begin();
    const int status = MCU_MODEL_RUN(input, output);
    mcu_inference_end();
    return status;
}

static uint8_t *reply_run(uint32_t body_bytes)
{
    if (body_bytes != 1u) {
        return put_error(MCU_LINK_ERROR_RANGE);
    }
    for (uint32_t *digest = digests; digest != digests + MCU_MODEL_LAYER_COUNT; ++digest) {
        *digest = 0;
    }
    const uint8_t keep = packet[BODY] != 0u ? KEEP_DIGESTS : KEEP_NOTHING;
    const uint32_t start = mcu_port_cycles();
    const int status = run_model(keep);
    const uint32_t cycles = mcu_port_cycles() - start - digest_cycles;
    return put_u32(put_u32(packet + BODY, (uint32_t)status), cycles);
}

static uint8_t *reply_observe(uint32_t body_bytes)
{
    if (body_bytes != OBSERVE_BYTES) {
        return put_error(MCU_LINK_ERROR_RANGE);
    }
    range.layer = get_u32(packet + BODY);
    range.before = get_u32(packet + BODY + 4);
    range.left = get_u32(packet + BODY + 8);
    range.crc = 0;
    range.next = packet + OBSERVED;
    const int status = run_model(KEEP_RANGE);
    if (range.layer >= MCU_MODEL_LAYER_COUNT || range.before != 0u || range.left != 0u) {
        return put_error(MCU_LINK_ERROR_RANGE);
    }
    put_u32(put_u32(packet + BODY, (uint32_t)status), range.crc);
    return range.next;
}

static uint8_t *reply(uint32_t body_bytes)
{
    const uint8_t type = packet[1];
    packet[1] = (uint8_t)(type | MCU_LINK_REPLY);
    switch (type) {
    case MCU_LINK_HELLO:
        return reply_hello();
    case MCU_LINK_WRITE:
        return reply_write(body_bytes);
    case MCU_LINK_RUN:
        return reply_run(body_bytes);
    case MCU_LINK_READ:
        return reply_read(body_bytes, (const uint8_t *)output, OUTPUT_BYTES);
    case MCU_LINK_DIGESTS:
        return reply_read(body_bytes, (const uint8_t *)digests, DIGEST_BYTES);
    case MCU_LINK_OBSERVE:
        return reply_observe(body_bytes);
    case MCU_LINK_ECHO:
        return packet + BODY + body_bytes;
    default:
        return put_error(MCU_LINK_ERROR_TYPE);
    }
}

void mcu_link_serve(void)
{
    for (;;) {
        const uint32_t length = receive_packet();
        if (length == 0u) {
            continue;
        }
        if (length < BODY + CRC_BYTES || length > PACKET_BYTES ||
            mcu_link_crc32(0, packet, length - CRC_BYTES) != get_u32(packet + length - CRC_BYTES)) {
            packet[0] = 0;
            send_packet(put_error(MCU_LINK_ERROR_FRAME));
            continue;
        }
        send_packet(reply(length - BODY - CRC_BYTES));
    }
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void keep_range(const uint8_t *data, uint32_t bytes)
{
    const uint32_t before = smaller(range.before, bytes);
    range.before -= before;
    data += before;
    bytes = smaller(range.left, bytes - before);
    range.left -= bytes;
    range.crc = mcu_link_crc32(range.crc, data, bytes);
    const uint8_t *const full = packet + BODY + MCU_LINK_CHUNK_BYTES;
    range.next = put_bytes(range.next, data, smaller(bytes, (uint32_t)(full - range.next)));
}

void mcu_link_observe_layer(uint32_t layer, const void *data, uint32_t bytes)
{
    const uint32_t start = mcu_port_cycles();
    if (kept == KEEP_DIGESTS && layer < MCU_MODEL_LAYER_COUNT) {
        digests[layer] = mcu_link_crc32(digests[layer], (const uint8_t *)data, bytes);
    } else if (kept == KEEP_RANGE && layer == range.layer) {
        keep_range((const uint8_t *)data, bytes);
    }
    digest_cycles += mcu_port_cycles() - start;
}

void mcu_link_fault(uint32_t cause, uint32_t program_counter)
{
    for (;;) {
        packet[0] = 0;
        packet[1] = MCU_LINK_FAULT;
        send_packet(put_u32(put_u32(packet + BODY, cause), program_counter));
        while (mcu_port_read() != 0u) {
        }
    }
}

/* The empty assembly keeps the calls; its two texts keep the compiler from folding the two functions into
 * one. */
__attribute__((noinline)) void mcu_inference_begin(void)
{
    __asm__ volatile("/* inference begins */" ::: "memory");
}

__attribute__((noinline)) void mcu_inference_end(void)
{
    __asm__ volatile("/* inference ends */" ::: "memory");
}
