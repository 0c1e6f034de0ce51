/* Wasm plugins for Portcullis, in C: the world of wit/portcullis.wit, by hand.
 *
 * Include it in one file. Define the `on_` functions below that you want; `on_start`, `on_open` and `on_data` must be there.
 *
 *     clang --target=wasm32-wasi -mexec-model=reactor -O2 -I plugin-wasm/include -o echo.module.wasm echo.c
 *     cargo run -p portcullis-plugin-wasm -- echo.module.wasm echo.wasm
 *
 * The C library may be used for strings, numbers and memory (malloc, snprintf, strtol). There are no files, clocks or sockets,
 * and what is printed goes nowhere: use pc_log. An instance has one thread and shares nothing with other instances, so static
 * variables are an instance's own.
 */
#ifndef PORTCULLIS_WASM_H
#define PORTCULLIS_WASM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

/* A connection: slot and generation. */
typedef uint64_t pc_connection;

/* Text that does not end with a NUL: printf("%.*s", PC_TEXT(text)). */
typedef struct {
    const char *bytes;
    uint32_t length;
} pc_text;
#define PC_TEXT(text) (int)(text).length, (text).bytes

/* Text that may be missing. */
typedef struct {
    bool is_there;
    pc_text text;
} pc_optional_text;

/* A piece of what is to be written. */
typedef struct {
    const void *bytes;
    uint32_t length;
} pc_piece;

enum pc_class { PC_PUBLIC, PC_INTERNAL };

/* The endpoint that this instance serves. Valid until cleanup. */
typedef struct {
    pc_text name;
    enum pc_class class;
    bool tls;
    pc_text handler;
    pc_text settings; /* a JSON object */
    uint32_t layer, layers, max_message, max_queue;
} pc_endpoint;

/* Who is at the other end. Valid during `on_open`. */
typedef struct {
    pc_text client, local;
    pc_optional_text tls_version, tls_cipher, server_name, alpn, certificate_name;
} pc_peer;

enum pc_framing { PC_FRAMING_NONE, PC_FRAMING_LENGTH, PC_FRAMING_DELIMITER, PC_FRAMING_OWN };

/* What the plugin asks for at start-up. All zero: bytes as they come, as many as the gateway allows. */
typedef struct {
    enum pc_framing framing;
    uint8_t length_size; /* PC_FRAMING_LENGTH: 1, 2, 4 or 8 */
    bool little_endian, counts_itself;
    pc_text delimiter; /* PC_FRAMING_DELIMITER: 1 to 8 bytes */
    uint32_t max_message;
    const char *error; /* for the operator, where `on_start` fails */
} pc_offer;

/* What `on_start` answers. */
enum pc_started { PC_STARTED = -1, PC_NOT_READY, PC_BAD_CONFIG, PC_FAULT };

/* Why a connection ended. */
enum pc_why {
    PC_CLOSED_BY_CLIENT,
    PC_CLOSED_BY_PLUGIN,
    PC_CLOSED_IDLE,
    PC_CLOSED_DRAIN,
    PC_CLOSED_BROKEN,
    PC_CLOSED_FRAMING,
    PC_CLOSED_QUARANTINE
};

/* What a request is answered; the meanings are in the world's comments. */
enum pc_answer { PC_OK, PC_PAUSE, PC_FULL, PC_GONE, PC_LIMIT, PC_INVALID };
enum pc_close_mode { PC_CLOSE_FLUSH, PC_CLOSE_ABORT };
enum pc_level { PC_ERROR, PC_WARN, PC_INFO, PC_DEBUG };
/* What is known about input. */
enum { PC_INPUT_LAST = 1, PC_INPUT_FROM_ABOVE = 2 };

