//! The dashboard: one page for people, complete in itself. It needs no script; the browser asks for it again every
//! few seconds.

use std::fmt::{self, Display, Write as _};

use time::OffsetDateTime;

use crate::admin::answer::{Answer, HTML};
use crate::admin::facts::ChainFacts;
use crate::admin::routes::{Asked, ROUTES};
use crate::admin::state::{Snapshot, is_up, reasons};
use crate::admin::stats::{EndpointStats, Stats};
use crate::admin::version::VERSION;
use crate::admin::views::{chains, days_left, numbers};
use crate::plan::EndpointPlan;

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
    upstreams(&mut html, &stats);
    links(&mut html);
    Answer::ok(HTML, html)
}

fn header(html: &mut String, asked: &Asked<'_>, stats: &Stats) {
    let lifecycle = asked.admin.state.lifecycle();
    let _ = write!(
        html,
        "<h1>Portcullis</h1><p>version {VERSION}, <b class={0}>{0}</b>, up {1}, {2} connections open",
        lifecycle.as_str(),
        Span(stats.uptime_seconds),
        stats.total.connections.active,
    );
    if let Some(error) = asked.admin.state.reloads().last_error {
        let _ = write!(html, "<p class=deny>The last reload failed, and the plan before is served: {}", Text(&error));
    }
    if stats.access_log_dropped > 0 {
        let _ = write!(html, "<p class=warn>{} lines of the access log were dropped", stats.access_log_dropped);
    }
}

fn endpoints(html: &mut String, asked: &Asked<'_>, stats: &Stats) {
    html.push_str(
        "<h2>Endpoints</h2><table><tr><th>name<th>class<th>listens on<th>handler<th>state<th class=n>open\
         <th class=n>connections/s<th class=n>requests/s<th class=n>in/s<th class=n>out/s<th class=n>rejected\
         <th class=n>failed handshakes<th class=n>5xx",
    );
    let none = EndpointStats::default();
    for plan in &asked.running.plan.endpoints {
        let numbers = stats.endpoints.get(&plan.endpoint.name).unwrap_or(&none);
        let listen: Vec<_> = plan.listen.iter().map(ToString::to_string).collect();
        let _ = write!(
            html,
            "<tr><td><a href='/endpoints/{0}'>{0}</a><td>{1}<td>{2}{3}<td>{4} ({5})",
            Text(plan.endpoint.name.as_str()),
            plan.endpoint.class,
            listen.join(", "),
            if plan.endpoint.tls { " TLS" } else { "" },
            Text(&plan.handler.0),
            Text(plan.handler.1),
        );
        let (class, word) = state(plan, asked);
        let _ = write!(html, "<td class={class}>{word}");
        endpoint_numbers(html, numbers);
        for reason in reasons(plan) {
            let _ = write!(html, "<tr><td><td colspan=12 class=deny>{}", Text(reason));
        }
    }
    html.push_str("</table>");
}

fn state(plan: &EndpointPlan, asked: &Asked<'_>) -> (&'static str, &'static str) {
    let lifecycle = asked.admin.state.lifecycle();
    if !reasons(plan).is_empty() {
        ("deny", "refused")
    } else if is_up(plan, lifecycle) {
        let fallback = asked.running.tls.get(&plan.endpoint.name).is_some_and(|facts| !facts.fallbacks.is_empty());
        if fallback { ("warn", "up, on a fallback") } else { ("ok", "up") }
    } else {
        ("warn", lifecycle.as_str())
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
    html.push_str(
        "<h2>Certificates</h2><table><tr><th>endpoint<th>chain<th>subject<th>names<th class=n>days left<th>verdict\
         <th>served",
    );
    let now = OffsetDateTime::now_utc();
    for chain in chains(running) {
        certificate(html, chain, now);
    }
    html.push_str("</table>");
    for (endpoint, facts) in &running.tls {
        for fallback in &facts.fallbacks {
            let _ = write!(
                html,
                "<p class=warn>Endpoint {}: {} is unfit ({}); {} is served in its place",
                Text(endpoint.as_str()),
                Text(&fallback.unfit),
                Text(&fallback.rules.join(", ")),
                Text(&fallback.by),
            );
        }
    }
}

fn certificate(html: &mut String, chain: &ChainFacts, now: OffsetDateTime) {
    let leaf = chain.leaf();
    let _ = write!(
        html,
        "<tr><td>{}<td>{}<td>{}<td>{}<td class=n>",
        Text(chain.endpoint.as_str()),
        Text(&chain.file),
        Text(leaf.map_or("", |leaf| &leaf.subject)),
        Text(&leaf.map(|leaf| leaf.names.join(", ")).unwrap_or_default()),
    );
    if let Some(leaf) = leaf {
        let _ = write!(html, "{}", days_left(leaf.not_after, now));
    }
    let _ = write!(html, "<td class={0}>{0}<td>{1}", chain.verdict, if chain.served { "yes" } else { "no" });
    for finding in &chain.findings {
        let waived = finding.waived_until.as_ref().map(|day| format!(" (waived until {day})")).unwrap_or_default();
        let _ = write!(
            html,
            "<tr><td><td colspan=6><span class={0}>{0}</span> <b>{1}</b>{2}: {3}; {4}",
            finding.level,
            Text(finding.rule),
            Text(&waived),
            Text(&finding.seen),
            Text(&finding.fix),
        );
    }
}

fn upstreams(html: &mut String, stats: &Stats) {
    if stats.upstreams.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Upstreams</h2><table><tr><th>upstream<th>server<th class=n>open<th class=n>requests<th class=n>5xx\
         <th class=n>failures",
    );
    for (upstream, servers) in &stats.upstreams {
        for (server, numbers) in servers {
            let _ = write!(
                html,
                "<tr><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}",
                Text(upstream),
                Text(server),
                numbers.connections_active,
                numbers.requests,
                numbers.responses.get("5xx").copied().unwrap_or(0),
                numbers.failures.values().sum::<u64>(),
            );
        }
    }
    html.push_str("</table>");
}

fn links(html: &mut String) {
    html.push_str("<h2>More</h2><table>");
    for route in ROUTES.iter().filter(|route| !route.path.contains('{')) {
        let _ = write!(html, "<tr><td><a href='{0}'>{0}</a><td>{1}<td>{2}", route.path, route.content, route.about);
    }
    html.push_str("</table></html>\n");
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
