//! Follows the heads of HTTP/2 frames in one direction (RFC 9113, section 4.1), without looking inside them.
//!
//! Owns what h2 keeps no account of: whether a frame or a header block was begun and not ended, how many frames came that
//! ask for nothing, and the error that a goodbye gave. Pure: `paced` feeds it with what was read and what was written, in
//! whatever pieces.

use super::super::serve::PREFACE;

/// A frame's head: length, type, flags, stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// How many frames a piece of an answer may be answered with: a WINDOW_UPDATE for its stream, one for the connection, and a
/// PING, by which some clients measure the way.
const REPLIES_PER_FRAME: u32 = 3;
/// What is owed is not saved up without end.
const MOST_OWED: u32 = 100_000;

/// Where in the sequence of frames the reading, or the writing, stands.
#[derive(Debug)]
pub(super) struct Frames {
    /// The head of the frame that is passing, as far as it has come.
    head: [u8; HEAD],
    have: usize,
    /// So many bytes of its payload are to come.
    left: usize,
    /// A header block goes on in the next frame.
    block: bool,
    /// How often nothing was open, so that two blocks in a row can be told apart.
    turns: u32,
    /// How many frames have ended.
    ended: u32,
    /// The highest stream that was opened, and how many were.
    last_stream: u32,
    opened: u32,
    /// Requests that may still be reset: one RST_STREAM for each.
    resets: u32,
    /// Replies that what was sent the other way accounts for.
    replies: u32,
    /// How many frames were part of a message.
    moved: u32,
    /// The error code of a GOAWAY, once one has passed.
    goodbye: Option<u32>,
}

impl Frames {
    /// What a client sends, before its preface.
    pub(super) fn received() -> Self {
        // The preface is passed over as the payload of a frame that says nothing; `serve` has its deadline.
        Self { head: [0, 0, 0, DATA, END_STREAM, 0, 0, 0, 0], have: HEAD, left: PREFACE.len(), ..Self::sent() }
    }

    /// What a server sends, before its first frame.
    pub(super) fn sent() -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            left: 0,
            block: false,
            turns: 0,
            ended: 0,
            last_stream: 0,
            opened: 0,
            resets: 0,
            replies: 0,
            moved: 0,
            goodbye: None,
        }
    }

    /// Passes over what was read; how many frames ended in it that ask for nothing.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle = 0;
        while !bytes.is_empty() {
            if self.have < HEAD {
                let n = bytes.len().min(HEAD - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < HEAD {
                    break;
                }
                self.left = self.length();
            }
            let n = bytes.len().min(self.left);
            if self.kind() == GOAWAY {
                self.note_goodbye(&bytes[..n]);
            }
            self.left -= n;
            bytes = &bytes[n..];
            if self.left == 0 {
                idle += u32::from(self.is_idle());
                self.end_frame();
            }
        }
        idle
    }

    /// Which header block, or other frame but DATA, was begun and has not ended; a number that changes with each.
    ///
    /// A DATA frame that stands still is its body's matter.
    pub(super) fn open(&self) -> Option<u32> {
        let begun = match self.have {
            0 => false,
            HEAD => self.kind() != DATA,
            _ => true,
        };
        (begun || self.block).then_some(self.turns)
    }

    /// Whether whole frames of a header block have passed, and its last one has not begun. Clients send these in one go.
    pub(super) fn is_between_parts(&self) -> bool {
        self.block
    }

    /// Whether nothing of a next frame has passed.
    pub(super) fn is_between_frames(&self) -> bool {
        self.have == 0
    }

    /// The highest stream that was opened.
    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// How many streams were opened.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// The error code of a GOAWAY, once one has passed.
    pub(super) fn goodbye(&self) -> Option<u32> {
        self.goodbye
    }

    /// Frames of answers went the other way, which may be replied to.
    pub(super) fn owe(&mut self, frames: u32) {
        self.replies = self.replies.saturating_add(frames.saturating_mul(REPLIES_PER_FRAME)).min(MOST_OWED);
    }

    /// How many frames so far were part of a message; it wraps.
    pub(super) fn moved(&self) -> u32 {
        self.moved
    }

    /// How many frames have ended so far; it wraps.
    pub(super) fn ended(&self) -> u32 {
        self.ended
    }

    fn end_frame(&mut self) {
        self.ended = self.ended.wrapping_add(1);
        self.moved = self.moved.wrapping_add(u32::from(matches!(self.kind(), DATA | HEADERS)));
        if matches!(self.kind(), HEADERS | CONTINUATION) {
            self.block = self.flags() & END_HEADERS == 0;
        }
        self.have = 0;
        if !self.block {
            self.turns = self.turns.wrapping_add(1);
        }
    }

    /// Whether the frame moves nothing on: no request, no byte of a body, no reset of a request, no room for an answer that
    /// was sent. h2 counts resets that come too soon, and `conduct` those that come later.
    fn is_idle(&mut self) -> bool {
        match self.kind() {
            DATA => self.length() == 0 && self.flags() & END_STREAM == 0,
            HEADERS => {
                if self.stream() > self.last_stream {
                    (self.last_stream, self.opened) = (self.stream(), self.opened.saturating_add(1));
                }
                self.resets = self.resets.saturating_add(1).min(MOST_OWED);
                self.owe(1);
                false
            }
            CONTINUATION => false,
            RST_STREAM => !take(&mut self.resets),
            WINDOW_UPDATE => !take(&mut self.replies),
            PING if self.flags() & ACK == 0 => !take(&mut self.replies),
            _ => true, // PRIORITY, SETTINGS, acknowledgements, GOAWAY, and types that nobody knows
        }
    }

    /// Reads the error code behind the last stream's number (RFC 9113, section 6.8).
    fn note_goodbye(&mut self, piece: &[u8]) {
        let from = self.length() - self.left;
        for (at, byte) in (from..).zip(piece).skip_while(|(at, _)| *at < 4).take_while(|(at, _)| *at < 8) {
            let so_far = if at == 4 { 0 } else { self.goodbye.unwrap_or(0) };
            self.goodbye = Some(so_far << 8 | u32::from(*byte));
        }
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.head[5] & 0x7F, self.head[6], self.head[7], self.head[8]])
    }

    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    fn kind(&self) -> u8 {
        self.head[3]
    }

    fn flags(&self) -> u8 {
        self.head[4]
    }
}

