//! Shows reports: the JSON object that every view shares, and a table for people.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{ChainReport, Finding, Verdict};
use super::rules::Level;
use crate::identity::Class;

/// The JSON object of `portcullis audit --format json` and of the admin port's `/audit`.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// The profile that weighed the findings; `None` where the chains have profiles of their own.
    pub profile: Option<Class>,
    /// Every chain.
    pub chains: Vec<&'a ChainReport>,
}

impl Report<'_> {
    /// The worst verdict of any chain.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        self.chains.iter().map(|chain| chain.verdict).max().unwrap_or_default()
    }

    /// Whether any finding that counts is at `fail_on` or above.
    #[must_use]
    pub fn fails(&self, fail_on: Level) -> bool {
        self.worst() >= Verdict(Some(fail_on))
    }

    /// The report as a table for people; findings of `info` are left out unless `details` are asked for.
    #[must_use]
    pub fn table(&self, colour: bool, details: bool) -> String {
        let mut text = String::new();
        for chain in &self.chains {
            table_of(&mut text, chain, colour, details);
        }
        let count = |level| self.chains.iter().filter(|chain| chain.verdict == Verdict(Some(level))).count();
        let bad: Vec<String> = [Level::Deny, Level::Error, Level::Warn]
            .into_iter()
            .map(|level| (level, count(level)))
            .filter(|(_, count)| *count > 0)
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        let tail = if bad.is_empty() { "all fit".to_owned() } else { bad.join(", ") };
        let plural = if self.chains.len() == 1 { "chain" } else { "chains" };
        let _ = writeln!(text, "{} {plural}: {tail}", self.chains.len());
        text
    }
}

fn table_of(text: &mut String, chain: &ChainReport, colour: bool, details: bool) {
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
        line_of(text, finding, colour);
    }
    text.push('\n');
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
mod tests {
    use super::{Level, Report};
    use crate::tls::audit::tests::endpoint;

    #[test]
    fn the_table_names_each_chain_its_verdict_and_what_was_found() {
        let audited = endpoint(&["md5", "localhost"], &[]);
        let report = Report { profile: None, chains: audited.iter().map(|one| &one.report).collect() };
        let text = report.table(false, false);
        assert!(text.contains("md5.pem  deny\n") && text.contains("localhost.pem  info\n"), "{text}");
        assert!(text.contains("deny   sig-md5               certificate 1: signed with MD5"), "{text}");
        assert!(text.ends_with("2 chains: 1 deny\n") && !text.contains("validity-too-long"), "{text}");
        assert!(report.table(true, true).contains("\u{1b}[31mdeny\u{1b}[0m"));
    }

    #[test]
    fn failing_is_a_matter_of_the_level_that_was_asked_for() {
        let audited = endpoint(&["incomplete"], &[]);
        let report = Report { profile: None, chains: audited.iter().map(|one| &one.report).collect() };
        assert!(report.fails(Level::Warn) && !report.fails(Level::Error));
    }
}
