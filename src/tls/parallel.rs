//! Does one thing to many items on every core, in the items' order and in bounded memory.
//!
//! The command line's `audit` goes through thousands of files with it, and `plan` through thousands of chains.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many results are held at most: as many as keep the cores busy between two pauses.
const BLOCK: usize = 256;

/// What `work` makes of each item, in the items' order. Results are made a block at a time, as they are asked for.
pub fn in_order<'a, T: Sync, R: Send + Sync>(
    items: &'a [T],
    work: impl Fn(&'a T) -> R + Sync,
) -> impl Iterator<Item = R> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    items.chunks(BLOCK).flat_map(move |block| one_block(block, cores, &work))
}

fn one_block<'a, T: Sync, R: Send + Sync>(items: &'a [T], cores: usize, work: &(impl Fn(&'a T) -> R + Sync)) -> Vec<R> {
    let results: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(item), Some(result)) = (items.get(at), results.get(at)) else { break };
            let _ = result.set(work(item)); // nobody else has this place
        }
    };
    thread::scope(|scope| {
        for _ in 1..cores.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{BLOCK, in_order};

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..3 * BLOCK + 7).collect();
        assert_eq!(
            in_order(&items, |item| item * 2).collect::<Vec<_>>(),
            items.iter().map(|i| i * 2).collect::<Vec<_>>()
        );
        assert_eq!(in_order(&[] as &[u8], |item| *item).count(), 0);
    }

    #[test]
    fn no_more_than_a_block_is_done_ahead() {
        let (items, done) = (vec![(); 10 * BLOCK], AtomicUsize::new(0));
        let mut results = in_order(&items, |()| done.fetch_add(1, Ordering::Relaxed));
        assert!(results.next().is_some());
        assert_eq!(done.load(Ordering::Relaxed), BLOCK);
    }
}
