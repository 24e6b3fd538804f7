/* Sites of known behaviour, side by side: what is called leak_ keeps blocks for ever, what is called
 * fine_ does not. Works for as many seconds as its argument says, a hundred rounds a second. */
#include "protocol.h"
#include <time.h>

enum { ROUNDS_A_SECOND = 100, RING = 1024 };

struct ring {
    void *blocks[RING];
    unsigned next;
};

/* Keeps a block and lets go the one that came this many blocks before it. */
static void replace(struct ring *ring, unsigned lifetime, void *block)
{
    unsigned at = ring->next++ % lifetime;
    free(ring->blocks[at]);
    ring->blocks[at] = block;
}

static void free_all(struct ring *ring)
{
    for (unsigned i = 0; i < RING; i++) {
        free(ring->blocks[i]);
        ring->blocks[i] = NULL;
    }
    ring->next = 0;
}

NOINLINE static void leak_steady(unsigned round UNUSED)
{
    keep(malloc(1000));
}

NOINLINE static void leak_in_bursts(unsigned round)
{
    for (int i = 0; round % 200 == 150 && i < 50; i++)
        keep(malloc(1000));
}

NOINLINE static void leak_in_churn(unsigned round)
{
    static struct ring ring;
    for (int i = 0; i < 20; i++) {
        void *block = malloc(500);
        keep(block);
        if (i > 0 || round % 10 != 0)
            replace(&ring, 400, block);
    }
}

NOINLINE static void leak_half(unsigned round)
{
    static struct ring ring;
    for (int i = 0; i < 2; i++) {
        void *block = malloc(300);
        keep(block);
        if (round % 2)
            replace(&ring, 20, block);
    }
}

NOINLINE static void fine_at_start(unsigned round)
{
    if (round < 50)
        keep(malloc(20000));
}

NOINLINE static void fine_cache(unsigned round)
{
    if (round < 500)
        keep(malloc(2000));
}

NOINLINE static void fine_sessions(unsigned round UNUSED)
{
    static struct ring ring;
    replace(&ring, 300, malloc(1000));
}

NOINLINE static void fine_sawtooth(unsigned round)
{
    static struct ring ring;
    if (round % 400 == 0)
        free_all(&ring);
    replace(&ring, RING, malloc(1000));
}

NOINLINE static void fine_churn(unsigned round UNUSED)
{
    for (int i = 0; i < 20; i++) {
        void *block = malloc(100);
        keep(block);
        free(block);
    }
}

int main(int argc, char **argv)
{
    unsigned rounds = (argc > 1 ? (unsigned)atoi(argv[1]) : 30) * ROUNDS_A_SECOND;
    begin();
    for (unsigned round = 0; round < rounds; round++) {
        leak_steady(round);
        leak_in_bursts(round);
        leak_in_churn(round);
        leak_half(round);
        fine_at_start(round);
        fine_cache(round);
        fine_sessions(round);
        fine_sawtooth(round);
        fine_churn(round);
        nanosleep(&(struct timespec){.tv_nsec = 1000000000 / ROUNDS_A_SECOND}, NULL);
    }
    finish();
    return 0;
}
