//! A server for one exchange or session: the choice among those that may be taken, and the wait where all are busy.
//!
//! Called by `exchange` and `session`. Owns `max_connections` and the queue: a server that takes only so many is counted
//! over all workers, by one atomic that only such servers have touched.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::balance::Choice;
use super::members::{Member, Members};
use super::{Server, Upstream};

/// How many exchanges and sessions a server has at once, and what becomes of more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// At most so many at each server.
    pub connections: u32,
    /// So many may wait until a server has room; 0: none does.
    pub waiting: usize,
    /// For so long at most.
    pub patience: Duration,
}

/// Who waits for room at an upstream's servers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: AtomicUsize,
    /// Somewhere a place was freed. Wakes in the order in which they came.
    freed: Notify,
}

/// A server, taken for one exchange or session; it has that in work until this is dropped.
#[derive(Debug)]
pub struct Lease {
    server: Arc<Server>,
    /// Whom to tell then, where the server takes only so many.
    queue: Option<Arc<Queue>>,
}

/// What a look for a server found.
pub(super) enum Found {
    Server(Lease),
    /// Those that might be taken have no room.
    Busy,
    /// Every server has been tried.
    Nobody,
}

impl Upstream {
    /// Looks for a server among those that were not `tried`. One that is ejected, or down by what checks say, is taken
    /// only where no other is left: it may have come back, and an error is the worse guess.
    pub(super) fn find(&self, key: Option<u64>, tried: &[Arc<Server>], now: Instant) -> Found {
        let slot = self.here();
        let mut cache = slot.members.borrow_mut();
        let members: &Members = cache.load();
        let warming = !members.slow_start.is_zero()
            && members.servers().any(|server| server.health.warmth(now, members.slow_start) < 1.0);
        let choice = Choice { members, turns: &slot.turns, key, now, again: !tried.is_empty(), warming };
        let balance = self.policy.balance;
        let untried = |member: &Member| !tried.iter().any(|server| Arc::ptr_eq(server, &member.server));
        let usable = |member: &Member| untried(member) && member.server.health.is_usable(now);
        // Another worker may take the last place between the look and the grasp; then it is looked again.
        for _ in 0..=members.list.len() {
            let place = match balance.choose(&choice, |member| usable(member) && self.has_room(&member.server)) {
                Some(place) => Some(place),
                None if members.list.iter().any(usable) => return Found::Busy,
                None => balance.choose(&choice, |member| untried(member) && self.has_room(&member.server)),
            };
            match place {
                Some(place) => {
                    if let Some(lease) = self.take(&members.list[place].server) {
                        return Found::Server(lease);
                    }
                }
                None if members.list.iter().any(untried) => return Found::Busy,
                None => return Found::Nobody,
            }
        }
        Found::Busy
    }

    /// Whether nobody waits, so that who comes now is next.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.policy.limit.is_none() || self.queue.waiting.load(SeqCst) == 0
    }

    /// Waits in the queue for a server; `None` where it is full, or the wait was in vain.
    pub(super) async fn wait_for_room(&self, key: Option<u64>) -> Option<Lease> {
        let limit = self.policy.limit?;
        let first = self.queue.waiting.load(SeqCst) == 0;
        let place = Place::take(&self.queue, limit.waiting)?;
        self.metrics.here().queued.add(1);
        let wait = async {
            let mut freed = std::pin::pin!(self.queue.freed.notified());
            // What is freed between the look before and the wait must not be missed. Who comes later waits for its turn.
            freed.as_mut().enable();
            let mut looks = first;
            loop {
                if looks && let Found::Server(lease) = self.find(key, &[], Instant::now()) {
                    return lease;
                }
                freed.as_mut().await;
                freed.set(self.queue.freed.notified());
                freed.as_mut().enable();
                looks = true;
            }
        };
        let lease = timeout(limit.patience, wait).await.ok()?;
        drop(place);
        // Several places may have been freed by one notice.
        if self.queue.waiting.load(SeqCst) > 0 {
            self.queue.freed.notify_one();
        }
        Some(lease)
    }

    /// How many wait for room at a server.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting.load(SeqCst)
    }

    fn has_room(&self, server: &Server) -> bool {
        self.policy.limit.is_none_or(|limit| server.taken.load(SeqCst) < limit.connections)
    }

    /// Takes a server, unless it has become busy.
    fn take(&self, server: &Arc<Server>) -> Option<Lease> {
        let queue = match self.policy.limit {
            None => None,
            Some(limit) => {
                let more = |taken: u32| (taken < limit.connections).then_some(taken + 1);
                server.taken.fetch_update(SeqCst, SeqCst, more).ok()?;
                Some(Arc::clone(&self.queue))
            }
        };
        server.begin_work();
        Some(Lease { server: Arc::clone(server), queue })
    }
}

