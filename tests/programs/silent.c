/* Never allocates. */
#include "protocol.h"

int main(void)
{
    begin();
    truth_number("live_bytes", 0);
    truth_number("live_count", 0);
    finish();
}
