/* A layer that moves letters on by one on their way to the client, and back by one on their way in. */
#include "portcullis_plugin.h"

#include <stdlib.h>

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    (void)instance, (void)connection, (void)peer, (void)user;
    return PC_OK;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    const pc_host *host = *(const pc_host **)instance;
    int out = (input->flags & PC_INPUT_FROM_ABOVE) != 0;
    uint8_t *moved = malloc(input->length + 1);
    (void)user;
    for (size_t i = 0; i < input->length; i++) {
        moved[i] = (uint8_t)(input->bytes[i] + (out ? 1 : -1));
    }
    pc_piece piece = {moved, input->length, NULL};
    int32_t answer = (out ? host->write : host->forward)(host, connection, &piece, 1);
    free(moved);
    if (answer == PC_FULL) {
        return 0;
    }
    return answer < 0 ? answer : (int64_t)input->length;
}

static void on_close(void *instance, pc_connection connection, void *user, uint32_t why) {
    (void)instance, (void)connection, (void)user, (void)why;
}

PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table) {
    const pc_host **instance = malloc(sizeof *instance);
    (void)endpoint;
    *instance = host;
    out->version = out->high_version = requested;
    out->instance = instance;
    out->flags = PC_NEVER_BLOCKS;
    table->size = sizeof *table;
    table->cleanup = free;
    table->open = on_open;
    table->data = on_data;
    table->close = on_close;
    return PC_OK;
}
