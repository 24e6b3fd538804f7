/* Makes and removes 20,000 mappings as fast as it can and keeps every hundredth. */
#include "protocol.h"
#include <sys/mman.h>

enum { MAPPINGS = 20000, KEPT_EACH = 100, MAPPING_BYTES = 4096 };

NOINLINE static void map_storm(void)
{
    for (int i = 0; i < MAPPINGS; i++) {
        void *start = mmap(NULL, MAPPING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (i % KEPT_EACH)
            munmap(start, MAPPING_BYTES);
    }
}

int main(void)
{
    begin();
    map_storm();
    truth_site("map_storm", MAPPINGS / KEPT_EACH * MAPPING_BYTES, MAPPINGS / KEPT_EACH);
    truth_number("mapped_bytes", MAPPINGS / KEPT_EACH * MAPPING_BYTES);
    finish();
}
