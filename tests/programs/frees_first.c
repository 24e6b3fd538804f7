/* A thread that frees before it allocates: glibc gives it an arena then, inside free. */
#include "protocol.h"
#include <fcntl.h>
#include <pthread.h>

enum { BLOCKS = 40, BYTES = 500 };

static void *blocks[BLOCKS];
static pthread_barrier_t freed;

NOINLINE static void allocate(void)
{
    for (int i = 0; i < BLOCKS; i++)
        keep(blocks[i] = malloc(BYTES));
}

NOINLINE static void *free_some(void *unused)
{
    for (int i = 0; i < BLOCKS / 2; i++)
        free(blocks[i]);
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&freed);
    return unused;
}

/* Mappings that begin where arenas do. */
static long long arenas(void)
{
    static char text[1 << 16];
    int file = open("/proc/self/maps", O_RDONLY);
    ssize_t length = 0, got;
    while ((got = read(file, text + length, sizeof text - 1 - (size_t)length)) > 0)
        length += got;
    close(file);
    text[length] = 0;
    long long found = 0;
    for (char *line = text; *line; line = strchr(line, '\n') + 1)
        if (strtoul(line, NULL, 16) % (64UL << 20) == 0)
            found++;
    return found;
}

int main(void)
{
    begin();
    pthread_t thread;
    pthread_barrier_init(&freed, NULL, 2);
    allocate();
    pthread_create(&thread, NULL, free_some, NULL);
    pthread_barrier_wait(&freed);
    truth_number("arenas", arenas());
    truth_site("allocate", BLOCKS / 2 * BYTES, BLOCKS / 2);
    finish();
    pthread_barrier_wait(&freed);
    pthread_join(thread, NULL);
    return 0;
}
