/* A small service for `cargo xtask demo`. Its cache fills and then stops growing, its sessions come
 * and go, and its request handlers lose about 1 MB a second at two places. */

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    CACHE_ENTRIES = 4096,
    CACHE_ENTRY_BYTES = 1024,
    SESSIONS = 512,
    SESSION_BYTES = 4096,
    WORKERS = 3,
    REQUESTS_PER_SECOND = 100, /* of each worker */
    HEADER_BYTES = 2048,
    AUDIT_RECORD_BYTES = 1280,
    LIFETIME_S = 300,
};

static char *cache[CACHE_ENTRIES];
static char *sessions[SESSIONS];
static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;

struct audit_record {
    struct audit_record *previous;
    char text[AUDIT_RECORD_BYTES - sizeof(void *)];
};
static _Thread_local struct audit_record *audit_log;

static void cache_insert(unsigned key)
{
    pthread_mutex_lock(&cache_lock);
    char **entry = &cache[key % CACHE_ENTRIES];
    if (!*entry) {
        *entry = malloc(CACHE_ENTRY_BYTES);
        memset(*entry, 'c', CACHE_ENTRY_BYTES);
    }
    pthread_mutex_unlock(&cache_lock);
}

static void session_toggle(unsigned id)
{
    pthread_mutex_lock(&session_lock);
    char **session = &sessions[id % SESSIONS];
    if (*session) {
        free(*session);
        *session = NULL;
    } else {
        *session = calloc(1, SESSION_BYTES);
    }
    pthread_mutex_unlock(&session_lock);
}

/* Lost: the caller keeps the pointer only until its next request. */
static char *copy_headers(void)
{
    char *headers = malloc(HEADER_BYTES);
    memset(headers, 'h', HEADER_BYTES);
    return headers;
}

/* Lost: records are only ever added. */
static void audit_append(void)
{
    struct audit_record *record = malloc(sizeof *record);
    memset(record->text, 'a', sizeof record->text);
    record->previous = audit_log;
    audit_log = record;
}

static void render_page(void)
{
    char *page = malloc(16384);
    memset(page, 'p', 16384);
    page = realloc(page, 20480);
    free(page);
}

static void handle_request(unsigned number, char **headers)
{
    *headers = copy_headers();
    for (unsigned i = 0; i < 8; i++)
        cache_insert(number * 8 + i);
    session_toggle(number * 7919);
    render_page();
    audit_append();
}

static void *worker(void *argument)
{
    char *headers = NULL;
    for (unsigned number = *(unsigned *)argument;; number += WORKERS) {
        handle_request(number, &headers);
        usleep(1000000 / REQUESTS_PER_SECOND);
    }
    return headers;
}

int main(void)
{
    static unsigned first[WORKERS];
    pthread_t thread[WORKERS];

    /* The demo must leave nothing behind, however it ends. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0; i < WORKERS; i++) {
        first[i] = i;
        if (pthread_create(&thread[i], NULL, worker, &first[i]))
            return 1;
    }
    sleep(LIFETIME_S);
    return 0;
}
