//! Plugins: code that is not ours behind real endpoints, through sockets.

mod buffers;
mod failures;
mod inside;
mod inspect;
mod layers;
mod reload;
mod samples;
mod suite;
#[cfg(feature = "wasm")]
mod wasm;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::support::plugins::c;
use crate::support::{Folder, Gateway, client};

/// A configuration: endpoint "internal" of that class, plain, whose handler is the plugin `file`; `keys` go to the handler.
pub fn plugin(file: &Path, keys: &str) -> String {
    format!("{}[handlers.site]\ntype = \"plugin\"\nfile = {file:?}\n{keys}\n", door("internal", "site", ""))
}

/// A plain endpoint of this name; `keys` go to it.
pub fn door(name: &str, handler: &str, keys: &str) -> String {
    format!("[endpoints.{name}]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"{handler}\"\n{keys}\n")
}

/// A gateway whose endpoint "internal" is served by `probe.c`.
pub fn probe(keys: &str) -> Gateway {
    let folder = Folder::new();
    let file = c(&folder, "tests/gateway/plugins/probe.c", &[]);
    Gateway::start_in(folder, &plugin(&file, keys))
}

/// The gateways of [`probe`], and of `component.c` where there is Wasm: what they have in common holds for both.
pub fn probes(keys: &str) -> Vec<Gateway> {
    #[cfg(feature = "wasm")]
    return vec![probe(keys), wasm::probe(keys)];
    #[cfg(not(feature = "wasm"))]
    vec![probe(keys)]
}

/// A client that talks in lines.
pub struct Talker(BufReader<TcpStream>);

impl Talker {
    pub fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(client::connect(address)))
    }

    pub fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line; empty at the end.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        // A reset is an end too.
        let _ = self.0.read_line(&mut line);
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub fn ask(&mut self, line: &str, expected: &str) {
        self.say(line);
        assert_eq!(self.hear(), expected, "to {line:?}");
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}

/// A series of layer 0 of the endpoint "internal", with one more label.
pub fn series(metric: &str, label: &str, value: &str) -> String {
    format!("portcullis_plugin_{metric}{{endpoint=\"internal\",layer=\"0\",{label}=\"{value}\"}}")
}
