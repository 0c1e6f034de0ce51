//! Echo: sends back what comes, and slows down clients that do not read.
//!
//! `cargo build --release -p portcullis-echo` makes `target/release/libportcullis_echo.so`.

use portcullis_plugin::{Close, Endpoint, Handle, Host, Input, Peer, Plugin, StartError};

struct Echo(Host);

impl Plugin for Echo {
    type Connection = ();
    const NEVER_BLOCKS: bool = true;

    fn start(_: &Endpoint, host: Host) -> Result<Self, StartError> {
        Ok(Self(host))
    }

    fn open(&self, _: Handle, _: &Peer<'_>) -> Result<(), Close> {
        Ok(())
    }

    fn data(&self, connection: Handle, _: &mut (), input: &Input<'_>) -> Result<usize, Close> {
        // Keeping the input shares its bytes; where the queue is full, the input comes again.
        input.consumed_if(self.0.write_buffers(connection, &[&input.keep()]))
    }
}

portcullis_plugin::export!(Echo);
