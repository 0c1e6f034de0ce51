/* A plugin that does what its client says, a command a line, for the tests. Its settings may name a journal, a file to which
 * it appends a line at each start-up and cleanup: {"journal":"/path"}. GENERATION makes its bytes differ. */
#define _POSIX_C_SOURCE 200809L
#include "portcullis_plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef GENERATION
#define GENERATION 1
#endif

enum { CHUNK = 1000 };

struct probe {
    const pc_host *host;
    const pc_endpoint *endpoint;
    pc_connection last_closed;
};

struct client {
    pc_connection connection;
    struct probe *probe;
    int filling;
};

static atomic_int freed;
static char wrapped[CHUNK];

static void journal(struct probe *probe, const char *what) {
    const char *found = strstr(probe->endpoint->settings, "\"journal\":\"");
    char path[512];
    if (found && sscanf(found, "\"journal\":\"%511[^\"]\"", path) == 1) {
        FILE *file = fopen(path, "a");
        if (file) {
            fprintf(file, "%s %s %u %d\n", what, probe->endpoint->name, probe->endpoint->layer, GENERATION);
            fclose(file);
        }
    }
}

static int32_t say(struct probe *probe, pc_connection to, const char *text) {
    pc_piece piece = {(const uint8_t *)text, strlen(text), NULL};
    return probe->host->write(probe->host, to, &piece, 1);
}

static void say_number(struct probe *probe, pc_connection to, const char *what, long number) {
    char text[64];
    snprintf(text, sizeof text, "%s %ld\n", what, number);
    say(probe, to, text);
}

