//! Which server is next: round robin, least connections, two random choices, or by a key.
//!
//! Pure but for a worker's [`Turns`]. Called by `lease`, which says which servers may be taken at all; what comes out is
//! a place in the list.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use tokio::time::Instant;

use super::members::{Member, Members};

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    #[default]
    RoundRobin,
    /// The one with the fewest exchanges in work, in proportion to its weight.
    LeastConnections,
    /// Of two taken at random, the one with fewer exchanges in work in proportion to its weight.
    TwoChoices,
    /// The same server for the same key, for as long as it is there.
    Hash,
}

/// What a worker remembers from one choice to the next.
#[derive(Debug)]
pub(super) struct Turns {
    next: Cell<usize>,
    /// Smooth weighted round robin: what each server is owed.
    owed: RefCell<Vec<i64>>,
    random: Cell<u64>,
}

impl Default for Turns {
    fn default() -> Self {
        // Workers begin at different places, so that they do not all begin with the same server.
        let seed = RandomState::new().hash_one(0) | 1;
        Self { next: Cell::new(0), owed: RefCell::default(), random: Cell::new(seed) }
    }
}

/// What a choice is made by.
pub(super) struct Choice<'a> {
    pub(super) members: &'a Members,
    pub(super) turns: &'a Turns,
    /// What the same server is wanted for; `None` where nothing is, or the request does not say.
    pub(super) key: Option<u64>,
    pub(super) now: Instant,
    /// The request has failed elsewhere, so this is nobody's turn.
    pub(super) again: bool,
    /// Some server has come back lately and is to be eased in.
    pub(super) warming: bool,
}

impl Balance {
    /// The place of the server to take, of those that `may` be; `None` where none may.
    pub(super) fn choose(self, choice: &Choice<'_>, may: impl Fn(&Member) -> bool) -> Option<usize> {
        match (self, choice.key) {
            (Self::RoundRobin, _) | (Self::Hash, None) if choice.members.equal && !choice.warming => {
                choice.in_turn(may)
            }
            (Self::RoundRobin, _) | (Self::Hash, None) => choice.in_weighted_turn(may),
            (Self::LeastConnections, _) => choice.least(may),
            (Self::TwoChoices, _) => choice.of_two(may),
            (Self::Hash, Some(key)) => choice.by_key(key, may),
        }
    }
}

