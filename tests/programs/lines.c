/* Two places in one function that allocate, called from three others, and one in a function of its own: tells
 * what each line holds. */
#include "protocol.h"

NOINLINE static void two_places(int times)
{
    for (int i = 0; i < times; i++)
        keep(malloc(100)); /* the first */
    for (int i = 0; i < times; i++)
        keep(malloc(700)); /* the second */
}
enum { FIRST = 8, SECOND = 10 };

NOINLINE static void one_place(void)
{
    keep(malloc(5000));
}
enum { THIRD = 16 };

NOINLINE static void one(void)
{
    two_places(1);
    __asm__ volatile("" ::: "memory");
}

NOINLINE static void ten(void)
{
    two_places(10);
    __asm__ volatile("" ::: "memory");
}

NOINLINE static void hundred(void)
{
    two_places(100);
    one_place();
    __asm__ volatile("" ::: "memory");
}

static void tell(int line, int count, int bytes)
{
    say("{\"truth\":\"line\",\"line\":%d,\"count\":%d,\"bytes\":%d}\n", line, count, bytes);
}

int main(void)
{
    begin();
    one();
    ten();
    hundred();
    tell(FIRST, 111, 111 * 100);
    tell(SECOND, 111, 111 * 700);
    tell(THIRD, 1, 5000);
    finish();
    return 0;
}