static void nap(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void on_free(void *context) {
    (void)context;
    atomic_fetch_add(&freed, 1);
}

/* Writes what is left of the chunks, and "filled" as the last of them, until the queue is full. */
static void fill(struct client *client) {
    char chunk[CHUNK];
    pc_piece piece = {(const uint8_t *)chunk, CHUNK, NULL};
    pc_piece last = {(const uint8_t *)"filled\n", 7, NULL};
    struct probe *probe = client->probe;
    memset(chunk, '.', sizeof chunk);
    chunk[CHUNK - 1] = '\n';
    while (client->filling > 0) {
        int32_t answer = probe->host->write(probe->host, client->connection, client->filling == 1 ? &last : &piece, 1);
        if (answer == PC_FULL) {
            return; /* goes on in writable */
        }
        client->filling--;
    }
}

/* Asks the host from a thread of its own. */
static void *from_elsewhere(void *context) {
    struct client *client = context;
    for (int i = 0; i < 10; i++) {
        say_number(client->probe, client->connection, "elsewhere", i);
    }
    free(client);
    return NULL;
}

static void copies(struct probe *probe, pc_connection to) {
    pc_buffer *held[10000];
    long count = 0;
    char *bytes = calloc(1, 100000);
    while (count < 10000 && (held[count] = probe->host->copy(probe->host, (uint8_t *)bytes, 100000))) {
        count++;
    }
    for (long i = 0; i < count; i++) {
        probe->host->release(probe->host, held[i]);
    }
    free(bytes);
    say_number(probe, to, "copies", count);
}

static void wrap(struct probe *probe, pc_connection to) {
    pc_buffer *buffer = probe->host->wrap(probe->host, (uint8_t *)wrapped, CHUNK, on_free, NULL);
    pc_piece piece = {(const uint8_t *)wrapped + 10, 5, buffer};
    pc_piece outside = {(const uint8_t *)wrapped + CHUNK - 1, 5, buffer};
    memcpy(wrapped + 10, "own!\n", 5);
    say_number(probe, to, "outside", probe->host->write(probe->host, to, &outside, 1));
    probe->host->write(probe->host, to, &piece, 1);
    probe->host->release(probe->host, buffer);
}

static void wrong_arguments(struct probe *probe, pc_connection to) {
    const pc_host *host = probe->host;
    pc_piece nothing = {NULL, 5, NULL};
    pc_piece huge = {(const uint8_t *)"x", (size_t)-1, NULL};
    char text[256];
    snprintf(text, sizeof text, "wrong %d %d %d %d %d %d %d\n", host->write(NULL, to, NULL, 0), host->write(host, to, NULL, 1),
             host->write(host, to, &nothing, 1), host->write(host, to, &huge, 1), host->close(host, to, 9),
             host->set_timer(host, to, 8, 1), host->forward(host, to, NULL, 0));
    say(probe, to, text);
}

static int32_t on_open(void *instance, pc_connection connection, const pc_peer *peer, void **user) {
    struct probe *probe = instance;
    (void)peer;
    if (strstr(probe->endpoint->settings, "\"refuse\":true")) {
        return PC_LIMIT;
    }
    struct client *client = calloc(1, sizeof *client);
    client->probe = probe;
    client->connection = connection;
    *user = client;
    return PC_OK;
}

static int64_t on_data(void *instance, pc_connection connection, void *user, const pc_input *input) {
    struct probe *probe = instance;
    struct client *client = user;
    const pc_host *host = probe->host;
    char line[256] = {0};
    int number = 0;
    if (!input->length || input->length > 255) {
        return (int64_t)input->length;
    }
    memcpy(line, input->bytes, input->length);
    if (sscanf(line, "fill %d", &number) == 1) {
        client->filling = number + 1;
        fill(client);
    } else if (sscanf(line, "sleep %d", &number) == 1) {
        nap(number);
        say(probe, connection, "slept\n");
    } else if (!strncmp(line, "hang", 4)) {
        for (;;) {
            nap(1000);
        }
    } else if (!strncmp(line, "copies", 6)) {
        copies(probe, connection);
    } else if (!strncmp(line, "wrap", 4)) {
        wrap(probe, connection);
    } else if (!strncmp(line, "freed", 5)) {
        say_number(probe, connection, "freed", atomic_load(&freed));
    } else if (!strncmp(line, "stale", 5)) {
        say_number(probe, connection, "stale", say(probe, probe->last_closed, "anybody?"));
    } else if (sscanf(line, "timer %d", &number) == 1) {
        host->set_timer(host, connection, 1, (uint64_t)number);
    } else if (!strncmp(line, "cancel", 6)) {
        say_number(probe, connection, "cancel", host->cancel_timer(host, connection, 1));
    } else if (!strncmp(line, "thread", 6)) {
        pthread_t thread;
        struct client *copy = malloc(sizeof *copy);
        *copy = *client;
        pthread_create(&thread, NULL, from_elsewhere, copy);
        pthread_detach(thread);
    } else if (!strncmp(line, "wrong", 5)) {
        wrong_arguments(probe, connection);
    } else if (!strncmp(line, "generation", 10)) {
        say_number(probe, connection, "generation", GENERATION);
    } else if (!strncmp(line, "fault", 5)) {
        return PC_FAULT;
    } else if (!strncmp(line, "greedy", 6)) {
        return (int64_t)input->length + 1;
    } else if (!strncmp(line, "abort", 5)) {
        host->close(host, connection, PC_CLOSE_ABORT);
    } else {
        say(probe, connection, "what?\n");
    }
    return (int64_t)input->length;
}

static void on_writable(void *instance, pc_connection connection, void *user) {
    (void)instance, (void)connection;
    fill(user);
}

static void on_timer(void *instance, pc_connection connection, void *user, uint32_t id) {
    (void)user;
    say_number(instance, connection, "timer", (long)id);
}

static void on_close(void *instance, pc_connection connection, void *user, uint32_t why) {
    struct probe *probe = instance;
    (void)why;
    probe->last_closed = connection;
    free(user);
}

static void on_cleanup(void *instance) {
    journal(instance, "cleanup");
    free(instance);
}

PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table) {
    struct probe *probe = calloc(1, sizeof *probe);
    probe->host = host;
    probe->endpoint = endpoint;
    if (strstr(endpoint->settings, "\"bad\":true")) {
        snprintf(out->error, sizeof out->error, "bad is not good");
        free(probe);
        return PC_BAD_CONFIG;
    }
    if (strstr(endpoint->settings, "\"start\":\"slowly\"")) {
        nap(3600 * 1000);
    }
    /* Not ready until the file that the settings name is there. */
    const char *found = strstr(endpoint->settings, "\"waits_for\":\"");
    char path[512];
    if (found && sscanf(found, "\"waits_for\":\"%511[^\"]\"", path) == 1 && access(path, F_OK)) {
        snprintf(out->error, sizeof out->error, "%.200s is not there", path);
        free(probe);
        return PC_NOT_READY;
    }
    journal(probe, "start");
    out->high_version = PC_HEADER_VERSION;
    out->version = requested < PC_HEADER_VERSION ? requested : PC_HEADER_VERSION;
    out->instance = probe;
    out->framing.kind = PC_FRAMING_DELIMITER;
    out->framing.delimiter_size = 1;
    out->framing.delimiter[0] = '\n';
    table->size = sizeof *table;
    table->cleanup = on_cleanup;
    table->open = on_open;
    table->data = on_data;
    table->close = on_close;
    table->writable = on_writable;
    table->timer = on_timer;
    return PC_OK;
}
