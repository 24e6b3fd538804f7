// Calls that an exception ends, far down the stack, and then calls whose frames lie over what these have left
// there: operator new, which the C library's mmap follows, and a pair of functions of the program's own.
#include "mapped_between.h"
#include <new>
#include <stdexcept>
#include <sys/mman.h>

namespace {

constexpr int rounds = 10;
constexpr size_t mapped = 65536;
constexpr size_t too_many = size_t{1} << 62;

long long caught;

} // namespace

extern "C" NOINLINE void *pool_new(int fails)
{
    if (fails)
        throw std::runtime_error("the pool is full");
    return malloc(64);
}

extern "C" NOINLINE void pool_delete(void *object)
{
    free(object);
}

extern "C" NOINLINE void fail_below(int depth, int in_pool)
{
    volatile char frame[200];
    frame[0] = (char)depth;
    if (depth > 0)
        fail_below(depth - 1, in_pool);
    else if (in_pool)
        keep(pool_new(1));
    else
        keep(::operator new(too_many));
    frame[1] = frame[0];
}

static void fail(int in_pool)
{
    try {
        fail_below(20, in_pool);
    } catch (const std::bad_alloc &) {
        caught++;
    } catch (const std::runtime_error &) {
        caught++;
    }
}

// The frames of both reach over all that has failed.
extern "C" NOINLINE long long map_below()
{
    volatile char frame[32768];
    frame[0] = 1;
    char *start = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    frame[1] = frame[0];
    return mapped_between(start, start + mapped);
}

extern "C" NOINLINE void hold_below()
{
    volatile char frame[32768];
    frame[0] = 1;
    keep(pool_new(0));
    frame[1] = frame[0];
}

int main()
{
    begin();
    long long bytes = 0;
    for (int i = 0; i < rounds; i++) {
        fail(0);
        bytes += map_below();
    }
    fail(1);
    for (int i = 0; i < rounds; i++)
        hold_below();
    if (caught != rounds + 1)
        _exit(97);
    truth_number("map_below", bytes);
    truth_number("objects", rounds);
    finish();
}
