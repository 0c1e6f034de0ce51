//! The dashboard: one page for people, complete in itself. It needs no script; the browser asks for it again every
//! few seconds.

use std::fmt::{self, Display, Write as _};

use time::OffsetDateTime;

use crate::admin::answer::{Answer, HTML};
use crate::admin::routes::{Asked, ROUTES};
use crate::admin::state::Snapshot;
use crate::admin::stats::{EndpointStats, Stats};
use crate::admin::upstreams::by_name;
use crate::admin::version::VERSION;
use crate::admin::views::{Chain, chains, days_left, numbers};
use crate::plan::EndpointPlan;
use crate::tls::audit::finding::{CertificateView, Finding};
use crate::tls::audit::rules::Level;
use crate::upstream::Member;

const STYLE: &str = include_str!("dashboard.css");

/// The body of `GET /`.
pub(crate) fn page(asked: &Asked<'_>) -> Answer {
    let stats = numbers(asked);
    let mut html = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail, so the results are dropped, here and below.
    let _ = write!(
        html,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <meta http-equiv=refresh content=5><title>Portcullis</title><style>{STYLE}</style>"
    );
    header(&mut html, asked, &stats);
    endpoints(&mut html, asked, &stats);
    certificates(&mut html, asked.running);
    upstreams(&mut html, asked.running, &stats);
    links(&mut html);
    Answer::ok(HTML, html)
}

fn header(html: &mut String, asked: &Asked<'_>, stats: &Stats) {
    let lifecycle = asked.admin.state.lifecycle();
    let _ = write!(
        html,
        "<header><h1>Portcullis</h1><span class='tag {0}'>{0}</span><span>version {VERSION}</span><span>up {1}</span>\
         <span>{2} connections open</span></header>",
        lifecycle.as_str(),
        Span(stats.uptime_seconds),
        stats.total.connections.active,
    );
    for error in asked.admin.state.reloads().errors() {
        notice(html, "deny", format_args!("Not taken, and what was read before is served: {}", Text(error)));
    }
    if stats.access_log_dropped > 0 {
        notice(html, "warn", format_args!("{} lines of the access log were dropped.", stats.access_log_dropped));
    }
}

/// A sentence in a box of its own; what is not ours in it must be [`Text`].
fn notice(html: &mut String, class: &str, sentence: fmt::Arguments<'_>) {
    let _ = write!(html, "<p class='notice {class}'>{sentence}</p>");
}

fn endpoints(html: &mut String, asked: &Asked<'_>, stats: &Stats) {
    html.push_str(
        "<section><h2>Endpoints</h2><div><table><tr><th>endpoint<th>class<th>listens on<th>handler<th>state\
         <th class=n>open<th class=n>connections/s<th class=n>requests/s<th class=n>in/s<th class=n>out/s\
         <th class=n>rejected<th class=n>failed handshakes<th class=n>5xx",
    );
    let none = EndpointStats::default();
    for plan in &asked.running.plan.endpoints {
        endpoint(html, plan, asked);
        endpoint_numbers(html, stats.endpoints.get(&plan.endpoint.name).unwrap_or(&none));
        for reason in asked.running.reasons(plan) {
            let _ = write!(html, "<tr class=more><td colspan=13 class='long deny'>{}", Text(&reason));
        }
    }
    html.push_str("</table></div></section>");
}

fn endpoint(html: &mut String, plan: &EndpointPlan, asked: &Asked<'_>) {
    let open = asked.running.addresses.get(&plan.endpoint.name).unwrap_or(&plan.listen);
    let listen: Vec<_> = open.iter().map(ToString::to_string).collect();
    let (class, word) = state(plan, asked);
    let _ = write!(
        html,
        "<tr><td><a href='/endpoints/{0}'>{0}</a><td>{1}<td>{2}{3}<td>{4} <small>{5}</small>\
         <td><span class='tag {class}'>{word}</span>",
        Text(plan.endpoint.name.as_str()),
        plan.endpoint.class,
        listen.join("<br>"),
        if plan.endpoint.tls { " <small>TLS</small>" } else { "" },
        Text(&plan.handler.0),
        Text(plan.handler.1),
    );
}

fn state(plan: &EndpointPlan, asked: &Asked<'_>) -> (&'static str, &'static str) {
    let lifecycle = asked.admin.state.lifecycle();
    if asked.running.is_drained(plan) {
        ("warn", "draining")
    } else if plan.is_waiting() {
        ("warn", "waiting")
    } else if !asked.running.reasons(plan).is_empty() {
        ("deny", "refused")
    } else if !asked.running.is_up(plan, lifecycle) {
        ("warn", lifecycle.as_str())
    } else if plan.certificates.fallbacks.is_empty() {
        ("ok", "up")
    } else {
        ("warn", "up, on a fallback")
    }
}

fn endpoint_numbers(html: &mut String, numbers: &EndpointStats) {
    let rate = numbers.per_second;
    let cells: [&dyn Display; 8] = [
        &numbers.connections.active,
        &format_args!("{:.1}", rate.connections),
        &format_args!("{:.1}", rate.requests),
        &Bytes(rate.received_bytes),
        &Bytes(rate.sent_bytes),
        &numbers.connections.rejected.values().sum::<u64>(),
        &numbers.tls.failures.values().sum::<u64>(),
        &numbers.requests.by_status.get("5xx").copied().unwrap_or(0),
    ];
    for cell in cells {
        let _ = write!(html, "<td class=n>{cell}");
    }
}

