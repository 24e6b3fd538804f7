// 30 threads use every form of new and delete at the same time; nothing stays live.
#include "protocol.h"
#include <new>
#include <pthread.h>

namespace {

constexpr long threads = 30;
constexpr long rounds = 2000;

struct Plain {
    char bytes[24];
};
struct alignas(64) Aligned {
    char bytes[64];
};

constexpr long blocks_a_round = 4;
constexpr long bytes_a_round = sizeof(Plain) + 7 * sizeof(Plain) + sizeof(Aligned) + sizeof(Plain);

pthread_barrier_t start, end;

NOINLINE void new_and_delete()
{
    Plain *one = new Plain;
    Plain *many = new Plain[7];
    Aligned *aligned = new Aligned;
    Plain *quiet = new (std::nothrow) Plain;
    keep(one);
    keep(many);
    keep(aligned);
    keep(quiet);
    delete quiet;
    delete aligned;
    delete[] many;
    delete one;
}

void *thread_main(void *argument)
{
    pthread_barrier_wait(&start);
    for (long i = 0; i < rounds; i++)
        new_and_delete();
    pthread_barrier_wait(&end);
    for (;;)
        pause();
    return argument;
}

} // namespace

int main()
{
    pthread_barrier_init(&start, nullptr, threads + 1);
    pthread_barrier_init(&end, nullptr, threads + 1);
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        pthread_create(&thread, nullptr, thread_main, nullptr);
    }
    begin();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    truth_number("live_bytes", 0);
    truth_number("live_count", 0);
    truth_number("allocated_count", threads * rounds * blocks_a_round);
    truth_number("allocated_bytes", threads * rounds * bytes_a_round);
    finish();
}