/* What you may ask of the gateway. */
#define PC_HOST(name) __attribute__((import_module("portcullis:plugin/host@1.0.0"), import_name(name)))
PC_HOST("write") enum pc_answer pc_write(pc_connection to, const pc_piece *pieces, uint32_t count);
PC_HOST("forward") enum pc_answer pc_forward(pc_connection to, const pc_piece *pieces, uint32_t count);
PC_HOST("broadcast") uint32_t pc_broadcast(const pc_connection *to, uint32_t count, const void *bytes, uint32_t length);
PC_HOST("close") enum pc_answer pc_close(pc_connection what, enum pc_close_mode mode);
PC_HOST("set-timer") enum pc_answer pc_set_timer(pc_connection of, uint32_t id, uint64_t milliseconds);
PC_HOST("cancel-timer") enum pc_answer pc_cancel_timer(pc_connection of, uint32_t id);
PC_HOST("log") void pc_log_bytes(enum pc_level level, const char *text, uint32_t length);

static inline void pc_log(enum pc_level level, const char *text) {
    pc_log_bytes(level, text, (uint32_t)strlen(text));
}

/* What happens to you. `user` is your own word about a connection, as `on_open` left it. `on_open`, `on_writable` and
 * `on_timer` answer true where the connection may go on; `on_data` and `on_message_size` a number, or less than 0. */
enum pc_started on_start(const pc_endpoint *endpoint, pc_offer *offer);
bool on_open(pc_connection connection, const pc_peer *peer, void **user);
int64_t on_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, int flags);
/* These may be left out. */
#define PC_OPTIONAL __attribute__((weak))
PC_OPTIONAL bool on_writable(pc_connection connection, void *user);
PC_OPTIONAL bool on_timer(pc_connection connection, void *user, uint32_t id);
PC_OPTIONAL void on_close(pc_connection connection, void *user, enum pc_why why);
PC_OPTIONAL uint32_t on_minimum_size(pc_connection connection, void *user);
PC_OPTIONAL int64_t on_message_size(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length);
PC_OPTIONAL void on_cleanup(void);

/* ---- From here on: how the world's words lie in memory (the component model's canonical ABI). ---- */

#define PC_EVENT(name) __attribute__((export_name("portcullis:plugin/events@1.0.0#" name)))

/* Where the gateway puts an event's arguments: chunks that are used again by the next event. */
struct pc_chunk {
    struct pc_chunk *before;
    uint32_t size, used;
} __attribute__((aligned(16))); /* and so is what follows it */

static struct pc_chunk *pc_chunk;

__attribute__((export_name("cabi_realloc"))) void *pc_realloc(void *old, uint32_t had, uint32_t align, uint32_t size) {
    uint32_t from = pc_chunk ? (pc_chunk->used + align - 1) / align * align : 0;
    if (!pc_chunk || from > pc_chunk->size || size > pc_chunk->size - from) {
        uint32_t room = pc_chunk ? 2 * pc_chunk->size : 4096;
        room = size > room ? size : room;
        struct pc_chunk *chunk = malloc(sizeof *chunk + room);
        if (!chunk) {
            __builtin_trap(); /* out of memory */
        }
        *chunk = (struct pc_chunk){pc_chunk, room, 0};
        pc_chunk = chunk;
        from = 0;
    }
    uint8_t *here = (uint8_t *)(pc_chunk + 1) + from;
    if (old) {
        memcpy(here, old, had < size ? had : size);
    }
    pc_chunk->used = from + size;
    return here;
}

/* The event is over: of its chunks, the last is the largest and is kept. */
static void pc_done(void) {
    if (!pc_chunk) {
        return;
    }
    while (pc_chunk->before) {
        struct pc_chunk *before = pc_chunk->before;
        pc_chunk->before = before->before;
        free(before);
    }
    pc_chunk->used = 0;
}

/* result<u32> */
struct pc_number {
    uint8_t failed;
    uint32_t value;
};

static struct pc_number pc_number;

static struct pc_number *pc_answer_number(int64_t number) {
    pc_done();
    pc_number = (struct pc_number){number < 0, number < 0 ? 0 : (uint32_t)number};
    return &pc_number;
}

/* result<offer, start-error> */
static struct {
    uint8_t failed;
    union {
        struct {
            uint8_t framing;
            union {
                struct {
                    uint8_t size, little_endian, counts_itself;
                } length;
                pc_text delimiter;
            };
            uint32_t max_message;
        } offer;
        struct {
            uint8_t kind;
            pc_text text;
        } error;
    };
} pc_start;

