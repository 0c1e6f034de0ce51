/* A message server: each message is a 2-byte length, big end first, and a text. It answers with the text in capitals, framed
 * alike. The gateway finds the messages; `on_data` only ever sees whole ones.
 *
 *     cc -shared -fPIC -O2 -I plugin-abi/include -o libmessages.so examples/plugins/c/messages.c
 */
#include "portcullis_plugin.h"

#include <ctype.h>
#include <stdlib.h>

enum { PREFIX = 2, LARGEST = 4096 };

struct server {
    const pc_host *host;
};

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    (void)instance, (void)connection, (void)peer, (void)user;
    return PC_OK;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    struct server *server = instance;
    uint8_t text[LARGEST];
    (void)user;
    if (input->length < PREFIX) {
        return 0; /* the client has ended; there is no message */
    }
    size_t length = input->length - PREFIX;
    for (size_t i = 0; i < length; i++) {
        text[i] = (uint8_t)toupper(input->bytes[PREFIX + i]);
    }
    /* Two pieces, one write: the length as it came, then the new text. All of it is taken, or nothing. */
    pc_piece pieces[] = {{input->bytes, PREFIX, NULL}, {text, length, NULL}};
    int32_t answer = server->host->write(server->host, connection, pieces, 2);
    if (answer == PC_FULL) {
        return 0; /* the message comes again when the client has read */
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
    struct server *server = malloc(sizeof *server);
    if (!server) {
        return PC_LIMIT;
    }
    server->host = host;

    out->high_version = PC_HEADER_VERSION;
    out->version = requested < PC_HEADER_VERSION ? requested : PC_HEADER_VERSION;
    out->instance = server;
    out->flags = PC_NEVER_BLOCKS;
    out->framing.kind = PC_FRAMING_LENGTH;
    out->framing.length_size = PREFIX;
    out->framing.max_message = LARGEST; /* the length included */

    table->size = sizeof *table;
    table->cleanup = on_cleanup;
    table->open = on_open;
    table->data = on_data;
    table->close = on_close;
    return PC_OK;
}
