/* Makes code while it runs, as a JIT compiler does, that calls malloc; and tells of it in a perf map,
 * or in something that is none. Its truth: what it holds through that code. The argument: how.
 * good, malformed, left (behind at the end), none; fifo, symlink, foreign, old: no map that may be read; large,
 * late: no map, and the code lies in a file that is larger than anybody reads, mapped late or not. */
#include "protocol.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { BLOCKS = 40, BLOCK_BYTES = 1000, MALFORMED = 3 };

static char path[64];

static void write_map(const char *name, const void *code, const char *rest)
{
    char text[512];
    int length = snprintf(text, sizeof text, "%s%lx %x a name that is replaced\n%lx %x %s\n", rest,
                          (unsigned long)code, 64, (unsigned long)code, 64, name);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (file < 0 || write(file, text, (size_t)length) != length)
        _exit(2);
    close(file);
}

/* push rbp; mov rbp, rsp; call rsi; pop rbp; ret */
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd6, 0x5d, 0xc3};

static void *made_in_memory(void)
{
    void *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        _exit(1);
    memcpy(made, code, sizeof code);
    if (mprotect(made, 4096, PROT_READ | PROT_EXEC))
        _exit(1);
    return made;
}

/* As .NET does it: a file without a name, with holes. */
static void *made_in_a_large_file(void)
{
    off_t bytes = (off_t)2 << 40, place = bytes / 2;
    int file = memfd_create("doublemapper", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, bytes) || pwrite(file, code, sizeof code, place) != sizeof code)
        _exit(4);
    void *made = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, place);
    if (made == MAP_FAILED)
        _exit(4);
    close(file);
    return made;
}

int main(int count, char **arguments)
{
    const char *how = count > 1 ? arguments[1] : "none";
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    void *made = !strcmp(how, "large") ? made_in_a_large_file() : made_in_memory();
    begin();
    if (!strcmp(how, "late"))
        made = made_in_a_large_file();
    if (!strcmp(how, "fifo") && mkfifo(path, 0644))
        return 3;
    if (!strcmp(how, "symlink") && symlink("/etc/passwd", path))
        return 3;
    if (!strcmp(how, "good") || !strcmp(how, "left"))
        write_map("made_at_run_time", made, "");
    if (!strcmp(how, "foreign")) {
        write_map("made_at_run_time", made, "");
        if (chown(path, 12345, 12345))
            return 3;
    }
    if (!strcmp(how, "old")) {
        struct timespec times[2] = {{.tv_sec = time(NULL) - 3600}, {.tv_sec = time(NULL) - 3600}};
        write_map("made_at_run_time", made, "");
        if (utimensat(AT_FDCWD, path, times, 0))
            return 3;
    }
    if (!strcmp(how, "malformed"))
        write_map("made_at_run_time", made, "no line\n12 zz what\n1000 0 nothing\n");
    void *(*call)(size_t, void *(*)(size_t)) = (void *(*)(size_t, void *(*)(size_t)))made;
    for (int i = 0; i < BLOCKS; i++)
        keep(call(BLOCK_BYTES, malloc));
    truth_site("made_at_run_time", (long long)BLOCKS * BLOCK_BYTES, BLOCKS);
    truth_number("malformed", strcmp(how, "malformed") ? 0 : MALFORMED);
    finish();
    if (strcmp(how, "left"))
        unlink(path);
    return 0;
}
