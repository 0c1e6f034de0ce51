//! What each of very many addresses has used, in memory that does not grow with their number.
//!
//! Owns two tables that workers share without a lock, [`Counts`] and [`Buckets`]; `clients` says what is counted in them.
//!
//! Nothing is ever evicted, so nobody can have what is held against him forgotten by sending from many other addresses.
//! Each address stands for one cell in each of four rows, chosen by a hash with a secret key, and the least of its cells
//! speaks for it (Cormode and Muthukrishnan, "An improved data stream summary: the count-min sketch"). So an error is
//! always on the strict side: an address may be charged with what others use, and only where each of its four cells is
//! shared with one of those. With K busy addresses beside it that happens with a probability of at most (K / 16384)^4:
//! one in 70,000 with 1,000 of them, one in 115 with 5,000. Nobody is ever charged with less than he used.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::time::{Duration, Instant};

use crate::access::one_client;

const ROWS: usize = 4;
/// A power of two, so that some bits of a hash choose a cell.
const COLUMNS: usize = 1 << 14;
/// How often a bucket is tried that other workers fill at the same instant.
const ATTEMPTS: usize = 16;

/// The cells that stand for an address.
#[derive(Clone, Copy, Debug)]
struct Key(u64);

impl Key {
    fn of(address: IpAddr, hasher: &RandomState) -> Self {
        Self(hasher.hash_one(one_client(address)))
    }

    fn cells<C>(self, table: &[C]) -> [Option<&C>; ROWS] {
        let bits = COLUMNS.trailing_zeros() as usize;
        std::array::from_fn(|row| table.get(row * COLUMNS + (self.0 >> (row * bits)) as usize % COLUMNS))
    }
}

/// How many of something each address has open.
#[derive(Debug)]
pub struct Counts {
    hasher: RandomState,
    cells: Box<[AtomicU32]>,
}

