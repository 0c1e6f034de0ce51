/* A chat room: what one client says in a line, all others hear.
 *
 * An instance shares nothing with other instances, so every endpoint has a room of its own.
 *
 * Build it as portcullis_wasm.h says.
 */
#include "portcullis_wasm.h"

#include <stdio.h>

enum { LARGEST = 512 };

static const pc_endpoint *door;
static pc_connection *members;
static uint32_t count, room;

/* Says a line to everybody but `except`. The gateway copies it once for all. */
static void say(const char *line, uint32_t length, pc_connection except) {
    uint32_t skip = 0;
    while (skip < count && members[skip] != except) {
        skip++;
    }
    pc_broadcast(members, skip, line, length);
    if (skip < count) {
        pc_broadcast(members + skip + 1, count - skip - 1, line, length);
    }
}

enum pc_started on_start(const pc_endpoint *endpoint, pc_offer *offer) {
    door = endpoint; /* valid until cleanup, and so is all that it points to */
    offer->framing = PC_FRAMING_DELIMITER;
    offer->delimiter = (pc_text){"\n", 1};
    offer->max_message = LARGEST;
    return PC_STARTED;
}

bool on_open(pc_connection connection, const pc_peer *peer, void **user) {
    char text[LARGEST];
    (void)user;
    if (count == room) {
        uint32_t more = room ? 2 * room : 16;
        pc_connection *larger = realloc(members, more * sizeof *members);
        if (!larger) {
            return false; /* max_memory is used up */
        }
        members = larger;
        room = more;
    }
    members[count++] = connection;
    int length = snprintf(text, sizeof text, "* you are in, by %.*s (%s, %s)\n", PC_TEXT(door->name),
                          door->class == PC_INTERNAL ? "internal" : "public", peer->tls_version.is_there ? "TLS" : "plain");
    pc_write(connection, &(pc_piece){text, (uint32_t)length}, 1);
    return true;
}

int64_t on_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, int flags) {
    char line[2 * LARGEST];
    (void)user, (void)flags;
    if (length) {
        int from = snprintf(line, sizeof line, "<%.*s> ", PC_TEXT(door->name));
        memcpy(line + from, bytes, length); /* the line ends with its own newline */
        say(line, (uint32_t)from + length, connection);
    }
    return length;
}

void on_close(pc_connection connection, void *user, enum pc_why why) {
    char line[LARGEST];
    (void)user, (void)why;
    for (uint32_t i = 0; i < count; i++) {
        if (members[i] == connection) {
            members[i] = members[--count];
            break;
        }
    }
    int length = snprintf(line, sizeof line, "* somebody left by %.*s\n", PC_TEXT(door->name));
    say(line, (uint32_t)length, 0);
}
