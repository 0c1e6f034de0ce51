/* A message server: each message is a 2-byte length, big end first, and a text. It answers with the text in capitals, framed
 * alike. The gateway finds the messages; `on_data` only ever sees whole ones.
 *
 * Build it as portcullis_wasm.h says.
 */
#include "portcullis_wasm.h"

#include <ctype.h>

enum { PREFIX = 2, LARGEST = 4096 };

enum pc_started on_start(const pc_endpoint *endpoint, pc_offer *offer) {
    (void)endpoint;
    offer->framing = PC_FRAMING_LENGTH;
    offer->length_size = PREFIX;
    offer->max_message = LARGEST; /* the length included */
    return PC_STARTED;
}

bool on_open(pc_connection connection, const pc_peer *peer, void **user) {
    (void)connection, (void)peer, (void)user;
    return true;
}

int64_t on_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, int flags) {
    uint8_t text[LARGEST];
    (void)user, (void)flags;
    if (length < PREFIX) {
        return 0; /* the client has ended; there is no message */
    }
    for (uint32_t i = PREFIX; i < length; i++) {
        text[i] = (uint8_t)toupper(bytes[i]);
    }
    /* Two pieces, one write: the length as it came, then the new text. All of it is taken, or nothing. */
    pc_piece pieces[] = {{bytes, PREFIX}, {text + PREFIX, length - PREFIX}};
    enum pc_answer answer = pc_write(connection, pieces, 2);
    if (answer == PC_FULL) {
        return 0; /* the message comes again when the client has read */
    }
    return answer == PC_OK || answer == PC_PAUSE ? (int64_t)length : -1;
}
