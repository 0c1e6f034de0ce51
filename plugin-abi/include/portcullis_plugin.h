/* The contract between Portcullis and a native plugin. Made from plugin-abi/src by a test; change it there.
 *
 * A plugin is a shared library that exports portcullis_plugin_startup, declared at the end. docs/plugins.md is the guide,
 * and examples/plugins/c holds plugins to start from. C99 and C++ compile it. */
#ifndef PORTCULLIS_PLUGIN_H
#define PORTCULLIS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A version as one number: the major part above the minor one, so that comparing numbers compares versions. */
#define PC_MAKE_VERSION(major, minor) ((uint32_t)(((uint32_t)(major) << 16) | (uint32_t)(minor)))
/* The version that this header describes. */
#define PC_HEADER_VERSION PC_MAKE_VERSION(1, 0)

/* What a plugin puts before its start-up, so that it is found whatever the compiler's flags are. */
#if defined(__GNUC__)
#define PC_EXPORT __attribute__((visibility("default")))
#else
#define PC_EXPORT
#endif

/* Done, or taken. */
#define PC_OK 0
/* Of `write`: taken, but the queue is long now. Its `writable` will come, and no input before that. */
#define PC_PAUSE 1
/* The connection is no more; the handle is stale. */
#define PC_GONE (-1)
/* Of `write`: nothing was taken, since the queue is full. Try again from `writable`. */
#define PC_FULL (-2)
/* An argument is wrong: a NULL, an unknown number, a piece that is not inside its buffer. */
#define PC_INVALID (-3)
/* Of start-up: not yet; the gateway tries again later, and the endpoint is not ready until then. */
#define PC_NOT_READY (-10)
/* Of start-up: the version asked for is below the lowest that the plugin speaks. */
#define PC_VERSION (-11)
/* Of start-up: it was entered again from within start-up. */
#define PC_IN_PROGRESS (-12)
/* More than there may be: instances, timers, bytes that could never fit. */
#define PC_LIMIT (-13)
/* Something went wrong inside. */
#define PC_FAULT (-14)
/* Of start-up: the endpoint's settings are wrong; the error text says how. */
#define PC_BAD_CONFIG (-15)
/* Of `pc_startup.flags`: no callback ever blocks, so `run = "inline"` may be chosen. */
#define PC_NEVER_BLOCKS 1
/* Of `pc_framing.kind`: input comes as it arrived; what is not consumed comes again with more. */
#define PC_FRAMING_NONE 0
/* Each message begins with its length. */
#define PC_FRAMING_LENGTH 1
/* Each message ends with a delimiter. */
#define PC_FRAMING_DELIMITER 2
/* The plugin tells where messages end: `minimum_size`, then `message_size`. */
#define PC_FRAMING_OWN 3
/* Of `pc_framing.length_flags`: the least significant byte comes first. */
#define PC_LENGTH_LITTLE_ENDIAN 1
/* The length counts its own bytes too. */
#define PC_LENGTH_COUNTS_ITSELF 2
/* Of `pc_input.flags`: the sender has ended; nothing comes after this input. */
#define PC_INPUT_LAST 1
/* The input was written by the layer above, on its way to the client. */
#define PC_INPUT_FROM_ABOVE 2
/* Of the host's `close`: once everything queued has been sent. */
#define PC_CLOSE_FLUSH 0
/* At once, by a reset; what is queued is dropped. */
#define PC_CLOSE_ABORT 1
/* Of the plugin's `close`: the client ended, in order. */
#define PC_CLOSED_BY_CLIENT 0
/* The plugin asked for it, or a callback failed. */
#define PC_CLOSED_BY_PLUGIN 1
/* Nothing came or went for too long. */
#define PC_CLOSED_IDLE 2
/* The gateway drains, or another instance has taken over. */
#define PC_CLOSED_DRAIN 3
/* The connection broke. */
#define PC_CLOSED_BROKEN 4
/* The client broke the framing: a message is too large, or its length makes no sense. */
#define PC_CLOSED_FRAMING 5
/* Another callback of this instance hangs, so the instance was given up. */
#define PC_CLOSED_QUARANTINE 6
/* Of `log`: something needs a person. */
#define PC_LOG_ERROR 1
/* Something will need a person. */
#define PC_LOG_WARN 2
/* What an operator wants to know. */
#define PC_LOG_INFO 3
/* What a developer wants to know. */
#define PC_LOG_DEBUG 4

/* A connection: slot and generation, so that a handle that outlives its connection is found out. 0 is none. */
typedef uint64_t pc_connection;

/* A reference-counted run of bytes that belongs to the gateway. */
typedef struct pc_buffer pc_buffer;

typedef struct pc_framing pc_framing;
typedef struct pc_startup pc_startup;
typedef struct pc_endpoint pc_endpoint;
typedef struct pc_peer pc_peer;
typedef struct pc_input pc_input;
typedef struct pc_piece pc_piece;
typedef struct pc_host pc_host;
typedef struct pc_plugin pc_plugin;

