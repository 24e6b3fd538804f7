/* Holds so many MiB after the first line that it reads, nothing after the second, and so on. */
#include "protocol.h"

int main(int count, char **arguments)
{
    size_t bytes = (size_t)(count > 1 ? atoi(arguments[1]) : 64) << 20;
    char *held = NULL;
    begin();
    do {
        if (held) {
            free(held);
            held = NULL;
        } else {
            held = malloc(bytes);
            keep(held);
            memset(held, 1, bytes);
        }
        say("done\n");
    } while (wait_line());
    return 0;
}