impl Counts {
    /// None open.
    #[must_use]
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), cells: (0..ROWS * COLUMNS).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Opens one more, if the address then has no more than `most`.
    pub fn open(self: &std::sync::Arc<Self>, address: IpAddr, most: u32) -> Option<Open> {
        let key = Key::of(address, &self.hasher);
        // Counted first, so that two workers at the same instant cannot both take the last place.
        let cells = key.cells(&self.cells);
        let least = cells.iter().flatten().map(|cell| cell.fetch_add(1, Relaxed)).min().unwrap_or(0);
        let open = Open { counts: std::sync::Arc::clone(self), key };
        (least < most).then_some(open)
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

/// One that is open; dropping it closes it.
#[derive(Debug)]
pub struct Open {
    counts: std::sync::Arc<Counts>,
    key: Key,
}

impl Drop for Open {
    fn drop(&mut self) {
        for cell in self.key.cells(&self.counts.cells).iter().flatten() {
            cell.fetch_sub(1, Relaxed);
        }
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time that each takes to be forgiven.
    pub interval: Duration,
    /// How many may come at once; at least one.
    pub burst: u32,
}

/// A token bucket for each address, as one number: when it will be full again (the generic cell rate algorithm).
#[derive(Debug)]
pub struct Buckets {
    hasher: RandomState,
    epoch: Instant,
    /// Nanoseconds after `epoch`.
    full_again: Box<[AtomicU64]>,
}

impl Buckets {
    /// All full at `epoch`.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        let full_again = (0..ROWS * COLUMNS).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: RandomState::new(), epoch, full_again }
    }

    /// Takes one from an address's bucket.
    ///
    /// # Errors
    /// It is empty: after how long there is one again.
    pub fn take(&self, address: IpAddr, rate: Rate, now: Instant) -> Result<(), Duration> {
        let now = nanos(now.saturating_duration_since(self.epoch));
        let interval = nanos(rate.interval);
        let latest = now.saturating_add(interval.saturating_mul(u64::from(rate.burst)));
        let cells = Key::of(address, &self.hasher).cells(&self.full_again);
        for _ in 0..ATTEMPTS {
            let read = cells.iter().flatten().map(|cell| (cell.load(Relaxed), cell));
            let Some((before, least)) = read.min_by_key(|(at, _)| *at) else { break };
            let after = before.max(now).saturating_add(interval);
            if after > latest {
                return Err(Duration::from_nanos(after - latest));
            }
            // The least cell comes last, and it is what is taken by: once it is raised no cell is below `after`, so no worker
            // can take by another that it read before. Were it raised first, one could, and the same token be given twice.
            for other in cells.iter().flatten().filter(|cell| !std::ptr::eq(**cell, *least)) {
                other.fetch_max(after, AcqRel);
            }
            if least.compare_exchange_weak(before, after, AcqRel, Relaxed).is_ok() {
                return Ok(());
            }
        }
        Err(rate.interval)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { interval: Duration::from_millis(100), burst: 3 };

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_one_each_interval() {
        let start = Instant::now();
        let buckets = Buckets::new(start);
        let taken = |millis| buckets.take(v4(1), RATE, start + Duration::from_millis(millis));
        assert_eq!([taken(0), taken(0), taken(0)], [Ok(()); 3]);
        assert_eq!(taken(0), Err(Duration::from_millis(100)));
        assert_eq!(taken(60), Err(Duration::from_millis(40)));
        assert_eq!([taken(100), taken(100)], [Ok(()), Err(Duration::from_millis(100))]);
        assert_eq!([taken(9000), taken(9000), taken(9000)], [Ok(()); 3], "no more than a burst is saved up");
        assert!(taken(9000).is_err());
        assert!(buckets.take(v4(2), RATE, start).is_ok(), "another address has a bucket of its own");
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_address_is_ipv4() {
        let counts = Arc::new(Counts::new());
        let open = |address: &str| counts.open(address.parse().unwrap(), 1);
        let _first = open("2001:db8::1").unwrap();
        assert!(open("2001:db8::ffff:1").is_none());
        let _other = open("2001:db8:0:1::1").unwrap();
        let _mapped = open("::ffff:192.0.2.1").unwrap();
        assert!(open("192.0.2.1").is_none());
    }

    #[test]
    fn what_is_closed_makes_room_and_what_was_refused_takes_none() {
        let counts = Arc::new(Counts::new());
        let held = [counts.open(v4(1), 2).unwrap(), counts.open(v4(1), 2).unwrap()];
        (0..9).for_each(|_| assert!(counts.open(v4(1), 2).is_none()));
        drop(held);
        assert!(counts.open(v4(1), 1).is_some());
        assert!(counts.cells.iter().all(|cell| cell.load(Relaxed) == 0));
    }

    #[test]
    fn many_other_addresses_do_not_make_a_client_forgotten() {
        let start = Instant::now();
        let buckets = Buckets::new(start);
        while buckets.take(v4(1), RATE, start).is_ok() {}
        for other in 2..200_000 {
            let _ = buckets.take(v4(other), RATE, start);
        }
        assert!(buckets.take(v4(1), RATE, start).is_err());
    }

    #[test]
    fn workers_at_the_same_instant_give_no_more_than_there_is() {
        let start = Instant::now();
        let buckets = Buckets::new(start);
        let rate = Rate { interval: Duration::from_secs(1), burst: 1000 };
        let taken = || (0..1000).filter(|_| buckets.take(v4(1), rate, start).is_ok()).count();
        let all: usize = std::thread::scope(|scope| {
            let workers = [(); 4].map(|()| scope.spawn(taken));
            workers.map(|worker| worker.join().unwrap()).iter().sum()
        });
        assert!((900..=1000).contains(&all), "{all}");
    }

    proptest! {
        #[test]
        fn nobody_is_given_more_than_the_rate_allows(
            events in prop::collection::vec((0_u32..5, 0_u64..200), 1..300),
            burst in 1_u32..6,
        ) {
            let start = Instant::now();
            let buckets = Buckets::new(start);
            let rate = Rate { interval: Duration::from_millis(50), burst };
            let (mut now, mut given) = (0, HashMap::<u32, Vec<u64>>::new());
            for (client, wait) in events {
                now += wait;
                if buckets.take(v4(client), rate, start + Duration::from_millis(now)).is_ok() {
                    given.entry(client).or_default().push(now);
                }
            }
            for times in given.values() {
                for (from, first) in times.iter().enumerate() {
                    for (to, last) in times.iter().enumerate().skip(from) {
                        let allowed = u64::from(burst) + (last - first) / 50;
                        prop_assert!(((to - from) as u64) < allowed, "{times:?}");
                    }
                }
            }
        }
    }
}
