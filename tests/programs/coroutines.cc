// Coroutines of C++20, resumed by one thread after another: their frames come from the heap, and
// some of them are never destroyed.
#include "protocol.h"
#include <coroutine>
#include <mutex>
#include <thread>
#include <vector>

constexpr int coroutines = 300;
constexpr int resumptions = 50;
constexpr int left_behind = 40;
constexpr long leak_bytes = 500;

long frame_bytes;

struct Generator {
    struct promise_type {
        long value = 0;
        Generator get_return_object()
        {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(long next) noexcept
        {
            value = next;
            return {};
        }
        void return_void() noexcept {}
        void unhandled_exception() { throw; }
        NOINLINE static void *operator new(size_t bytes)
        {
            frame_bytes = static_cast<long>(bytes);
            void *frame = malloc(bytes);
            keep(frame);
            return frame;
        }
        NOINLINE static void operator delete(void *frame) { free(frame); }
    };
    std::coroutine_handle<promise_type> handle;
};

NOINLINE char *leak_in_a_coroutine()
{
    char *block = new char[leak_bytes];
    keep(block);
    return block;
}

Generator count_from(long start)
{
    std::vector<long> held(100, start);
    for (long i = 0;; i++) {
        char *between = static_cast<char *>(malloc(64));
        between[0] = static_cast<char>(i);
        co_yield held[static_cast<size_t>(i) % held.size()] + between[0];
        free(between);
        if (i == 3)
            keep(leak_in_a_coroutine());
    }
}

int main()
{
    std::thread([] {}).join();
    begin();
    std::vector<Generator> all;
    for (long i = 0; i < coroutines; i++)
        all.push_back(count_from(i));
    unsigned long sum = 0;
    std::mutex turn;
    // Each thread takes every coroutine a few steps further.
    std::vector<std::thread> threads;
    for (int t = 0; t < 5; t++)
        threads.emplace_back([&] {
            for (auto &generator : all)
                for (int i = 0; i < resumptions / 5; i++) {
                    std::lock_guard<std::mutex> mine(turn);
                    generator.handle.resume();
                    sum += static_cast<unsigned long>(generator.handle.promise().value);
                }
        });
    for (auto &thread : threads)
        thread.join();
    for (size_t i = left_behind; i < all.size(); i++)
        all[i].handle.destroy();
    say("sum %lu\n", sum);
    truth_site("Generator::promise_type::operator new", left_behind * frame_bytes, left_behind);
    truth_site("leak_in_a_coroutine", coroutines * leak_bytes, coroutines);
    finish();
    return 42;
}
