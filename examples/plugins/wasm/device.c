/* A device server: a line protocol that tells its internal door from its internet door.
 *
 *     GET            -> VALUE n
 *     SET n          -> OK, by an internal endpoint; by a public one: DENIED
 *     WATCH ms       -> VALUE n, again and again, every so many milliseconds
 *     WHO            -> the endpoint, its class, and what its settings say
 *     QUIT           -> BYE, and the connection is closed
 *
 * An instance shares nothing with other instances, so every endpoint has a device of its own, whose first value is the number
 * that its settings name: settings = { value = 7 }.
 *
 * Build it as portcullis_wasm.h says.
 */
#include "portcullis_wasm.h"

#include <stdio.h>

enum { LARGEST = 256, TICK = 0 };

static const pc_endpoint *door;
static int value;

enum pc_started on_start(const pc_endpoint *endpoint, pc_offer *offer) {
    char settings[LARGEST];
    snprintf(settings, sizeof settings, "%.*s", PC_TEXT(endpoint->settings));
    const char *named = strstr(settings, "\"value\":");
    if (named && sscanf(named, "\"value\":%d", &value) != 1) {
        offer->error = "settings.value is no number";
        return PC_BAD_CONFIG;
    }
    door = endpoint;
    offer->framing = PC_FRAMING_DELIMITER;
    offer->delimiter = (pc_text){"\n", 1};
    offer->max_message = LARGEST;
    return PC_STARTED;
}

static enum pc_answer answer(pc_connection connection, const char *text) {
    return pc_write(connection, &(pc_piece){text, (uint32_t)strlen(text)}, 1);
}

static enum pc_answer answer_value(pc_connection connection) {
    char text[32];
    snprintf(text, sizeof text, "VALUE %d\n", value);
    return answer(connection, text);
}

/* What a connection remembers is how often it is told the value, in milliseconds. */
bool on_open(pc_connection connection, const pc_peer *peer, void **user) {
    (void)connection, (void)peer;
    *user = calloc(1, sizeof(unsigned long));
    return *user;
}

int64_t on_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, int flags) {
    char line[LARGEST + 1], text[2 * LARGEST];
    unsigned long *every = user;
    bool may_set = door->class == PC_INTERNAL;
    enum pc_answer done = PC_OK;
    int number;
    (void)flags;

    memcpy(line, bytes, length);
    line[length] = '\0';
    line[strcspn(line, "\r\n")] = '\0';

    if (!length) {
        return 0; /* the client has ended */
    } else if (!strcmp(line, "GET")) {
        done = answer_value(connection);
    } else if (sscanf(line, "SET %d", &number) == 1) {
        if (may_set) {
            value = number;
        }
        done = answer(connection, may_set ? "OK\n" : "DENIED\n");
    } else if (sscanf(line, "WATCH %lu", every) == 1 && *every > 0) {
        done = pc_set_timer(connection, TICK, *every);
    } else if (!strcmp(line, "WHO")) {
        snprintf(text, sizeof text, "%.*s %s %.*s\n", PC_TEXT(door->name), may_set ? "internal" : "public",
                 PC_TEXT(door->settings));
        done = answer(connection, text);
    } else if (!strcmp(line, "QUIT")) {
        answer(connection, "BYE\n");
        pc_close(connection, PC_CLOSE_FLUSH);
    } else {
        done = answer(connection, "WHAT\n");
    }
    if (done == PC_FULL) {
        return 0; /* the line comes again when the client has read */
    }
    return done == PC_OK || done == PC_PAUSE ? (int64_t)length : -1;
}

bool on_timer(pc_connection connection, void *user, uint32_t id) {
    answer_value(connection); /* one value is lost where the client does not read */
    pc_set_timer(connection, id, *(unsigned long *)user);
    return true;
}

void on_close(pc_connection connection, void *user, enum pc_why why) {
    (void)connection, (void)why;
    free(user);
}
