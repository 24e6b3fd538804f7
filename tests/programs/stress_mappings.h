/* Mappings that are cut, moved, grown, covered by others and unmapped. What is mapped is counted; whose it is
 * said to be, the one that mapped or the one that moved it, is not. */
enum { MOST_PAGES = 64 };

static atomic_llong maps, moves, unmaps;

NOINLINE static void *by_mmap(size_t bytes)
{
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    keep(block);
    return block == MAP_FAILED ? NULL : block;
}

NOINLINE static void by_mmap_over(char *place, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    /* Of the same kind as what is there: a mapping of two kinds cannot be moved in one piece. */
    if (mmap(place, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) != place)
        _exit(92);
}

NOINLINE static void *by_mremap(void *old, size_t old_bytes, size_t bytes)
{
    void *block = mremap(old, old_bytes, bytes, MREMAP_MAYMOVE);
    keep(block);
    return block == MAP_FAILED ? NULL : block;
}

static void unmap(char *place, size_t bytes)
{
    if (munmap(place, bytes) != 0)
        _exit(91);
    unmaps++;
}

/* Calls that the kernel refuses. */
NOINLINE static void fail_to_map(char *place)
{
    if (mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED ||
        munmap(place + 1, PAGE) == 0 || mremap(place, PAGE, 0, 0) != MAP_FAILED)
        _exit(90);
    refused += 3;
}

/* The mapping as it is afterwards; NULL when it is gone. Its length is changed with it. */
static char *change_mapping(char *start, size_t *length, uint64_t random)
{
    size_t bytes = *length, pages = bytes / PAGE;
    switch (random % 10) {
    case 0:
        if (pages == 1)
            break;
        *length = bytes - PAGE;
        unmap(start, PAGE);
        return start + PAGE;
    case 1:
        if (pages == 1)
            break;
        *length = bytes - PAGE;
        unmap(start + bytes - PAGE, PAGE);
        return start;
    case 2:
    case 3:
        *length = PAGE * (1 + random / 16 % MOST_PAGES);
        moves++;
        return by_mremap(start, bytes, *length);
    case 4:
        maps++;
        by_mmap_over(start + random / 16 % pages * PAGE, PAGE);
        return start;
    case 5:
        fail_to_map(start);
        return start;
    }
    unmap(start, bytes);
    *length = 0;
    return NULL;
}