PC_EVENT("start")
void *pc_event_start(const char *name, uint32_t name_length, uint32_t class, uint32_t tls, const char *handler,
                     uint32_t handler_length, const char *settings, uint32_t settings_length, uint32_t layer,
                     uint32_t layers, uint32_t max_message, uint32_t max_queue) {
    static pc_endpoint endpoint;
    static pc_offer offer;
    endpoint = (pc_endpoint){{name, name_length}, (enum pc_class)class, tls,         {handler, handler_length},
                             {settings, settings_length}, layer,        layers,      max_message, max_queue};
    enum pc_started started = on_start(&endpoint, &offer);
    pc_chunk = NULL; /* the endpoint's texts stay where they are */
    if (started != PC_STARTED) {
        const char *error = offer.error ? offer.error : "did not start";
        pc_start.failed = 1;
        pc_start.error.kind = (uint8_t)started;
        pc_start.error.text = (pc_text){error, (uint32_t)strlen(error)};
        return &pc_start;
    }
    pc_start.failed = 0;
    pc_start.offer.framing = (uint8_t)offer.framing;
    pc_start.offer.max_message = offer.max_message;
    if (offer.framing == PC_FRAMING_DELIMITER) {
        pc_start.offer.delimiter = offer.delimiter;
    } else {
        pc_start.offer.length.size = offer.length_size;
        pc_start.offer.length.little_endian = offer.little_endian;
        pc_start.offer.length.counts_itself = offer.counts_itself;
    }
    return &pc_start;
}

struct pc_opened {
    pc_connection connection;
    pc_peer peer;
};

PC_EVENT("open") void *pc_event_open(const struct pc_opened *opened) {
    void *user = NULL;
    bool wanted = on_open(opened->connection, &opened->peer, &user);
    return pc_answer_number(wanted ? (int64_t)(uintptr_t)user : -1);
}

PC_EVENT("data")
void *pc_event_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, uint32_t last,
                    uint32_t from_above) {
    int flags = (last ? PC_INPUT_LAST : 0) | (from_above ? PC_INPUT_FROM_ABOVE : 0);
    return pc_answer_number(on_data(connection, user, bytes, length, flags));
}

PC_EVENT("writable") uint32_t pc_event_writable(pc_connection connection, void *user) {
    return on_writable && !on_writable(connection, user);
}

PC_EVENT("timer") uint32_t pc_event_timer(pc_connection connection, void *user, uint32_t id) {
    return on_timer && !on_timer(connection, user, id);
}

PC_EVENT("close") void pc_event_close(pc_connection connection, void *user, uint32_t why) {
    if (on_close) {
        on_close(connection, user, (enum pc_why)why);
    }
}

PC_EVENT("minimum-size") uint32_t pc_event_minimum_size(pc_connection connection, void *user) {
    return on_minimum_size ? on_minimum_size(connection, user) : 1;
}

PC_EVENT("message-size")
void *pc_event_message_size(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length) {
    return pc_answer_number(on_message_size ? on_message_size(connection, user, bytes, length) : -1);
}

PC_EVENT("cleanup") void pc_event_cleanup(void) {
    if (on_cleanup) {
        on_cleanup();
    }
}

/* The C library would ask the system for these; a plugin has none, and nothing is open. */
__wasi_errno_t __wasi_fd_close(__wasi_fd_t fd) {
    (void)fd;
    return __WASI_ERRNO_BADF;
}

__wasi_errno_t __wasi_fd_seek(__wasi_fd_t fd, __wasi_filedelta_t offset, __wasi_whence_t whence, __wasi_filesize_t *at) {
    (void)fd, (void)offset, (void)whence, (void)at;
    return __WASI_ERRNO_BADF;
}

__wasi_errno_t __wasi_fd_write(__wasi_fd_t fd, const __wasi_ciovec_t *pieces, size_t count, __wasi_size_t *written) {
    (void)fd, (void)pieces, (void)count, (void)written;
    return __WASI_ERRNO_BADF;
}

#endif
