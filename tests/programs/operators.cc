// Every form of new and delete, each from a caller of its own, with bad_alloc between: one call site
// asks by turns for what it gets and for what nobody can give. Argument "no_throw": without these.
#include "protocol.h"
#include <new>

namespace {

constexpr int blocks = 30;
constexpr size_t bytes = 1024; // a multiple of the alignment, to which libstdc++ rounds up
constexpr std::align_val_t alignment{64};
constexpr size_t too_many = size_t{1} << 60;

long long live_bytes, live_count, allocated_bytes, allocated_count, freed_bytes, freed_count, caught;

void *counted(void *block, size_t size)
{
    if (!block)
        _exit(98);
    allocated_bytes += size;
    allocated_count++;
    live_bytes += size;
    live_count++;
    return block;
}

void released(size_t size)
{
    freed_bytes += size;
    freed_count++;
    live_bytes -= size;
    live_count--;
}

#define EACH_FORM(DO)                                                                        \
    DO(plain, ::operator new(bytes), ::operator delete(block))                               \
    DO(sized, ::operator new(bytes), ::operator delete(block, bytes))                        \
    DO(array, ::operator new[](bytes), ::operator delete[](block))                           \
    DO(array_sized, ::operator new[](bytes), ::operator delete[](block, bytes))              \
    DO(nothrow, ::operator new(bytes, std::nothrow), ::operator delete(block, std::nothrow)) \
    DO(array_nothrow, ::operator new[](bytes, std::nothrow), ::operator delete[](block, std::nothrow)) \
    DO(aligned, ::operator new(bytes, alignment), ::operator delete(block, alignment))       \
    DO(aligned_sized, ::operator new(bytes, alignment), ::operator delete(block, bytes, alignment)) \
    DO(array_aligned, ::operator new[](bytes, alignment), ::operator delete[](block, alignment)) \
    DO(aligned_nothrow, ::operator new(bytes, alignment, std::nothrow), ::operator delete(block, alignment, std::nothrow))

#define DEFINE(name, allocate, free)                    \
    extern "C" NOINLINE void leak_##name()              \
    {                                                   \
        for (int i = 0; i < blocks; i++)                \
            keep(counted(allocate, bytes));             \
    }                                                   \
    extern "C" NOINLINE void return_##name()              \
    {                                                   \
        for (int i = 0; i < blocks; i++) {              \
            void *block = counted(allocate, bytes);     \
            keep(block);                                \
            free;                                       \
            released(bytes);                            \
        }                                               \
    }

EACH_FORM(DEFINE)

extern "C" NOINLINE void leak_by_turns()
{
    for (int i = 0; i < 2 * blocks; i++) {
        size_t size = i % 2 ? too_many : bytes;
        try {
            void *block = ::operator new(size);
            keep(counted(block, size));
        } catch (const std::bad_alloc &) {
            caught++;
        }
    }
}

extern "C" NOINLINE void refused_quietly()
{
    for (int i = 0; i < blocks; i++)
        if (::operator new(too_many, std::nothrow))
            _exit(97);
}

} // namespace

#define LEAK(name, allocate, free) leak_##name();
#define FREE(name, allocate, free) return_##name();
#define TELL(name, allocate, free) truth_site("leak_" #name, blocks * bytes, blocks);

int main(int argc, char **argv)
{
    // mimalloc's operators abort where others throw.
    bool throws = argc < 2 || strcmp(argv[1], "no_throw") != 0;
    // The first exception of a static program allocates tables for all that follow.
    try {
        throw caught;
    } catch (long long) {
    }
    begin();
    EACH_FORM(FREE)
    if (throws) {
        leak_by_turns();
        refused_quietly();
        truth_site("leak_by_turns", blocks * bytes, blocks);
    }
    EACH_FORM(LEAK)
    EACH_FORM(FREE)
    EACH_FORM(TELL)
    truth_number("caught", caught);
    truth_number("live_bytes", live_bytes);
    truth_number("unmatched_frees", 0);
    finish();
}