/// Takes one, if there is one.
fn take(owed: &mut u32) -> bool {
    let left = owed.checked_sub(1);
    *owed = left.unwrap_or(0);
    left.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, WINDOW_UPDATE,
    };

    const PRIORITY: u8 = 2;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len().to_be_bytes();
        [&length[5..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun() -> Frames {
        let mut frames = Frames::received();
        assert_eq!(frames.pass(PREFACE), 0);
        assert_eq!(frames.open(), None);
        frames
    }

    #[test]
    fn only_frames_that_move_nothing_on_are_counted() {
        for (kind, flags, payload, idle) in [
            (PING, 0, &[0; 8][..], 1),
            (PRIORITY, 0, &[0; 5], 1),
            (0xFF, 0, b"grease", 1),
            (DATA, 0, b"", 1),
            (DATA, END_STREAM, b"", 0),
            (DATA, 0, b"x", 0),
            (HEADERS, END_HEADERS, b"x", 0),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 1], 1),
            (RST_STREAM, 0, &[0, 0, 0, 8], 1),
        ] {
            assert_eq!(begun().pass(&frame(kind, flags, payload)), idle, "type {kind}, flags {flags}");
        }
    }

    #[test]
    fn what_answers_a_frame_of_ours_or_a_request_is_not_counted() {
        let mut frames = begun();
        frames.owe(1);
        let update = frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
        let ping = frame(PING, 0, &[0; 8]);
        assert_eq!(frames.pass(&[update.repeat(2), ping.repeat(2)].concat()), 1);
        frames.pass(&frame(HEADERS, END_HEADERS, b"x"));
        assert_eq!(frames.pass(&frame(RST_STREAM, 0, &[0, 0, 0, 8]).repeat(3)), 2, "a request is reset once");
    }

    #[test]
    fn a_goodbye_is_read_in_whatever_pieces_it_is_written() {
        let goodbye = frame(GOAWAY, 0, &[0, 0, 0, 9, 1, 2, 3, 4, b'w', b'h', b'y']);
        for cut in 1..goodbye.len() {
            let mut frames = Frames::sent();
            for piece in goodbye.chunks(cut) {
                frames.pass(piece);
            }
            assert_eq!((frames.goodbye(), frames.is_between_frames()), (Some(0x0102_0304), true));
        }
    }

    #[test]
    fn a_header_block_is_open_until_its_last_frame_has_ended() {
        let mut frames = begun();
        frames.pass(&frame(HEADERS, 0, b"block"));
        let open = frames.open();
        assert!(open.is_some());
        frames.pass(&frame(CONTINUATION, 0, b""));
        assert_eq!(frames.open(), open, "the same block");
        let last = frame(CONTINUATION, END_HEADERS, b"end");
        frames.pass(&last[..last.len() - 1]);
        assert_eq!(frames.open(), open);
        frames.pass(b"d");
        assert_eq!(frames.open(), None);
        frames.pass(&frame(HEADERS, 0, b"block"));
        assert!(frames.open().is_some() && frames.open() != open, "another block");
    }

    #[test]
    fn data_that_stands_still_is_not_open_but_half_a_head_is() {
        let mut frames = begun();
        frames.pass(&frame(DATA, 0, b"body")[..10]);
        assert_eq!(frames.open(), None);
        frames.pass(b"ody\0");
        assert!(frames.open().is_some());
    }

    proptest! {
        #[test]
        fn the_pieces_make_no_difference(
            list in prop::collection::vec((0_u8..12, 0_u8..8, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cut in 1_usize..50,
        ) {
            let bytes: Vec<u8> = list.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let (mut whole, mut pieces) = (begun(), begun());
            let all = whole.pass(&bytes);
            prop_assert_eq!(bytes.chunks(cut).map(|piece| pieces.pass(piece)).sum::<u32>(), all);
            prop_assert_eq!(whole.open(), pieces.open());
        }
    }
}
