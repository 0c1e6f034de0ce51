//! Negotiation against a plugin that C compiled, with whatever range of versions and faults a case asks for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis_plugin_abi as abi;
use proptest::prelude::*;

use super::negotiate::version_text;
use super::{NativePlugin, Range};
use crate::plugin::chain::{Chain, ChainFault, LayerPlan, Run, Standing, Terms};
use crate::plugin::guest::{Adapter, Fault, FaultKind, Guest, Place};
use crate::plugin::host::tests::host;
use crate::plugin::settle;

/// What the plugin is told to be; see `tests/gateway/plugins/versions.c`.
#[derive(Clone)]
struct Told {
    lowest: u32,
    highest: u32,
    answer: i32,
    size: usize,
    without: i32,
    /// Start-ups that succeeded, cleanups, start-ups in all.
    counters: Arc<[AtomicU32; 3]>,
}

impl Told {
    fn range(lowest: u32, highest: u32) -> Self {
        Self { lowest, highest, answer: 0, size: 0, without: -1, counters: Arc::default() }
    }

    fn place(&self) -> Arc<Place> {
        let Self { lowest, highest, answer, size, without, counters } = self;
        let counters = counters.as_ptr().expose_provenance();
        let settings = format!("[{lowest},{highest},{answer},{size},{without},{counters}]");
        Arc::new(Place { settings, ..(**host(1000, 1000).place()).clone() })
    }

    fn counts(&self) -> [u32; 3] {
        self.counters.each_ref().map(|counter| counter.load(SeqCst))
    }
}

/// The plugin's library, as a host of this range sees it.
fn plugin(range: Range) -> NativePlugin {
    static LOADED: OnceLock<NativePlugin> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = std::env::temp_dir().join(format!("libversions-{}.so", std::process::id()));
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I"]);
        command.arg(root.join("plugin-abi/include")).arg("-o").arg(&file);
        let output = command.arg(root.join("tests/gateway/plugins/versions.c")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let loaded = NativePlugin::load(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        loaded
    });
    NativePlugin { range, ..loaded.clone() }
}

/// How the negotiation ends between a host and a plugin.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Use(String),
    /// The plugin said VERSION, and nothing is to be cleaned up.
    Version,
    /// The host did not take the version, and cleaned up once.
    HostFails,
}

