//! The numbers: answers, flags, reasons.

use crate::shape::codes;

codes! {
    /// Done, or taken.
    PC_OK: i32 = 0;
    /// Of `write`: taken, but the queue is long now. Its `writable` will come, and no input before that.
    PC_PAUSE: i32 = 1;
    /// The connection is no more; the handle is stale.
    PC_GONE: i32 = -1;
    /// Of `write`: nothing was taken, since the queue is full. Try again from `writable`.
    PC_FULL: i32 = -2;
    /// An argument is wrong: a NULL, an unknown number, a piece that is not inside its buffer.
    PC_INVALID: i32 = -3;

    /// Of start-up: not yet; the gateway tries again later, and the endpoint is not ready until then.
    PC_NOT_READY: i32 = -10;
    /// Of start-up: the version asked for is below the lowest that the plugin speaks.
    PC_VERSION: i32 = -11;
    /// Of start-up: it was entered again from within start-up.
    PC_IN_PROGRESS: i32 = -12;
    /// More than there may be: instances, timers, bytes that could never fit.
    PC_LIMIT: i32 = -13;
    /// Something went wrong inside.
    PC_FAULT: i32 = -14;
    /// Of start-up: the endpoint's settings are wrong; the error text says how.
    PC_BAD_CONFIG: i32 = -15;

    /// Of `pc_startup.flags`: no callback ever blocks, so `run = "inline"` may be chosen.
    PC_NEVER_BLOCKS: u32 = 1;

    /// Of `pc_framing.kind`: input comes as it arrived; what is not consumed comes again with more.
    PC_FRAMING_NONE: u32 = 0;
    /// Each message begins with its length.
    PC_FRAMING_LENGTH: u32 = 1;
    /// Each message ends with a delimiter.
    PC_FRAMING_DELIMITER: u32 = 2;
    /// The plugin tells where messages end: `minimum_size`, then `message_size`.
    PC_FRAMING_OWN: u32 = 3;

    /// Of `pc_framing.length_flags`: the least significant byte comes first.
    PC_LENGTH_LITTLE_ENDIAN: u32 = 1;
    /// The length counts its own bytes too.
    PC_LENGTH_COUNTS_ITSELF: u32 = 2;

    /// Of `pc_input.flags`: the sender has ended; nothing comes after this input.
    PC_INPUT_LAST: u32 = 1;
    /// The input was written by the layer above, on its way to the client.
    PC_INPUT_FROM_ABOVE: u32 = 2;

    /// Of the host's `close`: once everything queued has been sent.
    PC_CLOSE_FLUSH: u32 = 0;
    /// At once, by a reset; what is queued is dropped.
    PC_CLOSE_ABORT: u32 = 1;

    /// Of the plugin's `close`: the client ended, in order.
    PC_CLOSED_BY_CLIENT: u32 = 0;
    /// The plugin asked for it, or a callback failed.
    PC_CLOSED_BY_PLUGIN: u32 = 1;
    /// Nothing came or went for too long.
    PC_CLOSED_IDLE: u32 = 2;
    /// The gateway drains, or another instance has taken over.
    PC_CLOSED_DRAIN: u32 = 3;
    /// The connection broke.
    PC_CLOSED_BROKEN: u32 = 4;
    /// The client broke the framing: a message is too large, or its length makes no sense.
    PC_CLOSED_FRAMING: u32 = 5;
    /// Another callback of this instance hangs, so the instance was given up.
    PC_CLOSED_QUARANTINE: u32 = 6;

    /// Of `log`: something needs a person.
    PC_LOG_ERROR: u32 = 1;
    /// Something will need a person.
    PC_LOG_WARN: u32 = 2;
    /// What an operator wants to know.
    PC_LOG_INFO: u32 = 3;
    /// What a developer wants to know.
    PC_LOG_DEBUG: u32 = 4;
}