/* How the client's bytes become messages. All zero means: they do not. */
struct pc_framing {
    /* One of PC_FRAMING_. */
    uint32_t kind;
    /* The largest message, in bytes; 0: what the gateway allows, which is also the most. */
    uint32_t max_message;
    /* PC_FRAMING_LENGTH: how many bytes the length has: 1, 2, 4 or 8. `data` gets the whole message, these included. */
    uint32_t length_size;
    /* PC_FRAMING_LENGTH: PC_LENGTH_ flags. */
    uint32_t length_flags;
    /* PC_FRAMING_DELIMITER: how many bytes of `delimiter` count: 1 to 8. `data` gets the whole message, these included. */
    uint32_t delimiter_size;
    /* PC_FRAMING_DELIMITER: the delimiter. */
    uint8_t delimiter[8];
};

/* What start-up answers. The gateway fills in `size` and zeroes the rest. */
struct pc_startup {
    /* How large this record is, in bytes. */
    size_t size;
    /* The version that both sides will keep to: the lower of what was asked for and the plugin's highest. */
    uint32_t version;
    /* The plugin's highest version. */
    uint32_t high_version;
    /* The plugin's own; comes back in every call. */
    void *instance;
    /* PC_NEVER_BLOCKS, or 0. */
    uint32_t flags;
    /* How the client's bytes become messages. */
    pc_framing framing;
    /* What went wrong and what to do, with a NUL, where start-up does not answer PC_OK. */
    char error[256];
};

/* The endpoint that an instance serves. Valid until `cleanup` returns. Texts are UTF-8 and end with a NUL. */
struct pc_endpoint {
    /* How large this record is, in bytes. */
    size_t size;
    /* The endpoint's name: its key in the configuration. */
    const char *name;
    /* Whom it faces: "public" or "internal". */
    const char *endpoint_class;
    /* The handler's name. */
    const char *handler;
    /* The endpoint's `settings` table as a JSON object. */
    const char *settings;
    /* 1 if the gateway terminates TLS there, else 0. Bytes are plain to the plugin either way. */
    uint32_t tls;
    /* Which layer of the handler's chain this is; 0 is next to the client. */
    uint32_t layer;
    /* How many layers the chain has. */
    uint32_t layers;
    /* The largest message that framing lets through, in bytes. */
    uint32_t max_message;
    /* How much a connection's queue holds, in bytes. */
    uint32_t max_queue;
};

/* Who is at the other end. Valid during `open`. Texts are UTF-8 and end with a NUL; what does not apply is NULL. */
struct pc_peer {
    /* How large this record is, in bytes. */
    size_t size;
    /* The client's address and port, such as "192.0.2.7:51234". */
    const char *client;
    /* The address and port that the client dialled. */
    const char *local;
    /* The TLS version, such as "1.3". */
    const char *tls_version;
    /* The cipher suite's IANA name. */
    const char *tls_cipher;
    /* The name that the client asked for (SNI). */
    const char *server_name;
    /* The application protocol that ALPN chose. */
    const char *alpn;
    /* The common name of the client's certificate, which was verified. */
    const char *certificate_name;
};

/* What `data` gets. Borrowed for the call; `retain` the buffer to keep it. */
struct pc_input {
    /* How large this record is, in bytes. */
    size_t size;
    /* The bytes; one message, where there is framing. */
    const uint8_t *bytes;
    /* How many. */
    size_t length;
    /* The buffer that holds them, borrowed. */
    pc_buffer *buffer;
    /* PC_INPUT_ flags. */
    uint32_t flags;
};

/* A run of bytes to write. Copied before `write` returns, unless a buffer holds them. */
struct pc_piece {
    /* The bytes. */
    const uint8_t *bytes;
    /* How many. */
    size_t length;
    /* The buffer that holds the bytes, which is then shared and not copied; or NULL. */
    pc_buffer *buffer;
};

/* What the gateway offers. Valid until `cleanup` returns. Any thread may call, at any time, with the table that its
 * instance was given; no function waits, and none calls the plugin back. */
