//! The sockets that are open, and what each of them serves.
//!
//! Owned by `reload`. Going from one plan to the next has two steps: [`Doors::prepare`] opens what is missing and may fail,
//! all or nothing; [`Doors::commit`] cannot fail. A socket whose address stays is never closed: closing a `SO_REUSEPORT`
//! socket loses the connections that wait in its queue.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::watch;

use crate::connection::Limit;
use crate::identity::EndpointName;
use crate::listener::inherited::Inherited;
use crate::listener::spares::{Spare, Spares};
use crate::listener::{self, Door};
use crate::plan::{EndpointPlan, EndpointState, Plan};

/// Where each endpoint really listens.
pub(crate) type Addresses = BTreeMap<EndpointName, Vec<SocketAddr>>;

/// A new socket of one worker, with what it serves.
pub(crate) type Opened = (TcpListener, watch::Receiver<Door>);

/// Every open address.
pub(super) struct Doors {
    workers: usize,
    gateway_limit: Arc<Limit>,
    limits: BTreeMap<EndpointName, Arc<Limit>>,
    open: Vec<Listening>,
    /// Endpoints that were told to drain, and are not opened again.
    drained: BTreeSet<EndpointName>,
    spares: Spares,
}

/// One open address.
struct Listening {
    endpoint: EndpointName,
    /// As it was written when it was opened; its port may be 0.
    written: SocketAddr,
    /// As the system bound it.
    bound: SocketAddr,
    /// What its accept loops serve, one per socket; dropping these closes the address.
    serving: Vec<watch::Sender<Door>>,
    /// What a successor is given.
    spare: Spare,
}

/// For one plan: where each of its addresses comes from.
pub(super) struct Prepared(Vec<(Arc<EndpointPlan>, Vec<Place>)>);

struct Place {
    written: SocketAddr,
    from: From,
}

enum From {
    /// This one of the open ones.
    Open(usize),
    /// Just opened or inherited, a socket per worker at least.
    New { bound: SocketAddr, sockets: Vec<TcpListener> },
}

impl Doors {
    /// None open yet; what will be is kept in `spares` too.
    pub(super) fn new(workers: usize, spares: Spares) -> Self {
        Self {
            workers,
            gateway_limit: Limit::new(0),
            limits: BTreeMap::new(),
            open: Vec::new(),
            drained: BTreeSet::new(),
            spares,
        }
    }

    /// Opens what the plan asks for and is neither open nor `inherited`.
    ///
    /// # Errors
    /// Every address that cannot be opened. Nothing is left open then, and nothing has changed.
    pub(super) fn prepare(&self, plan: &Plan, inherited: &mut Inherited) -> Result<Prepared, Vec<String>> {
        let mut claimed = vec![false; self.open.len()];
        let (mut prepared, mut faults) = (Vec::new(), Vec::new());
        let drained = |endpoint: &EndpointPlan| self.drained.contains(&endpoint.endpoint.name);
        let wanted = plan.endpoints.iter().filter(|endpoint| endpoint.is_ready() && !drained(endpoint));
        for endpoint in wanted {
            let name = &endpoint.endpoint.name;
            let mut places = Vec::new();
            for &written in &endpoint.listen {
                let known = self.find(name, written, &claimed);
                let from = match known {
                    Some(index) => {
                        claimed[index] = true;
                        Ok(From::Open(index))
                    }
                    None => open(written, self.workers, inherited).or_else(|error| self.open_beside(written, error)),
                };
                match from {
                    Ok(from) => places.push(Place { written, from }),
                    Err(error) => faults.push(cannot_listen(&format!("endpoint {name:?}"), written, &error)),
                }
            }
            prepared.push((Arc::clone(endpoint), places));
        }
        if faults.is_empty() { Ok(Prepared(prepared)) } else { Err(faults) }
    }

    /// Opens an address beside one of ours that is in the way: an endpoint goes from every address of the machine to one of
    /// them, or back. The plan names only one of the two, so the other one closes.
    fn open_beside(&self, written: SocketAddr, error: io::Error) -> io::Result<From> {
        let covers = |open: &Listening| {
            let (a, b) = (open.bound, written);
            let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && overlap
        };
        if error.kind() != io::ErrorKind::AddrInUse || !self.open.iter().any(covers) {
            return Err(error);
        }
        Ok(From::New { bound: written, sockets: listener::open_shared(written, self.workers)? })
    }

