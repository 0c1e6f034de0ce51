/* A chat room: what one client says in a line, all others hear, by whichever endpoint they came in.
 *
 * Every endpoint that names the plugin has an instance of its own; the room is one, for the whole process. Each instance
 * knows its endpoint and keeps the handles of its own connections, and a line goes to each instance by its own host.
 *
 *     cc -shared -fPIC -O2 -I plugin-abi/include -o libchat.so examples/plugins/c/chat.c -lpthread
 */
#include "portcullis_plugin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 512 };

struct chat {
    const pc_host *host;
    const pc_endpoint *endpoint;
    pc_connection *members;
    size_t count, room;
    struct chat *next;
};

/* Every instance, and so every member. Callbacks come from several threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chat *chats;

/* Says a line to everybody but `except`. Each instance shares one buffer between its members. */
static void say(const char *line, size_t length, pc_connection except, const struct chat *except_in) {
    pthread_mutex_lock(&lock);
    for (struct chat *chat = chats; chat; chat = chat->next) {
        pc_buffer *buffer = chat->host->copy(chat->host, (const uint8_t *)line, length);
        if (!buffer) {
            continue; /* this instance's memory is used up: its clients do not read */
        }
        size_t skip = chat->count;
        for (size_t i = 0; i < chat->count; i++) {
            if (chat == except_in && chat->members[i] == except) {
                skip = i;
            }
        }
        chat->host->broadcast(chat->host, chat->members, skip, buffer, NULL);
        if (skip < chat->count) {
            chat->host->broadcast(chat->host, chat->members + skip + 1, chat->count - skip - 1, buffer, NULL);
        }
        chat->host->release(chat->host, buffer);
    }
    pthread_mutex_unlock(&lock);
}

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    struct chat *chat = instance;
    char text[LARGEST];
    (void)user;
    int length = snprintf(text, sizeof text, "* you are in, by %s (%s, %s)\n", chat->endpoint->name,
                          chat->endpoint->endpoint_class, peer->tls_version ? "TLS" : "plain");
    pc_piece piece = {(const uint8_t *)text, (size_t)length, NULL};

    pthread_mutex_lock(&lock);
    if (chat->count == chat->room) {
        size_t room = chat->room ? 2 * chat->room : 16;
        pc_connection *members = realloc(chat->members, room * sizeof *members);
        if (!members) {
            pthread_mutex_unlock(&lock);
            return PC_LIMIT;
        }
        chat->members = members;
        chat->room = room;
    }
    chat->members[chat->count++] = connection;
    chat->host->write(chat->host, connection, &piece, 1);
    pthread_mutex_unlock(&lock);
    return PC_OK;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    struct chat *chat = instance;
    char line[2 * LARGEST];
    (void)user;
    if (input->length) {
        int from = snprintf(line, sizeof line, "<%s> ", chat->endpoint->name);
        memcpy(line + from, input->bytes, input->length); /* the line ends with its own newline */
        say(line, (size_t)from + input->length, connection, chat);
    }
    return (int64_t)input->length;
}

static void on_close(void *instance, pc_connection connection, void *user, uint32_t why) {
    struct chat *chat = instance;
    char line[LARGEST];
    (void)user, (void)why;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < chat->count; i++) {
        if (chat->members[i] == connection) {
            chat->members[i] = chat->members[--chat->count];
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    int length = snprintf(line, sizeof line, "* somebody left by %s\n", chat->endpoint->name);
    say(line, (size_t)length, 0, NULL);
}

static void on_cleanup(void *instance) {
    struct chat *chat = instance;
    pthread_mutex_lock(&lock);
    for (struct chat **link = &chats; *link; link = &(*link)->next) {
        if (*link == chat) {
            *link = chat->next;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    free(chat->members);
    free(chat);
}

PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table) {
    if (requested < PC_MAKE_VERSION(1, 0)) {
        return PC_VERSION;
    }
    struct chat *chat = calloc(1, sizeof *chat);
    if (!chat) {
        return PC_LIMIT;
    }
    chat->host = host;
    chat->endpoint = endpoint; /* valid until cleanup, and so is all that it points to */

    out->high_version = PC_HEADER_VERSION;
    out->version = requested < PC_HEADER_VERSION ? requested : PC_HEADER_VERSION;
    out->instance = chat;
    out->framing.kind = PC_FRAMING_DELIMITER;
    out->framing.delimiter_size = 1;
    out->framing.delimiter[0] = '\n';
    out->framing.max_message = LARGEST;

    table->size = sizeof *table;
    table->cleanup = on_cleanup;
    table->open = on_open;
    table->data = on_data;
    table->close = on_close;

    pthread_mutex_lock(&lock);
    chat->next = chats;
    chats = chat;
    pthread_mutex_unlock(&lock);
    return PC_OK;
}