struct pc_host {
    /* How large the table is, in bytes. */
    size_t size;
    /* Queues bytes for the client (from a layer above another: for the layer below). All pieces or none:
     * PC_OK, PC_PAUSE, PC_FULL, PC_GONE, PC_LIMIT (more than a queue can ever hold) or PC_INVALID. */
    int32_t (*write)(const pc_host *host, pc_connection connection, const pc_piece *pieces, size_t count);
    /* Queues the whole buffer for each connection, without copying it. Answers for each go to `results`, unless that is
     * NULL. Answers how many took it, or PC_INVALID. */
    int64_t (*broadcast)(const pc_host *host, const pc_connection *connections, size_t count, pc_buffer *buffer, int32_t *results);
    /* Queues bytes for the layer above, which gets them as input. Answers as `write`; PC_INVALID in the last layer. */
    int32_t (*forward)(const pc_host *host, pc_connection connection, const pc_piece *pieces, size_t count);
    /* Closes the connection; how is one of PC_CLOSE_. `close` of the plugin follows. PC_OK, PC_GONE or PC_INVALID. */
    int32_t (*close)(const pc_host *host, pc_connection connection, uint32_t how);
    /* Calls `timer` once, after this time. There are 8 timers to a connection, 0 to 7; setting one that is set moves it.
     * PC_OK, PC_GONE or PC_LIMIT (no such timer). */
    int32_t (*set_timer)(const pc_host *host, pc_connection connection, uint32_t id, uint64_t milliseconds);
    /* Forgets a timer. It may have run out already, and `timer` be on its way. PC_OK, PC_GONE or PC_LIMIT. */
    int32_t (*cancel_timer)(const pc_host *host, pc_connection connection, uint32_t id);
    /* A new buffer with a copy of these bytes, which the plugin must release; NULL where the gateway's memory for this
     * instance is used up. */
    pc_buffer *(*copy)(const pc_host *host, const uint8_t *bytes, size_t length);
    /* A new buffer around the plugin's own bytes, which the plugin must release. `free` is called once, with `context`,
     * when nobody needs them any more: on any thread, and perhaps before `release` of another buffer returns. It must
     * not call the gateway. */
    pc_buffer *(*wrap)(const pc_host *host, const uint8_t *bytes, size_t length, void (*free)(void *), void *context);
    /* Another handle of the same bytes, which the plugin must release; of a borrowed buffer, this is how to keep it. */
    pc_buffer *(*retain)(const pc_host *host, const pc_buffer *buffer);
    /* Gives a handle back. The bytes stay while anybody needs them. */
    void (*release)(const pc_host *host, pc_buffer *buffer);
    /* Where a buffer's bytes are, and how many. */
    const uint8_t *(*bytes)(const pc_host *host, const pc_buffer *buffer, size_t *length);
    /* Writes a line to the gateway's log, with the endpoint's name. The level is one of PC_LOG_; the text ends with a NUL. */
    void (*log)(const pc_host *host, uint32_t level, const char *text);
};

/* What the plugin offers. The gateway fills in how much room there is (`size`); the plugin fills in its functions and
 * the size of what it filled in, never more than the room. The table belongs to the instance.
 *
 * One connection's callbacks come one after the other, in order; those of different connections come side by side,
 * unless the pool has one thread. `cleanup` overlaps no other call. */
struct pc_plugin {
    /* How large the table is, in bytes. */
    size_t size;
    /* The endpoint is closed, or start-up could not be completed. Once for each start-up that answered PC_OK, and
     * nothing comes after it: threads that call the gateway must have ended when it returns. */
    void (*cleanup)(void *instance);
    /* A connection came. What is put into `user` comes back in every call about it. PC_OK, or anything else to close it. */
    int32_t (*open)(void *instance, pc_connection connection, const pc_peer *peer, void **user);
    /* Input came. Answers how much was consumed: where there is no framing, what is left comes again with more; a
     * message is consumed whole, or not at all (0) and then comes again after `writable`. Below 0 closes the connection. */
    int64_t (*data)(void *instance, pc_connection connection, void *user, const pc_input *input);
    /* The connection is over, and its handle stale. Once for each `open` that answered PC_OK, after its last callback;
     * why is one of PC_CLOSED_. */
    void (*close)(void *instance, pc_connection connection, void *user, uint32_t why);
    /* The queue was long or full, and is short again. */
    void (*writable)(void *instance, pc_connection connection, void *user);
    /* A timer that `set_timer` set has run out. */
    void (*timer)(void *instance, pc_connection connection, void *user, uint32_t id);
    /* PC_FRAMING_OWN: how many bytes `message_size` needs to see at least. */
    size_t (*minimum_size)(void *instance, pc_connection connection, void *user);
    /* PC_FRAMING_OWN: how large the message is that begins here, of which this much has come; 0 if that cannot be told
     * yet. Below 0 closes the connection. */
    int64_t (*message_size)(void *instance, pc_connection connection, void *user, const uint8_t *bytes, size_t length);
};

/* The one symbol that a plugin exports. The gateway calls it once for every endpoint that names the plugin.
 *
 * `requested` is the gateway's highest version. Below the plugin's lowest, answer PC_VERSION. Else set `out->high_version`
 * to the plugin's highest and `out->version` to the lower of the two, fill in `out->instance` and the table, and answer
 * PC_OK: a `cleanup` will follow. Both sides then keep to `out->version`. */
PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table);

#ifdef __cplusplus
}
#endif

#endif