fn certificates(html: &mut String, running: &Snapshot) {
    if chains(running).next().is_none() {
        return;
    }
    html.push_str("<section><h2>Certificates</h2>");
    for fallback in running.plan.endpoints.iter().flat_map(|plan| &plan.certificates.fallbacks) {
        notice(html, "warn", format_args!("{}", Text(&fallback.to_string())));
    }
    html.push_str(
        "<div><table><tr><th>endpoint<th>chain<th>leaf<th>names<th class=n>last day<th class=n>days left<th>verdict\
         <th>served",
    );
    let now = OffsetDateTime::now_utc();
    for chain in chains(running) {
        certificate(html, &chain, now);
        let told = |finding: &&Finding| finding.level > Level::Info;
        chain.audited.report.findings.iter().filter(told).for_each(|finding| line(html, finding));
    }
    html.push_str("</table></div></section>");
}

fn certificate(html: &mut String, chain: &Chain<'_>, now: OffsetDateTime) {
    let report = &chain.audited.report;
    let _ = write!(html, "<tr><td>{}<td class=long>{}", Text(chain.plan.endpoint.name.as_str()), Text(&report.file));
    match report.leaf() {
        Some(leaf) => leaf_cells(html, leaf, now),
        None => html.push_str("<td><td><td><td>"),
    }
    let served = if chain.is_served { "yes" } else { "no" };
    let _ = write!(html, "<td><span class='tag {0}'>{0}</span><td>{served}", report.verdict);
}

fn leaf_cells(html: &mut String, leaf: &CertificateView, now: OffsetDateTime) {
    let left = days_left(leaf.not_after.0, now);
    let _ = write!(
        html,
        "<td class=long>{}<br><small>{}</small><td class=long>{}<td class=n>{}<td class='n{}'>{left}",
        Text(&leaf.subject),
        Text(&leaf.key),
        Text(&leaf.names.join(", ")),
        leaf.not_after.0.date(),
        if left < 0 { " deny" } else { "" },
    );
}

/// A finding, in a row below its chain's.
fn line(html: &mut String, finding: &Finding) {
    let place = finding.position.map(|position| format!("certificate {position} ")).unwrap_or_default();
    let waived = finding.waived_until.as_ref().map(|day| format!(" (waived until {day})")).unwrap_or_default();
    let _ = write!(
        html,
        "<tr class=more><td class=long colspan=8><span class='tag {0}'>{0}</span> <b>{1}</b>{2}: {place}{3}; {4}",
        finding.level,
        Text(finding.rule),
        Text(&waived),
        Text(&finding.seen),
        Text(&finding.fix),
    );
}

fn upstreams(html: &mut String, running: &Snapshot, stats: &Stats) {
    if running.plan.upstreams.is_empty() {
        return;
    }
    html.push_str(
        "<section><h2>Upstreams</h2><div><table><tr><th>upstream<th>server<th>state<th class=n>open<th class=n>requests\
         <th class=n>5xx<th class=n>failures",
    );
    for upstream in &running.plan.upstreams {
        let servers = stats.upstreams.get(&*upstream.name);
        for of_name in by_name(upstream) {
            let Some(Member { server, .. }) = of_name.first() else { continue };
            let numbers = servers.and_then(|servers| servers.get(&*server.name)).cloned().unwrap_or_default();
            let usable = of_name.iter().filter(|member| member.server.is_usable()).count();
            let (class, word) = match usable {
                0 => ("deny", "out"),
                n if n < of_name.len() => ("warn", "in part"),
                _ => ("ok", "up"),
            };
            let _ = write!(
                html,
                "<tr><td><a href='/upstreams/{0}'>{0}</a><td>{1}<td><span class='tag {class}'>{word}</span><td class=n>{2}\
                 <td class=n>{3}<td class=n>{4}<td class=n>{5}",
                Text(&upstream.name),
                Text(&server.name),
                numbers.connections_active,
                numbers.requests,
                numbers.responses.get("5xx").copied().unwrap_or(0),
                numbers.failures.values().sum::<u64>(),
            );
        }
    }
    html.push_str("</table></div></section>");
}

fn links(html: &mut String) {
    html.push_str("<section><h2>More</h2><div><table>");
    for route in ROUTES.iter().filter(|route| route.path != "/" && !route.path.contains('{')) {
        let _ = write!(
            html,
            "<tr><td><a href='{0}'>{0}</a><td class=long>{1}<td><small>{2}</small>",
            route.path, route.about, route.content
        );
    }
    html.push_str("</table></div></section></html>\n");
}

/// Text in a page: nothing in it is markup.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number of bytes, rounded to a unit.
struct Bytes(f64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
        let power = UNITS.iter().enumerate().rposition(|(i, _)| self.0 >= 1000_f64.powi(i as i32)).unwrap_or(0);
        write!(f, "{:.*} {}", usize::from(power > 0), self.0 / 1000_f64.powi(power as i32), UNITS[power])
    }
}

/// A span of time in seconds, rounded to two units.
struct Span(f64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 as u64;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Span, Text};

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(Text("<a href='\"&\"'>").to_string(), "&lt;a href=&#39;&quot;&amp;&quot;&#39;&gt;");
    }

    #[test]
    fn numbers_are_rounded_for_people() {
        let bytes = [0.0, 999.0, 1000.0, 2_345_678.0, 9e12].map(|n| Bytes(n).to_string());
        assert_eq!(bytes, ["0 B", "999 B", "1.0 kB", "2.3 MB", "9000.0 GB"]);
        let spans = [5.9, 61.0, 3_600.0, 90_000.0].map(|n| Span(n).to_string());
        assert_eq!(spans, ["5 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }
}
