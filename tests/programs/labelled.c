/* A service with many sites, of which four leak, and slowly: what is called leak_ keeps blocks for ever, what
 * is called fine_ does not, whatever it holds. Works for as many seconds as its argument says, a hundred
 * rounds a second. */
#include "protocol.h"
#include <time.h>

enum { ROUNDS_A_SECOND = 100, WARM_UP = 3 * ROUNDS_A_SECOND };

/* Takes everything at the beginning. */
#define AT_START(name, size, count)                                                            \
    NOINLINE static void fine_##name(unsigned round)                                           \
    {                                                                                          \
        for (int i = 0; round == 0 && i < (count); i++)                                        \
            keep(malloc(size));                                                                \
    }

/* Fills in the first seconds, and is full then. */
#define CACHE(name, size)                                                                      \
    NOINLINE static void fine_##name(unsigned round)                                           \
    {                                                                                          \
        if (round < WARM_UP)                                                                   \
            keep(malloc(size));                                                                \
    }

/* Blocks that live for so many rounds. */
#define SESSIONS(name, size, rounds)                                                           \
    NOINLINE static void fine_##name(unsigned round)                                           \
    {                                                                                          \
        static void *ring[rounds];                                                             \
        free(ring[round % (rounds)]);                                                          \
        ring[round % (rounds)] = malloc(size);                                                 \
    }

/* Collects for so many rounds, and lets all go. */
#define BATCH(name, size, rounds)                                                              \
    NOINLINE static void fine_##name(unsigned round)                                           \
    {                                                                                          \
        static void *batch[rounds];                                                            \
        for (int i = 0; round % (rounds) == 0 && i < (rounds); i++) {                          \
            free(batch[i]);                                                                    \
            batch[i] = NULL;                                                                   \
        }                                                                                      \
        batch[round % (rounds)] = malloc(size);                                                \
    }

/* Doubles when it is full, and begins again. */
#define TABLE(name, size)                                                                      \
    NOINLINE static void fine_##name(unsigned round)                                           \
    {                                                                                          \
        static void *table;                                                                    \
        if (round % 500 == 0 || (round % 500 & (round % 500 - 1)) == 0)                        \
            table = realloc(table, (size) * (round % 500 + 1));                                \
    }

#define LEAK(name, size, every)                                                                \
    NOINLINE static void leak_##name(unsigned round)                                           \
    {                                                                                          \
        if (round % (every) == 0)                                                              \
            keep(malloc(size));                                                                \
    }

AT_START(configuration, 3000, 100)
AT_START(dictionary, 64, 20000)
AT_START(arena, 1 << 20, 4)
AT_START(threads, 65536, 16)
AT_START(routes, 200, 1500)
CACHE(cache_of_pages, 8000)
CACHE(cache_of_users, 2000)
CACHE(cache_of_images, 20000)
CACHE(interned, 900)
SESSIONS(logins, 2500, 400)
SESSIONS(requests, 6000, 100)
SESSIONS(replies, 12000, 50)
SESSIONS(timers, 500, 250)
BATCH(batch_of_rows, 1500, 300)
BATCH(log_lines, 700, 500)
BATCH(metrics, 400, 200)
TABLE(index, 3000)
TABLE(buffer, 1000)
LEAK(header, 90, 1)
LEAK(listener, 300, 4)
LEAK(error_text, 1200, 25)
LEAK(certificate, 9000, 100)

int main(int argc, char **argv)
{
    unsigned rounds = (argc > 1 ? (unsigned)atoi(argv[1]) : 60) * ROUNDS_A_SECOND;
    begin();
    for (unsigned round = 0; round < rounds; round++) {
        fine_configuration(round);
        fine_dictionary(round);
        fine_arena(round);
        fine_threads(round);
        fine_routes(round);
        fine_cache_of_pages(round);
        fine_cache_of_users(round);
        fine_cache_of_images(round);
        fine_interned(round);
        fine_logins(round);
        fine_requests(round);
        fine_replies(round);
        fine_timers(round);
        fine_batch_of_rows(round);
        fine_log_lines(round);
        fine_metrics(round);
        fine_index(round);
        fine_buffer(round);
        leak_header(round);
        leak_listener(round);
        leak_error_text(round);
        leak_certificate(round);
        nanosleep(&(struct timespec){.tv_nsec = 1000000000 / ROUNDS_A_SECOND}, NULL);
    }
    finish();
    return 0;
}
