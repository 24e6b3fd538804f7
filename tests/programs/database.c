/* Keeps databases, statements and memory of sqlite3 open, and tells how many. */
#include "protocol.h"
#include <sqlite3.h>

enum { DATABASES = 5, STATEMENTS = 30, BLOCKS = 200, BYTES = 300 };

static sqlite3 *database(void)
{
    sqlite3 *opened = NULL;
    if (sqlite3_open(":memory:", &opened) != SQLITE_OK)
        _exit(98);
    return opened;
}

int main(void)
{
    sqlite3_initialize();
    begin();
    sqlite3 *kept = NULL;
    for (int i = 0; i < 2 * DATABASES; i++) {
        sqlite3 *opened = database();
        if (i % 2)
            sqlite3_close(opened);
        else
            kept = opened;
    }
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_stmt *statement = NULL;
        if (sqlite3_prepare_v2(kept, "select 1", -1, &statement, NULL) != SQLITE_OK)
            _exit(97);
        if (i % 3 == 0)
            sqlite3_finalize(statement);
    }
    for (int i = 0; i < BLOCKS; i++) {
        void *block = sqlite3_malloc(BYTES);
        if (i % 4 == 0)
            sqlite3_free(block);
        else if (i % 4 == 1)
            keep(sqlite3_realloc(block, 2 * BYTES));
    }
    truth_number("databases", DATABASES);
    truth_number("statements", STATEMENTS - STATEMENTS / 3);
    truth_number("bytes", BLOCKS / 2 * BYTES + BLOCKS / 4 * 2 * BYTES);
    finish();
}
