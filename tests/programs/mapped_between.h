/* What of a range of addresses the kernel says is mapped. */
#include "protocol.h"

/* Bytes between these addresses that /proc/self/maps has. Allocates nothing. */
UNUSED static long long mapped_between(char *start, char *end)
{
    static char text[1 << 20];
    long long bytes = 0;
    size_t length = 0;
    int maps = open("/proc/self/maps", O_RDONLY);
    for (ssize_t got; (got = read(maps, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(maps);
    text[length] = 0;
    for (char *line = text; line && *line; line = strchr(line, '\n')) {
        char *from, *to;
        line += *line == '\n';
        if (sscanf(line, "%p-%p", (void **)&from, (void **)&to) != 2)
            break;
        from = from > start ? from : start;
        to = to < end ? to : end;
        if (to > from)
            bytes += to - from;
    }
    return bytes;
}
