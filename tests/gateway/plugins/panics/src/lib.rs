//! A plugin that panics where its client says, a word a line, for the tests.

use std::time::Duration;

use portcullis_plugin::{Close, Endpoint, Framing, Handle, Host, Input, Peer, Plugin, StartError, Why};

struct Panics(Host);

impl Plugin for Panics {
    type Connection = Option<String>;

    fn start(endpoint: &Endpoint, host: Host) -> Result<Self, StartError> {
        assert!(!endpoint.settings.contains("panic"), "told to by the settings");
        Ok(Self(host))
    }

    fn framing(&self) -> Framing {
        Framing::Own { least: 1, most: 0 }
    }

    fn open(&self, _: Handle, _: &Peer<'_>) -> Result<Option<String>, Close> {
        Ok(None)
    }

    fn data(&self, connection: Handle, state: &mut Option<String>, input: &Input<'_>) -> Result<usize, Close> {
        let word = String::from_utf8_lossy(input.bytes()).trim_end().to_owned();
        match word.as_str() {
            "data" => panic!("told to in data"),
            "timer" => drop(self.0.set_timer(connection, 0, Duration::from_millis(1))),
            "kept" => {
                // A buffer outlives its call, and is written from another thread.
                let (kept, host) = (input.keep(), self.0.clone());
                std::thread::spawn(move || host.write_buffers(connection, &[&kept, &kept.clone()]));
            }
            "wrapped" => {
                let buffer = self.0.wrap(b"wrapped\n".to_vec()).ok_or(Close)?;
                self.0.broadcast(&[connection, connection], &buffer);
            }
            _ => drop(self.0.write(connection, &[input.bytes()])),
        }
        // At the client's end there is no word.
        if !word.is_empty() {
            *state = Some(word);
        }
        Ok(input.bytes().len())
    }

    fn timer(&self, _: Handle, _: &mut Option<String>, _: u32) {
        panic!("told to in timer");
    }

    fn close(&self, _: Handle, state: Option<String>, _: Why) {
        assert_ne!(state.as_deref(), Some("close"), "told to in close");
    }

    fn message_size(&self, _: &mut Option<String>, bytes: &[u8]) -> Result<Option<usize>, Close> {
        assert_ne!(bytes.first(), Some(&b'!'), "told to in message_size");
        Ok(bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1))
    }
}

portcullis_plugin::export!(Panics);
