// Leaks through new and new[] in functions whose mangled names nobody wants to read.
#include "protocol.h"

namespace shop {

template <typename Item> struct Cart {
    NOINLINE void add(int items)
    {
        for (int i = 0; i < items; i++)
            keep(new Item);
    }
    NOINLINE void add_many(int items)
    {
        for (int i = 0; i < items; i++)
            keep(new Item[10]);
    }
};

struct Apple {
    char bytes[50];
};

} // namespace shop

NOINLINE static void fill(shop::Cart<shop::Apple> *cart)
{
    cart->add(20);
    cart->add_many(3);
    keep(cart);
}

int main()
{
    shop::Cart<shop::Apple> cart;
    begin();
    fill(&cart);
    truth_site("shop::Cart<shop::Apple>::add(int)", 20 * 50, 20);
    truth_site("shop::Cart<shop::Apple>::add_many(int)", 3 * 500, 3);
    truth_number("live_bytes", 20 * 50 + 3 * 500);
    truth_number("live_count", 23);
    finish();
}