impl Choice<'_> {
    fn in_turn(&self, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let list = &self.members.list;
        let first = self.turns.next.get();
        let first = if first < list.len() { first } else { 0 };
        let found = (first..list.len()).chain(0..first).find(|place| may(&list[*place]))?;
        self.pass_on(found);
        Some(found)
    }

    /// Who comes behind this one is next. After a retry nothing changes, or who fails would always be next again.
    fn pass_on(&self, found: usize) {
        if !self.again {
            self.turns.next.set(found + 1);
        }
    }

    /// Smooth weighted round robin, as nginx has it: each is owed its weight, and who is owed most pays all.
    fn in_weighted_turn(&self, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let list = &self.members.list;
        let mut owed = self.turns.owed.borrow_mut();
        if owed.len() != list.len() {
            *owed = vec![0; list.len()];
        }
        if self.again {
            let fit = (0..list.len()).filter(|place| may(&list[*place]));
            return fit.max_by_key(|place| owed[*place]);
        }
        let (mut best, mut all) = (None, 0);
        for (place, member) in list.iter().enumerate().filter(|(_, member)| may(member)) {
            let share = i64::from(self.share(member));
            owed[place] += share;
            all += share;
            if best.is_none_or(|best: usize| owed[place] > owed[best]) {
                best = Some(place);
            }
        }
        owed[best?] -= all;
        best
    }

    fn least(&self, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let list = &self.members.list;
        // Among equals, in turn.
        let first = self.turns.next.get() % list.len().max(1);
        let in_order = (first..list.len()).chain(0..first).filter(|place| may(&list[*place]));
        let found = in_order.reduce(|a, b| self.lighter(a, b))?;
        self.pass_on(found);
        Some(found)
    }

    fn of_two(&self, may: impl Fn(&Member) -> bool) -> Option<usize> {
        /// Where so many draws hit nobody who may be taken, few are left, and looking at all is as good.
        const DRAWS: usize = 8;
        let list = &self.members.list;
        if list.len() <= 2 {
            return self.least(may);
        }
        let fit = |place: &usize| may(&list[*place]);
        let first = (0..DRAWS).map(|_| self.turns.draw(list.len())).find(fit);
        // Of the others, so that the first is never its own rival.
        let other = |first: usize| (first + 1 + self.turns.draw(list.len() - 1)) % list.len();
        let second = first.and_then(|first| (0..DRAWS).map(|_| other(first)).find(fit));
        match (first, second) {
            (Some(first), Some(second)) => Some(self.lighter(first, second)),
            _ => self.least(may),
        }
    }

    /// Weighted rendezvous hashing (Thaler and Ravishankar, 1998): every server draws by the key, and the highest takes
    /// it. Who goes or comes moves only the keys that were, or become, its own, and shares follow the weights.
    fn by_key(&self, key: u64, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let fit = self.members.list.iter().enumerate().filter(|(_, member)| may(member));
        let drawn = fit.map(|(place, member)| {
            let drawn = mixed(key ^ member.hash);
            let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64; // between 0 and 1, and neither
            (place, f64::from(member.weight) / -unit.ln())
        });
        drawn.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(place, _)| place)
    }

    /// Which of two has less in work for its share. The first, if that is the same.
    fn lighter(&self, a: usize, b: usize) -> usize {
        let weighed = |place: usize, other: usize| {
            let (member, other) = (&self.members.list[place], &self.members.list[other]);
            (member.server.load() + 1) * u64::from(self.share(other)) // cross-multiplied: load / share
        };
        if weighed(b, a) < weighed(a, b) { b } else { a }
    }

    /// A member's weight, smaller while it is eased in.
    fn share(&self, member: &Member) -> u32 {
        if !self.warming {
            return member.weight * WHOLE;
        }
        let warmth = member.server.health.warmth(self.now, self.members.slow_start);
        ((f64::from(member.weight * WHOLE) * warmth) as u32).max(1)
    }
}

/// A weight of one, so that less than that can be told apart.
const WHOLE: u32 = 256;

impl Turns {
    /// A number below `n`, at random (xorshift64).
    fn draw(&self, n: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        ((u128::from(x) * n as u128) >> 64) as usize
    }
}

/// The hash of what a choice is made by: FNV-1a, the same on every machine and in every version, so that several gateways
/// agree.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The key of a client's address: that of IPv4 and its form within IPv6 are one.
#[must_use]
pub fn address_key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    }
}