fn end(host_range: Range, told: &Told) -> End {
    let host = host(1000, 1000);
    let started = plugin(host_range).start(&told.place(), &host);
    let before = told.counts();
    match started {
        Ok(guest) => {
            assert_eq!(before, [1, 0, 1]);
            let version = guest.version();
            guest.cleanup();
            assert_eq!(told.counts(), [1, 1, 1]);
            End::Use(version)
        }
        Err(fault) => {
            assert_eq!(fault.kind, FaultKind::Version, "{fault}");
            match before {
                [0, 0, 1] => End::Version,
                [1, 1, 1] => End::HostFails,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn range(lowest: &str, highest: &str) -> Range {
    let number = |text: &str| {
        let (major, minor) = text.split_once('.').unwrap();
        abi::version(major.parse().unwrap(), minor.parse().unwrap())
    };
    Range { lowest: number(lowest), highest: number(highest) }
}

#[test]
fn the_chart_of_start_up_holds_row_by_row() {
    // The first ten rows are WSPStartup's own.
    let rows = [
        (("1.1", "1.1"), ("1.1", "1.1"), "use 1.1"),
        (("1.0", "1.1"), ("1.0", "1.0"), "use 1.0"),
        (("1.0", "1.0"), ("1.0", "1.1"), "use 1.0"),
        (("1.1", "1.1"), ("1.0", "1.1"), "use 1.1"),
        (("1.1", "1.1"), ("1.0", "1.0"), "host fails"),
        (("1.0", "1.0"), ("1.1", "1.1"), "version"),
        (("1.0", "1.1"), ("1.0", "1.1"), "use 1.1"),
        (("1.0", "2.0"), ("1.1", "1.1"), "use 1.1"),
        (("1.0", "2.0"), ("2.0", "2.0"), "use 2.0"),
        (("1.0", "2.2"), ("2.2", "2.2"), "use 2.2"),
        (("2.0", "2.2"), ("1.0", "1.1"), "host fails"),
        (("1.0", "1.1"), ("2.0", "2.2"), "version"),
        (("2.0", "2.1"), ("1.1", "2.2"), "use 2.1"),
        (("1.9", "1.10"), ("1.10", "1.10"), "use 1.10"),
    ];
    for (number, ((host_low, host_high), (low, high), expected)) in rows.into_iter().enumerate() {
        let theirs = range(low, high);
        let found = match end(range(host_low, host_high), &Told::range(theirs.lowest, theirs.highest)) {
            End::Use(version) => format!("use {version}"),
            End::Version => "version".into(),
            End::HostFails => "host fails".into(),
        };
        assert_eq!(found, expected, "row {}", number + 1);
    }
}

#[test]
fn over_all_pairs_of_ranges_it_succeeds_exactly_where_they_overlap() {
    let versions = ["1.0", "1.1", "2.0", "2.1", "2.2"];
    let ranges: Vec<Range> = (0..versions.len())
        .flat_map(|low| (low..versions.len()).map(move |high| range(versions[low], versions[high])))
        .collect();
    let (mut used, mut version, mut failed) = (0, 0, 0);
    for ours in &ranges {
        for theirs in &ranges {
            let overlap = ours.lowest <= theirs.highest && theirs.lowest <= ours.highest;
            match end(*ours, &Told::range(theirs.lowest, theirs.highest)) {
                End::Use(text) => {
                    assert!(overlap);
                    assert_eq!(text, version_text(ours.highest.min(theirs.highest)));
                    used += 1;
                }
                End::Version => {
                    assert!(!overlap && theirs.lowest > ours.highest);
                    version += 1;
                }
                End::HostFails => {
                    assert!(!overlap && theirs.highest < ours.lowest);
                    failed += 1;
                }
            }
        }
    }
    assert_eq!((ranges.len().pow(2), used, version, failed), (225, 155, 35, 35));
}

proptest! {
    #[test]
    fn whatever_the_ranges_it_succeeds_exactly_where_they_overlap(
        ours in (0_u32..0x4_0000, 0_u32..0x4_0000), theirs in (0_u32..0x4_0000, 0_u32..0x4_0000),
    ) {
        let sorted = |(a, b): (u32, u32)| (a.min(b), a.max(b));
        let (ours, theirs) = (sorted(ours), sorted(theirs));
        let overlap = ours.0 <= theirs.1 && theirs.0 <= ours.1;
        let ended = end(Range { lowest: ours.0, highest: ours.1 }, &Told::range(theirs.0, theirs.1));
        prop_assert_eq!(matches!(ended, End::Use(_)), overlap);
    }
}

fn fault(told: &Told) -> Fault {
    plugin(Range::OURS).start(&told.place(), &host(1000, 1000)).err().unwrap()
}

const ONE: u32 = abi::version(1, 0);

#[test]
fn a_table_that_is_too_small_is_refused_and_cleaned_up_if_it_can_be() {
    // The size alone; cleanup; cleanup and open; all but the last that is demanded; one byte short of it.
    for (size, cleanups, missing) in
        [(8, 0, "cleanup"), (16, 1, "open"), (24, 1, "data"), (32, 1, "close"), (39, 1, "close")]
    {
        let told = Told { size, ..Told::range(ONE, ONE) };
        let fault = fault(&told);
        let expected = format!("its table of {size} bytes is too small for version 1.0: there is no {missing}");
        assert_eq!((fault.kind, fault.message), (FaultKind::Fault, expected));
        assert_eq!(told.counts(), [1, cleanups, 1]);
    }
    let told = Told { size: 40, ..Told::range(ONE, ONE) };
    assert_eq!(end(Range::OURS, &told), End::Use("1.0".into()), "the rest may be left out");
    let told = Told { size: 4096, ..Told::range(ONE, ONE) };
    assert_eq!(end(Range::OURS, &told), End::Use("1.0".into()), "a longer table is that of a newer plugin");
}

#[test]
fn a_null_where_the_version_demands_a_function_is_refused() {
    for (without, cleanups, name) in [(0, 0, "cleanup"), (1, 1, "open"), (2, 1, "data"), (3, 1, "close")] {
        let told = Told { without, ..Told::range(ONE, ONE) };
        let fault = fault(&told);
        assert_eq!(fault.message, format!("its table has NULL for {name}, which version 1.0 demands"));
        assert_eq!(told.counts(), [1, cleanups, 1]);
    }
}

#[test]
fn each_answer_of_start_up_is_understood_and_owes_no_cleanup() {
    use FaultKind::{BadConfig, InProgress, Limit, NotReady};
    let kinds = [
        (-10, NotReady),
        (-12, InProgress),
        (-13, Limit),
        (-14, FaultKind::Fault),
        (-15, BadConfig),
        (-99, FaultKind::Fault),
        (7, FaultKind::Fault),
    ];
    for (answer, kind) in kinds {
        let told = Told { answer, ..Told::range(ONE, ONE) };
        let fault = fault(&told);
        assert_eq!(fault.kind, kind);
        assert!(fault.message.contains("as I was told"), "{fault}");
        assert_eq!(told.counts(), [0, 0, 1]);
    }
}

#[test]
fn three_start_ups_want_three_cleanups() {
    let told = Told::range(ONE, ONE);
    let guests: Vec<Arc<dyn Guest>> =
        (0..3).map(|_| plugin(Range::OURS).start(&told.place(), &host(1000, 1000)).unwrap()).collect();
    assert_eq!(told.counts(), [3, 0, 3]);
    for (index, guest) in guests.iter().enumerate() {
        guest.cleanup();
        guest.cleanup();
        assert_eq!(told.counts(), [3, index as u32 + 1, 3], "and not one more");
    }
}

/// An adapter whose instances are started with settings of their own, and which notes the order of cleanups.
struct Layer(Told);

impl Adapter for Layer {
    fn name(&self) -> &'static str {
        "versions"
    }

    fn digest(&self) -> &'static str {
        "versions"
    }

    fn start(&self, place: &Arc<Place>, host: &Arc<crate::plugin::Host>) -> Result<Arc<dyn Guest>, Fault> {
        let place = Arc::new(Place { settings: self.0.place().settings.clone(), ..(**place).clone() });
        plugin(Range::OURS).start(&place, host)
    }
}

const TERMS: Terms =
    Terms { timeout: Duration::from_secs(20), queue: 10, max_message: 1000, max_queue: 1000, max_buffered: 1000 };

fn chain(layers: &[&Told]) -> Result<Arc<Chain>, ChainFault> {
    let plans = layers.iter().map(|told| LayerPlan { adapter: Arc::new(Layer((*told).clone())), run: Run::Pool(1) });
    Chain::start(host(1000, 1000).place(), plans.collect(), TERMS, None)
}

#[test]
fn a_failure_at_one_layer_cleans_up_those_before_it_and_starts_none_behind_it() {
    for k in 0..4 {
        let mut layers: Vec<Told> = (0..4).map(|_| Told::range(ONE, ONE)).collect();
        layers[k].answer = abi::PC_FAULT;
        let fault = chain(&layers.iter().collect::<Vec<_>>()).err().unwrap();
        assert_eq!(fault.layer, k);
        for (layer, told) in layers.iter().enumerate() {
            let expected = match layer.cmp(&k) {
                std::cmp::Ordering::Less => [1, 1, 1],
                std::cmp::Ordering::Equal => [0, 0, 1],
                std::cmp::Ordering::Greater => [0, 0, 0],
            };
            assert_eq!(told.counts(), expected, "layer {layer} of a failure at {k}");
        }
    }
}

#[test]
fn a_chain_that_stops_cleans_up_every_layer_once() {
    let layers = [Told::range(ONE, ONE), Told::range(ONE, ONE)];
    let chain = chain(&[&layers[0], &layers[1]]).unwrap();
    assert_eq!((chain.standing(), chain.admits()), (Standing::Ready, true));
    chain.stop();
    chain.stop();
    assert!(settle(Duration::from_secs(20)));
    assert_eq!(layers.map(|told| told.counts()), [[1, 1, 1]; 2]);
    assert!(!chain.admits());
}

#[test]
fn a_plugin_that_is_not_ready_is_tried_again_while_the_endpoint_waits() {
    let told = Told { answer: abi::PC_NOT_READY, ..Told::range(ONE, ONE) };
    let chain = chain(&[&told]).unwrap();
    assert!(!chain.admits());
    let since = std::time::Instant::now();
    while told.counts()[2] < 3 {
        assert!(since.elapsed() < Duration::from_secs(20), "it is not tried again");
        std::thread::yield_now();
    }
    assert_eq!(chain.standing(), Standing::NotReady("as I was told".into()));
    chain.stop();
    assert!(settle(Duration::from_secs(20)));
    assert_eq!(told.counts()[..2], [0, 0]);
}

#[test]
fn what_is_no_plugin_is_refused_with_its_reason() {
    let folder = std::env::temp_dir();
    let missing = NativePlugin::load(Path::new("/nowhere/lib.so")).unwrap_err();
    assert!(missing.starts_with("/nowhere/lib.so: No such file"), "{missing}");
    assert!(NativePlugin::load(&folder).unwrap_err().contains("is not a regular file"));
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert!(NativePlugin::load(&text).unwrap_err().contains("is no shared library"));
}
