// Exceptions thrown through frames that hold blocks, out of constructors, across threads, and by
// operator new itself: allocations that fail and are caught. Its output tells every message and how
// deep a backtrace was, and is the same in every run.
#include "protocol.h"
#include <execinfo.h>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int rounds = 400;
constexpr int frames = 40;
constexpr int leaks = 30;
constexpr long leak_bytes = 1000;
volatile size_t too_many = size_t(1) << 62;

unsigned long checksum;
int caught_bad_alloc, handler_calls, deepest_backtrace;

void add(const char *text)
{
    for (; *text; text++)
        checksum = checksum * 31 + static_cast<unsigned char>(*text);
}

NOINLINE void throw_through(int depth)
{
    std::unique_ptr<char[]> block(new char[100 + depth]);
    keep(block.get());
    if (depth == 0)
        throw std::runtime_error("from the innermost of " + std::to_string(frames) + " frames");
    throw_through(depth - 1);
    keep(block.get());
}

struct Refused {
    std::unique_ptr<char[]> member{new char[64]};
    Refused() { throw std::logic_error("refused by its constructor, after its member was made"); }
};

NOINLINE void new_of_a_constructor_that_throws()
{
    keep(new Refused);
}

NOINLINE void ask_for_too_much(int way)
{
    if (way == 0)
        keep(new char[too_many]);
    if (way == 1)
        std::vector<char>().reserve(too_many);
    if (way == 2)
        keep(::operator new(too_many, std::align_val_t(64)));
    if (way == 3 && !new (std::nothrow) char[too_many])
        throw std::bad_alloc();
}

void look_around_and_give_up()
{
    void *addresses[64];
    int depth = backtrace(addresses, 64);
    deepest_backtrace = depth > deepest_backtrace ? depth : deepest_backtrace;
    if (++handler_calls % 3 == 0)
        std::set_new_handler(nullptr);
}

NOINLINE void leak_in_a_catch_block()
{
    keep(new char[leak_bytes]);
}

NOINLINE void leak_before_a_throw()
{
    keep(new char[leak_bytes]);
    throw 5;
}

void in_another_thread()
{
    std::exception_ptr pending;
    std::thread thread([&] {
        try {
            throw_through(frames);
        } catch (...) {
            pending = std::current_exception();
        }
    });
    thread.join();
    try {
        std::rethrow_exception(pending);
    } catch (const std::exception &error) {
        add(error.what());
    }
}

void one_round(int number)
{
    try {
        throw_through(frames);
    } catch (const std::exception &error) {
        add(error.what());
    }
    try {
        new_of_a_constructor_that_throws();
    } catch (const std::logic_error &error) {
        add(error.what());
    }
    std::set_new_handler(look_around_and_give_up);
    try {
        ask_for_too_much(number % 4);
    } catch (const std::bad_alloc &error) {
        caught_bad_alloc++;
        add(error.what());
    } catch (const std::length_error &error) {
        caught_bad_alloc++;
    }
    std::set_new_handler(nullptr);
    if (number < leaks) {
        try {
            leak_before_a_throw();
        } catch (int value) {
            checksum += value;
            leak_in_a_catch_block();
        }
    }
    if (number % 20 == 0)
        in_another_thread();
}

} // namespace

int main()
{
    // What the runtime allocates once is there before anybody counts.
    void *addresses[4];
    backtrace(addresses, 4);
    in_another_thread();
    checksum = 0;
    begin();
    for (int i = 0; i < rounds; i++)
        one_round(i);
    say("checksum %lu, bad_alloc %d times, handler %d times, backtrace %d deep\n", checksum,
        caught_bad_alloc, handler_calls, deepest_backtrace);
    truth_site("leak_in_a_catch_block", leaks * leak_bytes, leaks);
    truth_site("leak_before_a_throw", leaks * leak_bytes, leaks);
    truth_number("live_bytes", 2 * leaks * leak_bytes);
    truth_number("live_count", 2 * leaks);
    finish();
    return 42;
}
