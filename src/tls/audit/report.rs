//! Shows reports: the JSON object that every view shares, a table for people, and what a run of many adds up to.

use std::cell::Cell;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::finding::{ChainReport, Finding};
use super::rules::Level;
use crate::identity::Class;
use crate::tls::probe::Server;

/// The JSON object of `portcullis audit --format json` and of the admin port's `/audit`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report<C> {
    /// The profile that weighed the findings; `None` where the chains have profiles of their own.
    #[schemars(with = "Option<String>")]
    pub profile: Option<Class>,
    /// How the servers that were asked answer; left out where none was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// Every chain.
    pub chains: C,
}

/// Items that are made while they are written, so that a long run holds few of them. Written once: a second time it
/// is empty.
pub struct Stream<I>(Cell<Option<I>>);

impl<I: Iterator> Stream<I> {
    /// Of these items.
    pub fn new(items: I) -> Self {
        Self(Cell::new(Some(items)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for Stream<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

/// What the chains of a run add up to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    chains: usize,
    /// How many chains have each verdict, by [`Level`].
    verdicts: [usize; 4],
}

impl Tally {
    /// Counts a chain.
    pub fn add(&mut self, chain: &ChainReport) {
        self.chains += 1;
        if let Some(level) = chain.verdict.0 {
            self.verdicts[level as usize] += 1;
        }
    }

    /// Whether any finding that counts is at `fail_on` or above.
    #[must_use]
    pub fn fails(&self, fail_on: Level) -> bool {
        self.verdicts[fail_on as usize..].iter().any(|count| *count > 0)
    }

    /// The last line of a table.
    #[must_use]
    pub fn line(&self) -> String {
        let bad: Vec<String> = [Level::Deny, Level::Error, Level::Warn]
            .into_iter()
            .map(|level| (level, self.verdicts[level as usize]))
            .filter(|(_, count)| *count > 0)
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        let tail = if bad.is_empty() { "all fit".to_owned() } else { bad.join(", ") };
        format!("{} {}: {tail}", self.chains, if self.chains == 1 { "chain" } else { "chains" })
    }
}

/// A chain as a table for people; findings of `info` are left out unless `details` are asked for.
#[must_use]
pub fn table(chain: &ChainReport, colour: bool, details: bool) -> String {
    let mut text = String::new();
    let endpoint = chain.endpoint.as_ref().map(|name| format!("endpoint \"{name}\": ")).unwrap_or_default();
    let verdict = painted(chain.verdict.as_str(), chain.verdict.0, colour);
    let _ = writeln!(text, "{endpoint}{}  {verdict}", chain.file);
    let rows: Vec<[String; 5]> = chain.certificates.iter().map(row).collect();
    let widths: Vec<usize> =
        (0..5).map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0)).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, wide)| padded(cell, *wide)).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
    for finding in chain.findings.iter().filter(|finding| details || finding.level > Level::Info) {
        line_of(&mut text, finding, colour);
    }
    text
}

/// How a server answers, as a table for people.
#[must_use]
pub fn server_table(server: &Server) -> String {
    let versions =
        if server.versions.is_empty() { "no TLS".into() } else { format!("TLS {}", server.versions.join(", ")) };
    let address = server.address.as_ref().map(|address| format!(" ({address})")).unwrap_or_default();
    let mut text = format!("{}{address}  {versions}\n", server.server);
    for handshake in &server.handshakes {
        let more =
            [handshake.group.as_deref(), handshake.alpn.as_deref(), handshake.stapled.then_some("status stapled")];
        let more: Vec<&str> = more.into_iter().flatten().collect();
        let _ = writeln!(
            text,
            "  {}  {:5}  {}  {}",
            handshake.version,
            handshake.key,
            handshake.cipher_suite,
            more.join("  ")
        );
    }
    text
}

/// A certificate's cells: position, subject, key, signature, last day.
fn row(certificate: &super::finding::CertificateView) -> [String; 5] {
    [
        certificate.position.to_string(),
        certificate.subject.clone(),
        certificate.key.clone(),
        certificate.signature_algorithm.clone(),
        format!("until {}", certificate.not_after.0.date()),
    ]
}

fn line_of(text: &mut String, finding: &Finding, colour: bool) {
    let level = painted(&format!("{:5}", finding.level), Some(finding.level), colour);
    let place = finding.position.map(|position| format!("certificate {position}: ")).unwrap_or_default();
    let waived = finding.waived_until.as_ref().map(|day| format!(" (waived until {day})")).unwrap_or_default();
    let _ = writeln!(text, "  {level}  {:20}  {place}{}{waived}", finding.rule, finding.seen);
    let _ = writeln!(text, "  {:27}  {}", "", finding.fix);
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn padded(text: &str, wide: usize) -> String {
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(text))));
    padded
}

fn painted(text: &str, level: Option<Level>, colour: bool) -> String {
    let code = match level {
        _ if !colour => return text.to_owned(),
        None => 32,
        Some(Level::Info) => 36,
        Some(Level::Warn) => 33,
        Some(Level::Error | Level::Deny) => 31,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{ChainReport, Level, Report, Stream, Tally, table};
    use crate::tls::audit::finding::Verdict;
    use crate::tls::audit::tests::endpoint;

    #[test]
    fn the_table_names_each_chain_its_verdict_and_what_was_found() {
        let audited = endpoint(&["md5", "localhost"], &[]);
        let [md5, fit] = [&audited[0].report, &audited[1].report];
        let text = table(md5, false, false);
        assert!(text.contains("md5.pem  deny\n") && !text.contains("validity-too-long"), "{text}");
        assert!(text.contains("deny   sig-md5               certificate 1: signed with MD5"), "{text}");
        assert!(table(fit, false, false).contains("localhost.pem  info\n"));
        assert!(table(md5, true, true).contains("\u{1b}[31mdeny\u{1b}[0m"));
    }

    #[test]
    fn a_run_adds_up_to_a_line_and_to_a_status_by_the_level_that_was_asked_for() {
        let mut tally = Tally::default();
        assert_eq!((tally.line().as_str(), tally.fails(Level::Info)), ("0 chains: all fit", false));
        for chain in endpoint(&["incomplete", "localhost"], &[]) {
            tally.add(&chain.report);
        }
        assert_eq!(tally.line(), "2 chains: 1 warn");
        assert!(tally.fails(Level::Warn) && !tally.fails(Level::Error));
    }

    #[test]
    fn levels_are_counted_at_their_own_places() {
        for level in [Level::Info, Level::Warn, Level::Error, Level::Deny] {
            let mut chain = ChainReport::clone(&endpoint(&["localhost"], &[])[0].report);
            chain.verdict = Verdict(Some(level));
            let mut tally = Tally::default();
            tally.add(&chain);
            assert_eq!(tally.fails(Level::Error), level >= Level::Error, "{level}");
        }
    }

    #[test]
    fn what_is_written_as_it_is_made_reads_as_what_was_made_before() {
        let audited = endpoint(&["md5", "localhost"], &[]);
        let chains: Vec<_> = audited.iter().map(|one| &one.report).collect();
        let streamed = Report { profile: None, servers: Vec::new(), chains: Stream::new(chains.iter()) };
        let streamed = serde_json::to_string(&streamed).unwrap();
        assert_eq!(streamed, serde_json::to_string(&Report { profile: None, servers: Vec::new(), chains }).unwrap());
    }
}
