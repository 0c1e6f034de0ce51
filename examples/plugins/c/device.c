/* A device server: a line protocol that tells its internal door from its internet door.
 *
 *     GET            -> VALUE n
 *     SET n          -> OK, by an internal endpoint; by a public one: DENIED
 *     WATCH ms       -> VALUE n, again and again, every so many milliseconds
 *     WHO            -> the endpoint, its class, and what its settings say
 *     QUIT           -> BYE, and the connection is closed
 *
 * One device stands behind all endpoints. Which door a client came in by is told by the instance: each endpoint has its own.
 *
 *     cc -std=c11 -shared -fPIC -O2 -I plugin-abi/include -o libdevice.so examples/plugins/c/device.c
 */
#include "portcullis_plugin.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 256, TICK = 0 };

struct door {
    const pc_host *host;
    const pc_endpoint *endpoint;
    int may_set;
};

/* What a connection remembers; its callbacks come one after the other, so it needs no lock. */
struct client {
    unsigned long every;
};

static atomic_int value;

static int32_t answer(struct door *door, pc_connection connection, const char *text) {
    pc_piece piece = {(const uint8_t *)text, strlen(text), NULL};
    return door->host->write(door->host, connection, &piece, 1);
}

static int32_t answer_value(struct door *door, pc_connection connection) {
    char text[32];
    snprintf(text, sizeof text, "VALUE %d\n", atomic_load(&value));
    return answer(door, connection, text);
}

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    (void)instance, (void)connection, (void)peer;
    *user = calloc(1, sizeof(struct client));
    return *user ? PC_OK : PC_LIMIT;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    struct door *door = instance;
    struct client *client = user;
    char line[LARGEST + 1];
    int number;
    int32_t done = PC_OK;

    memcpy(line, input->bytes, input->length);
    line[input->length] = '\0';
    line[strcspn(line, "\r\n")] = '\0';

    if (!input->length) {
        return 0; /* the client has ended */
    } else if (!strcmp(line, "GET")) {
        done = answer_value(door, connection);
    } else if (sscanf(line, "SET %d", &number) == 1) {
        if (door->may_set) {
            atomic_store(&value, number);
        }
        done = answer(door, connection, door->may_set ? "OK\n" : "DENIED\n");
    } else if (sscanf(line, "WATCH %lu", &client->every) == 1 && client->every > 0) {
        done = door->host->set_timer(door->host, connection, TICK, client->every);
    } else if (!strcmp(line, "WHO")) {
        char text[LARGEST];
        snprintf(text, sizeof text, "%s %s %s\n", door->endpoint->name, door->endpoint->endpoint_class,
                 door->endpoint->settings);
        done = answer(door, connection, text);
    } else if (!strcmp(line, "QUIT")) {
        answer(door, connection, "BYE\n");
        door->host->close(door->host, connection, PC_CLOSE_FLUSH);
    } else {
        done = answer(door, connection, "WHAT\n");
    }
    if (done == PC_FULL) {
        return 0; /* the line comes again when the client has read */
    }
    return done < 0 ? done : (int64_t)input->length;
}

static void on_timer(void *instance, pc_connection connection, void *user, uint32_t id) {
    struct door *door = instance;
    struct client *client = user;
    answer_value(door, connection); /* one value is lost where the client does not read */
    door->host->set_timer(door->host, connection, id, client->every);
}

static void on_close(void *instance, pc_connection connection, void *user, uint32_t why) {
    (void)instance, (void)connection, (void)why;
    free(user);
}

static void on_cleanup(void *instance) {
    free(instance);
}

PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table) {
    if (requested < PC_MAKE_VERSION(1, 0)) {
        return PC_VERSION;
    }
    struct door *door = malloc(sizeof *door);
    if (!door) {
        return PC_LIMIT;
    }
    door->host = host;
    door->endpoint = endpoint;
    door->may_set = !strcmp(endpoint->endpoint_class, "internal");

    out->high_version = PC_HEADER_VERSION;
    out->version = requested < PC_HEADER_VERSION ? requested : PC_HEADER_VERSION;
    out->instance = door;
    out->flags = PC_NEVER_BLOCKS;
    out->framing.kind = PC_FRAMING_DELIMITER;
    out->framing.delimiter_size = 1;
    out->framing.delimiter[0] = '\n';
    out->framing.max_message = LARGEST;

    table->size = sizeof *table;
    table->cleanup = on_cleanup;
    table->open = on_open;
    table->data = on_data;
    table->timer = on_timer;
    table->close = on_close;
    return PC_OK;
}