/// Spreads a hash over all bits (splitmix64).
fn mixed(hash: u64) -> u64 {
    let x = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::upstream::Server;

    fn members(weights: &[u32]) -> Members {
        let member = |(i, weight): (usize, &u32)| {
            let address = ([10, 0, 0, i as u8], 80).into();
            Member::new(Server::new(&format!("10.0.0.{i}:80"), address).into(), *weight)
        };
        Members::new(weights.iter().enumerate().map(member).collect(), Duration::ZERO)
    }

    fn chosen(balance: Balance, members: &Members, turns: &Turns, key: Option<u64>) -> usize {
        let choice = Choice { members, turns, key, now: Instant::now(), again: false, warming: false };
        balance.choose(&choice, |_| true).unwrap()
    }

    /// How often each is chosen.
    fn counts(balance: Balance, members: &Members, picks: u64, key: impl Fn(u64) -> Option<u64>) -> Vec<u64> {
        let turns = Turns::default();
        let mut counts = vec![0; members.list.len()];
        (0..picks).for_each(|i| counts[chosen(balance, members, &turns, key(i))] += 1);
        counts
    }

    #[test]
    fn equals_take_turns() {
        let (members, turns) = (members(&[1, 1, 1]), Turns::default());
        let places: Vec<_> = (0..7).map(|_| chosen(Balance::RoundRobin, &members, &turns, None)).collect();
        assert_eq!(places, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_heavier_server_is_taken_more_often_but_not_in_a_burst() {
        let (members, turns) = (members(&[5, 1, 1]), Turns::default());
        let places: Vec<_> = (0..7).map(|_| chosen(Balance::RoundRobin, &members, &turns, None)).collect();
        assert_eq!(places, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn where_one_may_not_be_taken_the_others_share_evenly() {
        let (members, turns) = (members(&[1, 1, 1]), Turns::default());
        let choice =
            Choice { members: &members, turns: &turns, key: None, now: Instant::now(), again: false, warming: false };
        let gone = Arc::clone(&members.list[0].server);
        let may = |member: &Member| !Arc::ptr_eq(&member.server, &gone);
        let places: Vec<_> = (0..4).map(|_| Balance::RoundRobin.choose(&choice, may).unwrap()).collect();
        assert_eq!(places, [1, 2, 1, 2]);
        for balance in [Balance::LeastConnections, Balance::TwoChoices, Balance::Hash] {
            let choice = Choice { key: Some(1), ..choice };
            assert!((0..50).all(|_| balance.choose(&choice, may).unwrap() != 0));
            assert_eq!(balance.choose(&choice, |_| false), None);
        }
    }

    #[test]
    fn the_least_loaded_server_is_taken_in_proportion_to_its_weight() {
        let (members, turns) = (members(&[1, 1, 4]), Turns::default());
        members.list[0].server.begin_work();
        assert_eq!(chosen(Balance::LeastConnections, &members, &turns, None), 2);
        (0..6).for_each(|_| members.list[2].server.begin_work()); // 7 of 4 against 1 of 1
        assert_eq!(chosen(Balance::LeastConnections, &members, &turns, None), 1);
        let counts = counts(Balance::TwoChoices, &members, 3000, |_| None);
        assert!(counts[1] > counts[0] && counts[1] > counts[2], "{counts:?}");
    }

    #[test]
    fn two_choices_are_of_two_different_servers() {
        for servers in [2, 3] {
            let members = members(&vec![1; servers]);
            members.list[0].server.begin_work();
            assert_eq!(counts(Balance::TwoChoices, &members, 5000, |_| None)[0], 0, "it is never the lighter one");
        }
        assert_eq!(counts(Balance::TwoChoices, &members(&[1]), 3, |_| None), [3]);
    }

    #[test]
    fn keys_spread_by_weight() {
        let counts = counts(Balance::Hash, &members(&[1, 2, 1]), 40_000, |i| Some(hash(&i.to_be_bytes())));
        for (count, expected) in counts.iter().zip([10_000, 20_000, 10_000]) {
            assert!(count.abs_diff(expected) < 600, "{counts:?}");
        }
    }

    #[test]
    fn a_key_without_a_place_of_its_own_goes_in_turn() {
        assert_eq!(counts(Balance::Hash, &members(&[1, 1]), 10, |_| None), [5, 5]);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!((hash(b""), hash(b"foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
    }

    proptest! {
        #[test]
        fn when_a_server_goes_only_its_own_keys_move(keys in prop::collection::vec(any::<u64>(), 1..100), gone in 0_usize..5) {
            let (all, turns) = (members(&[1, 3, 2, 1, 1]), Turns::default());
            for key in keys {
                let choice = Choice { members: &all, turns: &turns, key: Some(key), now: Instant::now(), again: false, warming: false };
                let before = Balance::Hash.choose(&choice, |_| true).unwrap();
                let after = Balance::Hash.choose(&choice, |m| !Arc::ptr_eq(&m.server, &all.list[gone].server)).unwrap();
                let moved = after != before;
                prop_assert_eq!(moved, before == gone);
            }
        }

        #[test]
        fn turns_follow_the_weights_exactly(weights in prop::collection::vec(1_u32..20, 1..8)) {
            let members = members(&weights);
            let rounds = weights.iter().map(|w| u64::from(*w)).sum();
            let expected: Vec<u64> = weights.iter().map(|w| u64::from(*w)).collect();
            let counts = counts(Balance::RoundRobin, &members, rounds, |_| None);
            // Equal weights take turns one by one, whatever the weight is.
            prop_assert!(counts == expected || members.equal);
        }
    }
}