impl Lease {
    /// The server.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Deref for Lease {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.end_work();
        if let Some(queue) = &self.queue {
            self.server.taken.fetch_sub(1, SeqCst);
            queue.freed.notify_one();
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a Queue);

impl<'a> Place<'a> {
    fn take(queue: &'a Queue, most: usize) -> Option<Self> {
        let more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        queue.waiting.fetch_update(SeqCst, SeqCst, more).ok().map(|_| Self(queue))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::upstream::{UpstreamPolicy, UpstreamTimeouts};

    fn upstream(servers: u8, limit: Option<Limit>) -> Upstream {
        let server = |i: u8| (Server::new(&format!("10.0.0.{i}:80"), ([10, 0, 0, i], 80).into()), 1);
        let policy = UpstreamPolicy { limit, ..UpstreamPolicy::default() };
        Upstream::new("app", (0..servers).map(server).collect(), UpstreamTimeouts::default(), policy)
    }

    fn limit(connections: u32, waiting: usize) -> Option<Limit> {
        Some(Limit { connections, waiting, patience: Duration::from_secs(5) })
    }

    fn find(upstream: &Upstream, tried: &[Arc<Server>]) -> Lease {
        match upstream.find(None, tried, Instant::now()) {
            Found::Server(lease) => lease,
            Found::Busy => panic!("busy"),
            Found::Nobody => panic!("nobody"),
        }
    }

    #[test]
    fn servers_take_turns_and_each_is_tried_once() {
        let upstream = upstream(3, None);
        let mut tried = Vec::new();
        for expected in [0, 1, 2] {
            let lease = find(&upstream, &tried);
            assert_eq!(lease.address.to_string(), format!("10.0.0.{expected}:80"));
            tried.push(Arc::clone(lease.server()));
        }
        assert!(matches!(upstream.find(None, &tried, Instant::now()), Found::Nobody));
    }

    #[test]
    fn what_is_ejected_or_down_is_taken_only_where_nothing_else_is_left() {
        let upstream = upstream(3, None);
        let members = upstream.members();
        members.list[0].server.health.set_down(true, Instant::now());
        let policy = upstream.policy.ejection;
        let failing = &members.list[1].server.health;
        assert_eq!((0..5).filter_map(|_| failing.failed(Instant::now(), &policy, || false)).count(), 1);
        let well = &members.list[2].server;
        assert!((0..10).all(|_| Arc::ptr_eq(find(&upstream, &[]).server(), well)));
        let tried = [Arc::clone(well)];
        assert!((0..10).all(|_| !Arc::ptr_eq(find(&upstream, &tried).server(), well)));
    }

    #[test]
    fn a_server_never_has_more_than_its_limit_and_a_finished_exchange_makes_room() {
        let upstream = upstream(2, limit(2, 0));
        let mut leases: Vec<_> = (0..4).map(|_| find(&upstream, &[])).collect();
        assert!(matches!(upstream.find(None, &[], Instant::now()), Found::Busy));
        let freed = Arc::clone(leases.remove(1).server());
        assert!(Arc::ptr_eq(find(&upstream, &[]).server(), &freed));
    }

    #[test]
    fn what_is_down_is_not_taken_because_the_others_are_busy() {
        let upstream = upstream(2, limit(1, 0));
        upstream.members().list[0].server.health.set_down(true, Instant::now());
        let _busy = find(&upstream, &[]);
        assert!(matches!(upstream.find(None, &[], Instant::now()), Found::Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_served_in_order_is_bounded_and_is_not_waited_in_for_ever() {
        let upstream = upstream(1, limit(1, 2));
        let busy = find(&upstream, &[]);
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut first, mut second) = (pin!(upstream.wait_for_room(None)), pin!(upstream.wait_for_room(None)));
        assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
        assert!(upstream.wait_for_room(None).await.is_none(), "a third finds the queue full");
        assert!(!upstream.is_queue_empty());
        drop(busy);
        assert!(second.as_mut().poll(cx).is_pending(), "it is not its turn");
        let Poll::Ready(Some(lease)) = first.as_mut().poll(cx) else { panic!("the first is served") };
        assert!(second.as_mut().poll(cx).is_pending(), "there is no room");
        let begun = Instant::now();
        assert!(second.await.is_none());
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert!(upstream.is_queue_empty());
        drop(lease);
        assert!(upstream.wait_for_room(None).await.is_some(), "what was freed before is not missed");
    }
}
