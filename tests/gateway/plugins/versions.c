/* A plugin of any range of versions, for the tests of negotiation: by macros, or by what its settings say. It serves nobody.
 *
 * Settings may be a list: lowest, highest, what start-up answers, the size of the table, which function is left out (its
 * place in the table, or -1), and the address of three counters of the test's: start-ups that were answered with PC_OK,
 * cleanups, and start-ups in all. */
#include "portcullis_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LOWEST
#define LOWEST PC_MAKE_VERSION(1, 0)
#endif
#ifndef HIGHEST
#define HIGHEST PC_MAKE_VERSION(1, 0)
#endif

struct told {
    unsigned lowest, highest;
    int answer;
    size_t size;
    int without;
    size_t counters;
};

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    (void)instance, (void)connection, (void)peer, (void)user;
    return PC_FAULT;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    (void)instance, (void)connection, (void)user, (void)input;
    return PC_FAULT;
}

static void on_close(void *instance, pc_connection connection, void *user, uint32_t why) {
    (void)instance, (void)connection, (void)user, (void)why;
}

static void count(const struct told *told, int which) {
    if (told->counters) {
        __atomic_fetch_add((uint32_t *)told->counters + which, 1, __ATOMIC_SEQ_CST);
    }
}

static void on_cleanup(void *instance) {
    count(instance, 1);
    free(instance);
}

PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table) {
    struct told told = {LOWEST, HIGHEST, PC_OK, 0, -1, 0};
    (void)host;
    sscanf(endpoint->settings, "[%u,%u,%d,%zu,%d,%zu]", &told.lowest, &told.highest, &told.answer, &told.size,
           &told.without, &told.counters);
    count(&told, 2);
    if (requested < told.lowest) {
        return PC_VERSION;
    }
    if (told.answer != PC_OK) {
        strcpy(out->error, "as I was told");
        return told.answer;
    }
    out->high_version = told.highest;
    out->version = requested < told.highest ? requested : told.highest;
    out->instance = malloc(sizeof told);
    memcpy(out->instance, &told, sizeof told);

    pc_plugin mine = {sizeof mine, on_cleanup, on_open, on_data, on_close, NULL, NULL, NULL, NULL};
    if (told.without >= 0) {
        memset((char *)&mine + sizeof(size_t) + (size_t)told.without * sizeof(void *), 0, sizeof(void *));
    }
    if (told.size) {
        mine.size = told.size;
    }
    memcpy(table, &mine, sizeof mine);
    count(&told, 0);
    return PC_OK;
}
