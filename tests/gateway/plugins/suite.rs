//! What holds for every kind of plugin alike: the same echo, framing, broadcast and device over C, a Rust library, the trait and Wasm.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use super::Talker;
use crate::support::client::{connect, read_to_end};
use crate::support::{Gateway, tls};

/// What an echo does.
pub fn echoes(address: SocketAddr) {
    let mut stream = connect(address);
    for bytes in [&b"hello"[..], &[7; 300_000], b"."] {
        // From another thread: a client that only writes is paused, so that nobody's memory fills.
        let mut writer = stream.try_clone().unwrap();
        let sent = bytes.to_vec();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == bytes);
    }
    stream.write_all(b"last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream).0, b"last", "what came before the end is answered");
}

/// What a message server does: messages of a 2-byte length, answered in capitals.
pub fn answers_messages(address: SocketAddr) {
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    // Three messages in one write, and one in pieces.
    stream.write_all(b"\0\x03one\0\0\0\x05three").unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\0\x03ONE\0\0\0\x05THREE");
    for piece in [&b"\0"[..], b"\x06pi", b"ece", b"s"] {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
    let mut back = [0; 8];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\0\x06PIECES");
    // A message that is too large ends the connection before it has come.
    stream.write_all(b"\xff\xff").unwrap();
    assert_eq!(read_to_end(&mut stream).0, b"");
}

/// A line that somebody in a chat room hears.
fn line(stream: &mut dyn Read) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while stream.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// What a chat room of one door does, with a plain door "internal".
pub fn chats_by_one_door(internal: SocketAddr) {
    let mut all: Vec<_> = (0..3).map(|_| connect(internal)).collect();
    all.iter_mut().for_each(|one| assert_eq!(line(one), "* you are in, by internal (internal, plain)"));
    all[0].write_all(b"hello, all\n").unwrap();
    all[1..].iter_mut().for_each(|one| assert_eq!(line(one), "<internal> hello, all"));
    all[2].write_all(b"hello, you two\n").unwrap();
    all[..2].iter_mut().for_each(|one| assert_eq!(line(one), "<internal> hello, you two", "and nothing of one's own"));
    drop(all.pop());
    all.iter_mut().for_each(|one| assert_eq!(line(one), "* somebody left by internal"));
}

/// What a chat room does, with a plain door "internal" and a TLS door "world".
pub fn chats(internal: SocketAddr, world: SocketAddr) {
    let (mut anna, mut bert, mut cleo) = (connect(internal), connect(internal), tls::rustls(world));
    assert_eq!(line(&mut anna), "* you are in, by internal (internal, plain)");
    assert_eq!(line(&mut bert), "* you are in, by internal (internal, plain)");
    assert_eq!(line(&mut cleo), "* you are in, by world (public, TLS)");
    anna.write_all(b"hello, all\n").unwrap();
    assert_eq!(line(&mut bert), "<internal> hello, all");
    assert_eq!(line(&mut cleo), "<internal> hello, all");
    cleo.write_all(b"hello, you two\n").unwrap();
    assert_eq!(line(&mut anna), "<world> hello, you two", "and nothing of one's own");
    assert_eq!(line(&mut bert), "<world> hello, you two");
    drop(cleo);
    assert_eq!(line(&mut anna), "* somebody left by world");
    assert_eq!(line(&mut bert), "* somebody left by world");
    drop(bert);
    assert_eq!(line(&mut anna), "* somebody left by internal");
}

/// A public door "outside" to the device, with these settings.
pub fn outside(settings: &str) -> String {
    format!(
        "[endpoints.outside]\nlisten = \"127.0.0.1:0\"\nclass = \"public\"\nhandler = \"site\"\n\
         settings = {{ {settings} }}\n"
    )
}

/// What a device does that its door "internal" alone can set. The door "outside" has `settings`, and says `value` once the
/// other was set to 7.
pub fn sets_a_device(gateway: &Gateway, settings: &str, value: u32) {
    let mut inside = Talker::connect(gateway.address("internal"));
    let mut outside = Talker::connect(gateway.address("outside"));
    let value = format!("VALUE {value}");
    inside.ask("WHO", "internal internal {}");
    outside.ask("WHO", &format!("outside public {settings}"));
    inside.ask("SET 7", "OK");
    inside.ask("GET", "VALUE 7");
    outside.ask("SET 8", "DENIED");
    outside.ask("GET", &value);
    inside.ask("GET", "VALUE 7");
    outside.say("WATCH 5");
    for _ in 0..3 {
        assert_eq!(outside.hear(), value);
    }
    inside.ask("QUIT", "BYE");
    assert_eq!(inside.hear(), "");
}