    /// Closes the addresses of an endpoint for good, and asks its connections to end.
    pub(super) fn drain(&mut self, endpoint: &EndpointName) {
        self.drained.insert(endpoint.clone());
        self.open.retain(|open| open.endpoint != *endpoint);
    }

    /// Endpoints that were told to drain.
    pub(super) fn drained(&self) -> &BTreeSet<EndpointName> {
        &self.drained
    }

    /// Finds an address among those that are open. Port 0 stands for whatever the same endpoint was given for it.
    fn find(&self, endpoint: &EndpointName, written: SocketAddr, claimed: &[bool]) -> Option<usize> {
        self.open.iter().zip(claimed).position(|(open, claimed)| {
            let same = match written.port() {
                0 => open.written == written && open.endpoint == *endpoint,
                _ => open.bound == written,
            };
            same && !claimed
        })
    }

    /// Has every open address serve what the plan says, closes what it no longer names, and returns each worker's new
    /// sockets and where every endpoint listens.
    pub(super) fn commit(&mut self, plan: &Plan, prepared: Prepared) -> (Vec<Vec<Opened>>, Addresses) {
        self.gateway_limit.set_max(plan.max_connections);
        self.limits.retain(|name, _| plan.endpoint(name.as_str()).is_some());
        self.drained.retain(|name| plan.endpoint(name.as_str()).is_some());
        let mut opened: Vec<Vec<Opened>> = (0..self.workers).map(|_| Vec::new()).collect();
        let mut addresses = Addresses::new();
        let mut before: Vec<Option<Listening>> = self.open.drain(..).map(Some).collect();
        for (endpoint, places) in prepared.0 {
            let Some(door) = self.door(&endpoint) else { continue };
            let name = &endpoint.endpoint.name;
            for Place { written, from } in places {
                let (bound, serving, spare) = match from {
                    From::Open(index) => {
                        let Some(known) = before.get_mut(index).and_then(Option::take) else { continue };
                        hand_over(&known.serving, &door);
                        (known.bound, known.serving, known.spare)
                    }
                    From::New { bound, sockets } => {
                        let spare = self.spares.keep(&sockets);
                        (bound, give_out(sockets, &door, &mut opened), spare)
                    }
                };
                addresses.entry(name.clone()).or_default().push(bound);
                self.open.push(Listening { endpoint: name.clone(), written, bound, serving, spare });
            }
        }
        (opened, addresses)
    }

    fn door(&mut self, endpoint: &Arc<EndpointPlan>) -> Option<Door> {
        let EndpointState::Ready { instance } = &endpoint.state else { return None };
        let limit = self.limits.entry(endpoint.endpoint.name.clone()).or_insert_with(|| Limit::new(0));
        limit.set_max(endpoint.max_connections);
        Some(Door {
            endpoint: Arc::clone(endpoint),
            instance: Arc::clone(instance.instance()),
            gateway_limit: Arc::clone(&self.gateway_limit),
            endpoint_limit: Arc::clone(limit),
        })
    }
}

fn open(written: SocketAddr, workers: usize, inherited: &mut Inherited) -> io::Result<From> {
    let mut sockets = listener::take(inherited, written, workers)?;
    if sockets.is_empty() {
        sockets = listener::open(written, workers)?;
    }
    let bound = sockets.first().map_or(Ok(written), TcpListener::local_addr)?;
    Ok(From::New { bound, sockets })
}

/// Has the accept loops of an open address serve `door`, unless that is what they serve.
fn hand_over(serving: &[watch::Sender<Door>], door: &Door) {
    for sender in serving {
        sender.send_if_modified(|current| {
            let changed = !Arc::ptr_eq(&current.endpoint, &door.endpoint);
            if changed {
                *current = door.clone();
            }
            changed
        });
    }
}

/// Deals the new sockets of one address out, at least one to each worker.
fn give_out(sockets: Vec<TcpListener>, door: &Door, opened: &mut [Vec<Opened>]) -> Vec<watch::Sender<Door>> {
    let mut serving = Vec::new();
    let workers = opened.len();
    for (index, socket) in sockets.into_iter().enumerate() {
        let (sender, receiver) = watch::channel(door.clone());
        serving.push(sender);
        opened[index % workers].push((socket, receiver));
    }
    serving
}

/// Why a port cannot be opened, and what to do.
pub(crate) fn cannot_listen(whose: &str, address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "see the error",
    };
    format!("{whose}: cannot listen on {address}: {error}; {remedy}")
}
