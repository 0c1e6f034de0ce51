/* Echo: sends back what comes, and slows down clients that do not read.
 *
 * Build it as portcullis_wasm.h says.
 */
#include "portcullis_wasm.h"

enum pc_started on_start(const pc_endpoint *endpoint, pc_offer *offer) {
    (void)endpoint, (void)offer;
    return PC_STARTED;
}

bool on_open(pc_connection connection, const pc_peer *peer, void **user) {
    (void)connection, (void)peer, (void)user;
    return true;
}

int64_t on_data(pc_connection connection, void *user, const uint8_t *bytes, uint32_t length, int flags) {
    (void)user, (void)flags;
    enum pc_answer answer = pc_write(connection, &(pc_piece){bytes, length}, 1);
    if (answer == PC_FULL) {
        return 0; /* comes again when the client has read */
    }
    return answer == PC_OK || answer == PC_PAUSE ? (int64_t)length : -1;
}
