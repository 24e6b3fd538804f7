/* A million live blocks from 10,000 distinct stacks, then slow growth until it reads another line.
 * The bits of a site's number say which of two functions calls which, 14 levels deep.
 * Arguments: sites, blocks a site; with a third one, it does not grow. */
#include "protocol.h"
#include <poll.h>

enum { LEVELS = 14, BLOCK_BYTES = 24, GROWTH_BLOCKS = 100, GROWTH_PAUSE_MS = 100 };

static long long live_count;

NOINLINE static void leaf(void)
{
    keep(malloc(BLOCK_BYTES));
    live_count++;
}

static void right(unsigned path, int level);

NOINLINE static void left(unsigned path, int level)
{
    if (level == 0)
        leaf();
    else if (path & 1)
        right(path >> 1, level - 1);
    else
        left(path >> 1, level - 1);
    keep(&path);
}

NOINLINE static void right(unsigned path, int level)
{
    if (level == 0)
        leaf();
    else if (path & 1)
        right(path >> 1, level - 1);
    else
        left(path >> 1, level - 1);
    keep(&path);
}

static void tell(long sites)
{
    truth_site("leaf", live_count * BLOCK_BYTES, live_count);
    truth_number("sites", sites);
    truth_number("live_bytes", live_count * BLOCK_BYTES);
    truth_number("live_count", live_count);
}

int main(int argc, char **argv)
{
    long sites = argc > 1 ? atol(argv[1]) : 10000;
    long blocks = argc > 2 ? atol(argv[2]) : 100;
    begin();
    for (long block = 0; block < blocks; block++)
        for (long site = 0; site < sites; site++)
            left((unsigned)site, LEVELS);
    tell(sites);
    say("done\n");
    struct pollfd input = {.fd = 0, .events = POLLIN};
    int pause_ms = argc > 3 ? -1 : GROWTH_PAUSE_MS;
    for (unsigned site = 0; poll(&input, 1, pause_ms) == 0; site++)
        for (int i = 0; i < GROWTH_BLOCKS; i++)
            left((site + (unsigned)i) % (unsigned)sites, LEVELS);
    if (!wait_line())
        return 0;
    tell(sites);
    finish();
}
