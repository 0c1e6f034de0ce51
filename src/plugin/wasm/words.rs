//! The words of `plugin-wasm/wit/portcullis.wit`, as Rust types. Linking a component compares them with its own.
//!
//! Used by `imports` and `instance`; nothing here is kept.

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::identity::Class;
use crate::plugin::framing::Framing;
use crate::plugin::guest::{Fault, FaultKind, Peer, Place, Why};
use crate::plugin::host::{Answer, line};

/// The interface that a component calls.
pub(super) const HOST: &str = "portcullis:plugin/host";
/// The one that is called of it.
pub(super) const EVENTS: &str = "portcullis:plugin/events";
/// The one that holds the words of both.
pub(super) const TYPES: &str = "portcullis:plugin/types";
/// The version of the world that the gateway speaks.
pub(super) const VERSION: (u32, u32) = (1, 0);

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum ClassWord {
    #[component(name = "public")]
    Public,
    #[component(name = "internal")]
    Internal,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct EndpointWord<'a> {
    name: &'a str,
    class: ClassWord,
    tls: bool,
    handler: &'a str,
    settings: &'a str,
    layer: u32,
    layers: u32,
    #[component(name = "max-message")]
    max_message: u32,
    #[component(name = "max-queue")]
    max_queue: u32,
}

impl<'a> EndpointWord<'a> {
    pub(super) fn of(place: &'a Place) -> Self {
        Self {
            name: place.endpoint.name.as_str(),
            class: match place.endpoint.class {
                Class::Public => ClassWord::Public,
                Class::Internal => ClassWord::Internal,
            },
            tls: place.endpoint.tls,
            handler: &place.handler,
            settings: &place.settings,
            layer: place.layer,
            layers: place.layers,
            max_message: place.max_message,
            max_queue: place.max_queue,
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct PeerWord<'a> {
    client: String,
    local: String,
    #[component(name = "tls-version")]
    tls_version: Option<&'a str>,
    #[component(name = "tls-cipher")]
    tls_cipher: Option<&'a str>,
    #[component(name = "server-name")]
    server_name: Option<&'a str>,
    alpn: Option<&'a str>,
    #[component(name = "certificate-name")]
    certificate_name: Option<&'a str>,
}

impl<'a> PeerWord<'a> {
    pub(super) fn of(peer: &'a Peer) -> Self {
        let (info, tls) = (&peer.0, peer.0.tls.as_ref());
        let certificate = tls.and_then(|tls| tls.client_certificate.as_ref());
        Self {
            client: info.client.0.to_string(),
            local: info.local.0.to_string(),
            tls_version: tls.map(|tls| tls.version.as_str()),
            tls_cipher: tls.map(|tls| tls.cipher),
            server_name: tls.and_then(|tls| tls.server_name.as_deref()),
            alpn: tls.and_then(|tls| tls.alpn.as_ref()).map(|alpn| alpn.as_str()),
            certificate_name: certificate.and_then(|it| it.common_name.as_deref()),
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct LengthWord {
    size: u8,
    #[component(name = "little-endian")]
    little_endian: bool,
    #[component(name = "counts-itself")]
    counts_itself: bool,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum FramingWord {
    #[component(name = "none")]
    None,
    #[component(name = "length")]
    Length(LengthWord),
    #[component(name = "delimiter")]
    Delimiter(Vec<u8>),
    #[component(name = "own")]
    Own,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct OfferWord {
    framing: FramingWord,
    #[component(name = "max-message")]
    pub(super) max_message: u32,
}

impl OfferWord {
    /// The framing that is asked for, if there is such a one and messages may be that large.
    pub(super) fn framing(&self, most: u32) -> Result<Framing, Fault> {
        let fault = |message: &str| Err(Fault::new(FaultKind::Fault, message));
        if self.max_message > most {
            return fault(&format!("asks for messages of {} bytes, where max_message is {most}", self.max_message));
        }
        match &self.framing {
            FramingWord::None => Ok(Framing::None),
            FramingWord::Own => Ok(Framing::Own),
            FramingWord::Length(LengthWord { size: size @ (1 | 2 | 4 | 8), little_endian, counts_itself }) => {
                let (little_endian, counts_itself) = (*little_endian, *counts_itself);
                Ok(Framing::Length { size: usize::from(*size), little_endian, counts_itself })
            }
            FramingWord::Length(_) => fault("asks for a length of other than 1, 2, 4 or 8 bytes"),
            FramingWord::Delimiter(bytes) if (1..=8).contains(&bytes.len()) => Ok(Framing::Delimiter(bytes.clone())),
            FramingWord::Delimiter(_) => fault("asks for a delimiter of other than 1 to 8 bytes"),
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum StartErrorWord {
    #[component(name = "not-ready")]
    NotReady(String),
    #[component(name = "bad-config")]
    BadConfig(String),
    #[component(name = "fault")]
    Fault(String),
}

impl From<StartErrorWord> for Fault {
    fn from(word: StartErrorWord) -> Self {
        match word {
            StartErrorWord::NotReady(why) => Self::new(FaultKind::NotReady, line(&why)),
            StartErrorWord::BadConfig(why) => Self::new(FaultKind::BadConfig, line(&why)),
            StartErrorWord::Fault(why) => Self::new(FaultKind::Fault, line(&why)),
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum WhyWord {
    #[component(name = "client")]
    Client,
    #[component(name = "plugin")]
    Plugin,
    #[component(name = "idle")]
    Idle,
    #[component(name = "drain")]
    Drain,
    #[component(name = "broken")]
    Broken,
    #[component(name = "framing")]
    Framing,
    #[component(name = "quarantine")]
    Quarantine,
}

impl From<Why> for WhyWord {
    fn from(why: Why) -> Self {
        match why {
            Why::Client => Self::Client,
            Why::Plugin => Self::Plugin,
            Why::Idle => Self::Idle,
            Why::Drain => Self::Drain,
            Why::Broken => Self::Broken,
            Why::Framing => Self::Framing,
            Why::Quarantine => Self::Quarantine,
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum AnswerWord {
    #[component(name = "ok")]
    Ok,
    #[component(name = "pause")]
    Pause,
    #[component(name = "full")]
    Full,
    #[component(name = "gone")]
    Gone,
    #[component(name = "limit")]
    Limit,
    #[component(name = "invalid")]
    Invalid,
}

impl From<Answer> for AnswerWord {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Ok => Self::Ok,
            Answer::Pause => Self::Pause,
            Answer::Full => Self::Full,
            Answer::Gone => Self::Gone,
            Answer::Limit => Self::Limit,
            Answer::Invalid => Self::Invalid,
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting alone")]
pub(super) enum CloseWord {
    #[component(name = "flush")]
    Flush,
    #[component(name = "abort")]
    Abort,
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting alone")]
pub(super) enum LevelWord {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
}

impl From<LevelWord> for tracing::Level {
    fn from(level: LevelWord) -> Self {
        match level {
            LevelWord::Error => Self::ERROR,
            LevelWord::Warn => Self::WARN,
            LevelWord::Info => Self::INFO,
            LevelWord::Debug => Self::DEBUG,
        }
    }
}
