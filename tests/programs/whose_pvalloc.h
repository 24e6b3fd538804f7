/* Whether pvalloc is the allocator's own: some leave it to the C library, whose blocks their free does not
 * know, and musl has none. Allocates nothing. */
#include "protocol.h"
#include <dlfcn.h>
#include <malloc.h>

#ifdef __GLIBC__
/* Where the function really is; its address in a program that is not position independent is a stub. */
#define ADDRESS(function)                                                          \
    ({                                                                             \
        void *address;                                                             \
        __asm__("movq " #function "@GOTPCREL(%%rip), %0" : "=r"(address));          \
        address;                                                                   \
    })

UNUSED static int pvalloc_is_the_allocators(void)
{
    Dl_info of_it, of_malloc;
    /* Unknown in a static program, where all is of one library. */
    return dladdr(ADDRESS(pvalloc), &of_it) == 0 || dladdr(ADDRESS(malloc), &of_malloc) == 0 ||
           of_it.dli_fbase == of_malloc.dli_fbase;
}
#else
UNUSED static int pvalloc_is_the_allocators(void)
{
    return 0;
}
#endif
