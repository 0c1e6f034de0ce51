/* Echo: sends back what comes, and slows down clients that do not read.
 *
 *     cc -shared -fPIC -O2 -I plugin-abi/include -o libecho.so examples/plugins/c/echo.c
 */
#include "portcullis_plugin.h"

#include <stdlib.h>

struct echo {
    const pc_host *host;
};

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    (void)instance, (void)connection, (void)peer, (void)user;
    return PC_OK;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    struct echo *echo = instance;
    (void)user;
    /* Naming the buffer shares the bytes; without it they would be copied. */
    pc_piece piece = {input->bytes, input->length, input->buffer};
    int32_t answer = echo->host->write(echo->host, connection, &piece, 1);
    if (answer == PC_FULL) {
        return 0; /* comes again when the client has read */
    }
    return answer < 0 ? answer : (int64_t)input->length;
}

static void on_close(void *instance, pc_connection connection, void *user, uint32_t why) {
    (void)instance, (void)connection, (void)user, (void)why;
}

static void on_cleanup(void *instance) {
    free(instance);
}

PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table) {
    (void)endpoint;
    if (requested < PC_MAKE_VERSION(1, 0)) {
        return PC_VERSION;
    }
    struct echo *echo = malloc(sizeof *echo);
    if (!echo) {
        return PC_LIMIT;
    }
    echo->host = host;

    out->high_version = PC_HEADER_VERSION;
    out->version = requested < PC_HEADER_VERSION ? requested : PC_HEADER_VERSION;
    out->instance = echo;
    out->flags = PC_NEVER_BLOCKS; /* so run = "inline" may be chosen */

    table->size = sizeof *table;
    table->cleanup = on_cleanup;
    table->open = on_open;
    table->data = on_data;
    table->close = on_close;
    return PC_OK;
}
