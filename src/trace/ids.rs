//! Random numbers for ids: they need be unlike each other, not secret, so that each thread has a generator of its own that costs
//! a few instructions (xoshiro256++ by Blackman and Vigna), seeded from the system.

use std::cell::Cell;

use aws_lc_rs::rand;

thread_local! {
    static STATE: Cell<[u64; 4]> = Cell::new(seed());
}

/// A random number that is not 0, since an id must not be.
pub(super) fn random() -> u64 {
    STATE.with(|cell| {
        let mut state = cell.get();
        let number = std::iter::repeat_with(|| next(&mut state)).find(|number| *number != 0);
        cell.set(state);
        number.unwrap_or(1) // the search does not end without
    })
}

fn next(s: &mut [u64; 4]) -> u64 {
    let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
    let shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = s[3].rotate_left(45);
    result
}

fn seed() -> [u64; 4] {
    let mut bytes = [0; 32];
    if rand::fill(&mut bytes).is_err() {
        // The system has no randomness to give: the standard library's keys are the next best.
        use std::hash::{BuildHasher, RandomState};
        for (i, part) in bytes.chunks_exact_mut(8).enumerate() {
            part.copy_from_slice(&RandomState::new().hash_one(i).to_ne_bytes());
        }
    }
    let mut state = [1; 4];
    for (word, part) in state.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(part.try_into().unwrap_or_default()) | 1; // all zero would stay zero
    }
    state
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ_on_one_thread_and_between_threads() {
        let some = || (0..1000).map(|_| super::random()).collect::<Vec<_>>();
        let mut all = [some(), std::thread::spawn(some).join().unwrap_or_default()].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2000);
    }
}
