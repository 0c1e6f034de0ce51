//! A message server: each message is a 2-byte length, big end first, and a text. It answers with the text in capitals, framed
//! alike. The gateway finds the messages; `data` only ever sees whole ones.
//!
//! `cargo build --release -p portcullis-messages` makes `target/release/libportcullis_messages.so`.

use portcullis_plugin::{Close, Endpoint, Framing, Handle, Host, Input, Peer, Plugin, StartError};

const PREFIX: usize = 2;

struct Messages(Host);

impl Plugin for Messages {
    type Connection = ();
    const NEVER_BLOCKS: bool = true;

    fn start(_: &Endpoint, host: Host) -> Result<Self, StartError> {
        Ok(Self(host))
    }

    fn framing(&self) -> Framing {
        Framing::Length { size: PREFIX as u32, little_endian: false, counts_itself: false, most: 4096 }
    }

    fn open(&self, _: Handle, _: &Peer<'_>) -> Result<(), Close> {
        Ok(())
    }

    fn data(&self, connection: Handle, _: &mut (), input: &Input<'_>) -> Result<usize, Close> {
        // At the client's end there is no message.
        let Some((length, text)) = input.bytes().split_at_checked(PREFIX) else { return Ok(0) };
        input.consumed_if(self.0.write(connection, &[length, &text.to_ascii_uppercase()]))
    }
}

portcullis_plugin::export!(Messages);
