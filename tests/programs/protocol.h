/* What every traced program says and hears: it prints "ready PID", works when it reads a line, prints
 * its truth as JSON lines and then "done", and ends when it reads another line or end of file.
 * Nothing here allocates: what it did would be counted as the program's own. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define UNUSED __attribute__((unused))

UNUSED static void say(const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (int at = 0; at < length;) {
        ssize_t written = write(1, line + at, (size_t)(length - at));
        if (written <= 0)
            _exit(99);
        at += (int)written;
    }
}

/* 1 when a line was read, 0 at end of file. */
UNUSED static int wait_line(void)
{
    char byte;
    while (read(0, &byte, 1) == 1)
        if (byte == '\n')
            return 1;
    return 0;
}

/* Without a tester behind it, the program has nothing to do. */
UNUSED static void begin(void)
{
    say("ready %d\n", (int)getpid());
    if (!wait_line())
        _exit(0);
}

UNUSED static void finish(void)
{
    say("done\n");
    wait_line();
}

/* What the caller named `site` holds now. */
UNUSED static void truth_site(const char *site, long long bytes, long long count)
{
    say("{\"truth\":\"site\",\"site\":\"%s\",\"bytes\":%lld,\"count\":%lld}\n", site, bytes, count);
}

UNUSED static void truth_number(const char *name, long long value)
{
    say("{\"truth\":\"number\",\"name\":\"%s\",\"value\":%lld}\n", name, value);
}

UNUSED static void truth_text(const char *name, const char *value)
{
    say("{\"truth\":\"text\",\"name\":\"%s\",\"value\":\"%s\"}\n", name, value);
}

/* Bytes of all that the kernel has mapped for this process. By the process's number, because what
 * `self` means is up to whoever has mounted /proc. */
UNUSED static long long all_mapped_bytes(void)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)getpid());
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length <= 0) {
        dprintf(2, "cannot read %s: %s\n", path, strerror(errno));
        _exit(96);
    }
    close(file);
    text[length] = 0;
    return strtoll(text, NULL, 10) * sysconf(_SC_PAGESIZE);
}

/* Makes the compiler believe that somebody uses the block. */
UNUSED static void keep(const void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

#endif
