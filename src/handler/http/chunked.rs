//! The chunked transfer coding, read strictly (RFC 9112, section 7.1).
//!
//! Owns the grammar from the first chunk's size to the last chunk's CRLF; `trailers` reads what follows. Fed by `scan`.

use super::fault::Fault;
use super::field::is_token;

/// The most bytes of extensions that one chunk may carry. Nobody is known to need any.
const MAX_EXTENSIONS: u16 = 256;
/// The most digits of a chunk's size: as many as fit 64 bits.
const MAX_DIGITS: u8 = 16;

/// Where in a chunked body the reading stands.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    step: Step,
    /// The size of the chunk, then what is left of it.
    left: u64,
    digits: u8,
    extensions: u16,
}

/// What comes next in a chunked body, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Sizes, extensions and line ends.
    Framing(usize),
    /// Content.
    Data(usize),
    /// The end of the last chunk; the trailer section follows.
    End(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
    /// White space after the size or a value, before the next extension.
    Gap,
    NameStart,
    Name,
    NameEnd,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { step: Step::Size, left: 0, digits: 0, extensions: 0 }
    }

    /// Reads on: what `bytes` begin with. Nothing is credited before its bytes are there.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Found, Fault> {
        if self.step == Step::Data {
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= here as u64;
            if self.left == 0 {
                self.step = Step::DataCr;
            }
            return Ok(Found::Data(here));
        }
        for (at, &b) in bytes.iter().enumerate() {
            if self.step == Step::SizeLf && b == b'\n' && self.left == 0 {
                return Ok(Found::End(at + 1));
            }
            self.step = self.next(b)?;
            if self.step == Step::Data {
                return Ok(Found::Framing(at + 1));
            }
        }
        Ok(Found::Framing(bytes.len()))
    }

    fn next(&mut self, b: u8) -> Result<Step, Fault> {
        Ok(match (self.step, b) {
            (Step::Size, b) if b.is_ascii_hexdigit() => self.digit(b)?,
            (Step::Size, _) if self.digits == 0 => return Err(SIZE),
            (Step::Size | Step::Name | Step::Value | Step::QuotedEnd, b'\r') => Step::SizeLf,
            (Step::SizeLf, b'\n') => Step::Data,
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => {
                *self = Self::new();
                Step::Size
            }
            (Step::SizeLf | Step::DataCr | Step::DataLf, _) => {
                return Err(Fault::chunk("a chunk or its size does not end in CRLF"));
            }
            _ => self.extension(b)?,
        })
    }

    fn digit(&mut self, b: u8) -> Result<Step, Fault> {
        self.digits += 1;
        if self.digits > MAX_DIGITS {
            return Err(SIZE);
        }
        let digit = (b as char).to_digit(16).unwrap_or(0); // the caller saw that it is one
        self.left = self.left << 4 | u64::from(digit);
        Ok(Step::Size)
    }

    /// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112, section 7.1.1).
    fn extension(&mut self, b: u8) -> Result<Step, Fault> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(Fault::chunk("the extensions of a chunk are longer than 256 bytes"));
        }
        let blank = matches!(b, b' ' | b'\t');
        Ok(match self.step {
            Step::Size | Step::Gap | Step::Value | Step::QuotedEnd if blank => Step::Gap,
            Step::Size | Step::Gap | Step::Name | Step::NameEnd | Step::Value | Step::QuotedEnd if b == b';' => {
                Step::NameStart
            }
            Step::NameStart | Step::ValueStart if blank => self.step,
            Step::NameStart | Step::Name if is_token(b) => Step::Name,
            Step::Name | Step::NameEnd if blank => Step::NameEnd,
            Step::Name | Step::NameEnd if b == b'=' => Step::ValueStart,
            Step::ValueStart if b == b'"' => Step::Quoted,
            Step::ValueStart | Step::Value if is_token(b) => Step::Value,
            Step::Quoted if b == b'"' => Step::QuotedEnd,
            Step::Quoted if b == b'\\' => Step::Escaped,
            Step::Quoted | Step::Escaped if blank || (b > b' ' && b != 0x7f) => Step::Quoted,
            _ => return Err(Fault::chunk("the extension of a chunk breaks the grammar")),
        })
    }
}

const SIZE: Fault = Fault::chunk("the size of a chunk is not 1 to 16 hexadecimal digits");
