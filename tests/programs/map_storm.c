/* Makes and removes 20,000 mappings as fast as it can and keeps every hundredth.
 * usage: map_storm [tails], with which mappings are longer, and only the first page is kept. */
#include "protocol.h"
#include <sys/mman.h>

enum { MAPPINGS = 20000, KEPT_EACH = 100, KEPT_BYTES = 4096, LONG_BYTES = 16 * KEPT_BYTES };

NOINLINE static void map_storm(size_t bytes)
{
    for (int i = 0; i < MAPPINGS; i++) {
        char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (i % KEPT_EACH)
            munmap(start, bytes);
        else if (bytes > KEPT_BYTES)
            munmap(start + KEPT_BYTES, bytes - KEPT_BYTES);
    }
}

int main(int count, char **arguments)
{
    begin();
    map_storm(count > 1 && !strcmp(arguments[1], "tails") ? LONG_BYTES : KEPT_BYTES);
    truth_site("map_storm", MAPPINGS / KEPT_EACH * KEPT_BYTES, MAPPINGS / KEPT_EACH);
    truth_number("mapped_bytes", MAPPINGS / KEPT_EACH * KEPT_BYTES);
    finish();
}
