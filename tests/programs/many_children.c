/* A server that forks a child for each request, one after the other, so many for each line that it reads:
 * more of them in the end than a tracer has room for at a time. Children hold blocks and a mapping, each
 * in ways of its own, from their first instruction on; the parent tells what. With "exec COUNT" the process
 * runs itself again and again instead, and waits for a line after each fifty; with "spawn COUNT" it has
 * children in a row, as a shell has, that each run a program which ends at once. */
#include "protocol.h"
#include <sys/mman.h>
#include <sys/wait.h>

static int blocks;

NOINLINE static void holds_first(int number)
{
    for (int i = 0; i < blocks; i++)
        keep(malloc((size_t)(100 + number)));
}

NOINLINE static void holds_second(int number)
{
    for (int i = 0; i < blocks; i++)
        keep(malloc((size_t)(100 + number)));
}

NOINLINE static void frees_all(int number)
{
    for (int i = 0; i < blocks; i++) {
        void *block = malloc((size_t)(100 + number));
        keep(block);
        free(block);
    }
}

/* Stacks differ from child to child, so that the places of stacks are used up too. */
NOINLINE static void descend(int depth, int number)
{
    if (depth > 0) {
        descend(depth - 1, number);
        __asm__ volatile("" ::: "memory");
        return;
    }
    if (number % 3 == 0)
        holds_first(number);
    else if (number % 3 == 1)
        holds_second(number);
    else
        frees_all(number);
}

static void live(int number)
{
    keep(mmap(NULL, 4096 * (size_t)(1 + number % 5), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    descend(number % 11, number);
}

static void serve(int first, int behind)
{
    for (int number = first; number < behind; number++) {
        pid_t child = fork();
        if (child == 0) {
            live(number);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        const char *holder = number % 3 == 0 ? "holds_first" : number % 3 == 1 ? "holds_second" : "";
        int count = *holder ? blocks : 0;
        say("{\"truth\":\"child\",\"pid\":%d,\"holder\":\"%s\",\"count\":%d,\"bytes\":%d,\"mapped\":%d,"
            "\"status\":%d}\n",
            (int)child, holder, count, count * (100 + number), 4096 * (1 + number % 5), status);
    }
}

NOINLINE static void epoch_holds(int left)
{
    for (int i = 0; i < 7; i++)
        keep(malloc((size_t)(1000 + left)));
}

/* Runs itself with one less to go. */
static void run_again(const char *self, int left)
{
    char text[16];
    epoch_holds(left);
    if (left == 0)
        return;
    if (left % 50 == 0)
        finish();
    snprintf(text, sizeof text, "%d", left - 1);
    execl(self, self, "epoch", text, (char *)NULL);
    _exit(98);
}

/* All that a program does that was spawned. */
NOINLINE static void holds_briefly(int number)
{
    for (int i = 0; i < 7; i++)
        keep(malloc((size_t)(1000 + number)));
}

static void spawn(const char *self, int first, int behind)
{
    for (int number = first; number < behind; number++) {
        char text[16];
        snprintf(text, sizeof text, "%d", number);
        pid_t child = fork();
        if (child == 0) {
            execl(self, self, "brief", text, (char *)NULL);
            _exit(98);
        }
        int status;
        waitpid(child, &status, 0);
        say("{\"truth\":\"child\",\"pid\":%d,\"count\":7,\"bytes\":%d,\"status\":%d}\n", (int)child,
            7 * (1000 + number), status);
    }
}

int main(int count, char **arguments)
{
    int number = count > 2 ? atoi(arguments[2]) : 0;
    if (strcmp(arguments[1], "epoch") == 0) {
        run_again(arguments[0], number);
        finish();
        return 0;
    }
    if (strcmp(arguments[1], "brief") == 0) {
        holds_briefly(number);
        _exit(0);
    }
    begin();
    if (strcmp(arguments[1], "exec") == 0)
        run_again(arguments[0], number);
    int spawns = strcmp(arguments[1], "spawn") == 0;
    blocks = atoi(arguments[1]);
    int served = 0;
    do {
        if (spawns)
            spawn(arguments[0], served, served + number);
        else
            serve(served, served + number);
        served += number;
        say("done\n");
    } while (wait_line());
}
