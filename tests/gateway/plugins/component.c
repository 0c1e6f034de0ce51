/* A component that does what its client says, a command a line, for the tests: probe.c in Wasm. What it can do besides is go
 * wrong: loop, trap, and take memory. It logs each start-up and cleanup. GENERATION makes its bytes differ. */
#include "portcullis_wasm.h"

#include <ctype.h>
#include <stdio.h>

#ifndef GENERATION
#define GENERATION 1
#endif

enum { CHUNK = 1000 };

struct client {
    int filling;
    bool trap_in_close;
};

static const pc_endpoint *door;
static pc_connection last_closed;
static volatile int spun;

static void forever(void) {
    for (;;) {
        spun++;
    }
}

static bool set(const pc_endpoint *endpoint, const char *setting) {
    char settings[512];
    snprintf(settings, sizeof settings, "%.*s", PC_TEXT(endpoint->settings));
    return strstr(settings, setting);
}

static enum pc_answer say(pc_connection to, const char *text) {
    return pc_write(to, &(pc_piece){text, (uint32_t)strlen(text)}, 1);
}

static void say_number(pc_connection to, const char *what, long number) {
    char text[64];
    snprintf(text, sizeof text, "%s %ld\n", what, number);
    say(to, text);
}

/* Writes what is left of the chunks, and "filled" as the last of them, until the queue is full. */
static void fill(pc_connection to, struct client *client) {
    char chunk[CHUNK];
    memset(chunk, '.', sizeof chunk);
    chunk[CHUNK - 1] = '\n';
    pc_piece piece = {chunk, CHUNK}, last = {"filled\n", 7};
    while (client->filling > 0) {
        if (pc_write(to, client->filling == 1 ? &last : &piece, 1) == PC_FULL) {
            return; /* goes on in on_writable */
        }
        client->filling--;
    }
}

/* Takes memory, a megabyte at a time, until there is none. */
static void take(pc_connection to) {
    long megabytes = 0;
    void *held = NULL, **taken;
    while ((taken = malloc(1 << 20))) {
        *taken = held;
        held = taken;
        megabytes++;
    }
    while ((taken = held)) {
        held = *taken;
        free(taken);
    }
    say_number(to, "took", megabytes);
}

static void wrong_arguments(pc_connection to) {
    static char large[100000];
    static pc_piece pieces[1025];
    char text[64];
    for (int i = 0; i < 1025; i++) {
        pieces[i] = (pc_piece){large, sizeof large};
    }
    /* Too many pieces, pieces that are together more than there is memory, no such timer, no layer above, nobody. */
    snprintf(text, sizeof text, "wrong %d %d %d %d %d\n", pc_write(to, pieces, 1025), pc_write(to, pieces, 1024),
             pc_set_timer(to, 8, 1), pc_forward(to, pieces, 0), pc_broadcast(&last_closed, 1, "x", 1));
    say(to, text);
}

enum pc_started on_start(const pc_endpoint *endpoint, pc_offer *offer) {
    if (set(endpoint, "\"bad\":true")) {
        offer->error = "bad is not good";
        return PC_BAD_CONFIG;
    }
    if (set(endpoint, "\"start\":\"not ready\"")) {
        offer->error = "the stars are not right";
        return PC_NOT_READY;
    }
    if (set(endpoint, "\"start\":\"loop\"")) {
        forever();
    }
    if (set(endpoint, "\"start\":\"trap\"")) {
        __builtin_trap();
    }
    door = endpoint;
    if (set(endpoint, "\"framing\":\"own\"")) {
        offer->framing = PC_FRAMING_OWN;
        offer->max_message = 4096;
    } else if (!set(endpoint, "\"framing\":\"none\"")) {
        offer->framing = PC_FRAMING_DELIMITER;
        offer->delimiter = (pc_text){"\n", 1};
    }
    if (set(endpoint, "\"framing\":\"wrong\"")) {
        offer->delimiter.length = 9;
    }
    pc_log(PC_INFO, "the component starts");
    return PC_STARTED;
}

bool on_open(pc_connection connection, const pc_peer *peer, void **user) {
    (void)connection, (void)peer;
    *user = calloc(1, sizeof(struct client));
    return !set(door, "\"refuse\":true");
}

static int64_t capitals(pc_connection connection, const uint8_t *bytes, uint32_t length) {
    uint8_t text[4096];
    for (uint32_t i = 0; i < length; i++) {
        text[i] = (uint8_t)toupper(bytes[i]);
    }
    return pc_write(connection, &(pc_piece){text, length}, 1) <= PC_PAUSE ? (int64_t)length : -1;
}

int64_t on_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, int flags) {
    struct client *client = user;
    char line[256] = {0};
    int number = 0;
    if (door->layer + 1 < door->layers) { /* not the last layer: all goes through */
        pc_piece piece = {bytes, length};
        enum pc_answer answer = (flags & PC_INPUT_FROM_ABOVE ? pc_write : pc_forward)(connection, &piece, 1);
        return answer <= PC_PAUSE ? (int64_t)length : answer == PC_FULL ? 0 : -1;
    }
    if (set(door, "\"framing\":\"own\"")) {
        return capitals(connection, bytes, length);
    }
    if (!length || length > 255) {
        return length;
    }
    memcpy(line, bytes, length);
    if (sscanf(line, "fill %d", &number) == 1) {
        client->filling = number + 1;
        fill(connection, client);
    } else if (!strncmp(line, "loop", 4)) {
        forever();
    } else if (!strncmp(line, "trap later", 10)) {
        client->trap_in_close = true;
    } else if (!strncmp(line, "trap", 4)) {
        __builtin_trap();
    } else if (!strncmp(line, "take", 4)) {
        take(connection);
    } else if (!strncmp(line, "stale", 5)) {
        say_number(connection, "stale", say(last_closed, "anybody?") == PC_GONE);
    } else if (sscanf(line, "timer %d", &number) == 1) {
        pc_set_timer(connection, 1, (uint64_t)number);
    } else if (!strncmp(line, "cancel", 6)) {
        say_number(connection, "cancel", pc_cancel_timer(connection, 1));
    } else if (!strncmp(line, "wrong", 5)) {
        wrong_arguments(connection);
    } else if (!strncmp(line, "generation", 10)) {
        say_number(connection, "generation", GENERATION);
    } else if (!strncmp(line, "fault", 5)) {
        return -1;
    } else if (!strncmp(line, "greedy", 6)) {
        return (int64_t)length + 1;
    } else if (!strncmp(line, "abort", 5)) {
        pc_close(connection, PC_CLOSE_ABORT);
    } else {
        say(connection, "what?\n");
    }
    return length;
}

bool on_writable(pc_connection connection, void *user) {
    fill(connection, user);
    return true;
}

bool on_timer(pc_connection connection, void *user, uint32_t id) {
    (void)user;
    say_number(connection, "timer", (long)id);
    return true;
}

void on_close(pc_connection connection, void *user, enum pc_why why) {
    struct client *client = user;
    (void)why;
    if (client->trap_in_close) {
        __builtin_trap();
    }
    last_closed = connection;
    free(user);
}

uint32_t on_minimum_size(pc_connection connection, void *user) {
    (void)connection, (void)user;
    return 2;
}

int64_t on_message_size(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length) {
    (void)connection, (void)user, (void)length;
    uint32_t size = (uint32_t)bytes[0] << 8 | bytes[1];
    if (size == 0x2121) { /* "!!" */
        __builtin_trap();
    }
    return 2 + (int64_t)size;
}

void on_cleanup(void) {
    pc_log(PC_INFO, "the component is cleaned up");
}
