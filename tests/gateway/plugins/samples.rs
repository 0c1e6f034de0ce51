//! The samples that people start from.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::plugin;
use crate::support::client::{connect, read_to_end};
use crate::support::plugins::c;
use crate::support::{Folder, Gateway};

fn echoes(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

#[test]
fn the_echo_in_c_sends_back_what_comes_on_the_pool_and_inline() {
    for run in ["pool", "inline"] {
        let folder = Folder::new();
        let file = c(&folder, "examples/plugins/c/echo.c", &[]);
        let gateway = Gateway::start_in(folder, &plugin(&file, &format!("run = \"{run}\"")));
        let mut stream = connect(gateway.address("internal"));
        echoes(&mut stream, b"hello");
        echoes(&mut stream, &vec![7; 300_000]);
        stream.write_all(b"last").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream).0, b"last");
    }
}
