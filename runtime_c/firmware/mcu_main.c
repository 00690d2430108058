/* The firmware: answers the host for ever. */
#include "mcu_link.h"
#include "mcu_port.h"

int main(void)
{
    mcu_port_init();
    mcu_link_serve();
    return 0;
}
