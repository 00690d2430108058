/* The two library functions that compilers call on their own, for firmware linked without a C library.
 * Writing through a volatile pointer keeps a compiler from turning the loop into a call of itself.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

void *memcpy(void *to, const void *from, size_t bytes)
{
    volatile uint8_t *target = to;
    const uint8_t *source = from;
    for (const uint8_t *end = source + bytes; source != end; ++source) {
        *target++ = *source;
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    volatile uint8_t *target = to;
    for (const volatile uint8_t *end = target + bytes; target != end; ++target) {
        *target = (uint8_t)value;
    }
    return to;
}
