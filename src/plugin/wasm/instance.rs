//! A running component: its store, the functions that are called of it, and what happens when it traps.
//!
//! Started by `wasm`, called by `session` through the seam. A component has one thread: the pool that calls it has one too,
//! so the lock here is never waited for. After a trap nothing of the instance is used again: the store is dropped at once,
//! and the keeper, which hears of it as trouble, closes the connections and starts another.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Func, Instance, Lift, Lower};
use wasmtime::{Store, Trap, WasmBacktrace};

use super::Limits;
use super::component::Compiled;
use super::engine::ticks;
use super::imports::State;
use super::limits::Memory;
use super::words::{EVENTS, EndpointWord, OfferWord, PeerWord, StartErrorWord, WhyWord};
use crate::plugin::framing::Framing;
use crate::plugin::guest::{Fault, FaultKind, Guest, Input, Peer, Place, Trouble, User, Why};
use crate::plugin::host::{Handle, Host, line};

/// A started instance.
pub(super) struct WasmGuest {
    version: String,
    framing: Framing,
    max_message: u32,
    inner: Mutex<Inner>,
}

enum Inner {
    Runs(Box<Running>),
    /// Why it is not used any more.
    Over(String),
}

/// A store, and what is called in it.
struct Running {
    store: Store<State>,
    limits: Limits,
    events: Events,
}

/// The functions of the `events` interface.
struct Events {
    start: Func,
    open: Func,
    data: Func,
    writable: Func,
    timer: Func,
    close: Func,
    minimum_size: Func,
    message_size: Func,
    cleanup: Func,
}

impl WasmGuest {
    pub(super) fn start(compiled: &Compiled, limits: Limits, place: &Place, host: &Arc<Host>) -> Result<Self, Fault> {
        let mut running = Running::new(compiled, limits, host).map_err(|why| Fault::new(FaultKind::Fault, why))?;
        let start = running.events.start;
        let started = running.call::<_, (Result<OfferWord, StartErrorWord>,)>(start, (EndpointWord::of(place),));
        let (offer,) = started.map_err(|why| Fault::new(FaultKind::Fault, why))?;
        let offer = offer?;
        let (major, minor) = compiled.version;
        Ok(Self {
            version: format!("{major}.{minor}"),
            framing: offer.framing(place.max_message)?,
            max_message: offer.max_message,
            inner: Mutex::new(Inner::Runs(Box::new(running))),
        })
    }

    /// Calls a function; a trap is the end of the instance.
    fn call<P, R>(&self, choose: impl FnOnce(&Events) -> Func, parameters: P) -> Result<R, Trouble>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *inner {
            Inner::Over(why) => Err(Trouble::Instance(why.clone())),
            Inner::Runs(running) => {
                let function = choose(&running.events);
                running.call(function, parameters).map_err(|why| {
                    *inner = Inner::Over(why.clone());
                    Trouble::Instance(why)
                })
            }
        }
    }

    /// The same, for functions that answer whether the connection may go on.
    fn ask<P, T>(&self, choose: impl FnOnce(&Events) -> Func, parameters: P) -> Result<T, Trouble>
    where
        P: ComponentNamedList + Lower,
        T: Lift + 'static,
        (Result<T, ()>,): ComponentNamedList,
    {
        let (answer,) = self.call::<P, (Result<T, ()>,)>(choose, parameters)?;
        answer.map_err(|()| Trouble::Connection)
    }
}

impl Running {
    fn new(compiled: &Compiled, limits: Limits, host: &Arc<Host>) -> Result<Self, String> {
        let state = State { host: Arc::clone(host), memory: Memory::new(limits.memory, host) };
        let mut store = Store::new(compiled.ready.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(ticks(limits.timeout));
        let instance = compiled.ready.instantiate(&mut store).map_err(|error| describe(&error, limits))?;
        let (major, minor) = compiled.version;
        let events = instance.get_export_index(&mut store, None, &format!("{EVENTS}@{major}.{minor}.0"));
        let events = Events::find(&instance, &mut store, events.as_ref())?;
        Ok(Self { store, limits, events })
    }

    /// Calls a function with a deadline; says what went wrong.
    fn call<P, R>(&mut self, function: Func, parameters: P) -> Result<R, String>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        self.store.set_epoch_deadline(ticks(self.limits.timeout));
        let called = function.typed::<P, R>(&self.store).and_then(|call| call.call(&mut self.store, parameters));
        called.map_err(|error| describe(&error, self.limits))
    }
}

impl Events {
    fn find(instance: &Instance, store: &mut Store<State>, all: Option<&ComponentExportIndex>) -> Result<Self, String> {
        let mut find = |name: &str| {
            let index = instance.get_export_index(&mut *store, all, name);
            let function = index.and_then(|index| instance.get_func(&mut *store, index));
            function.ok_or_else(|| format!("{EVENTS} has no function {name}"))
        };
        Ok(Self {
            start: find("start")?,
            open: find("open")?,
            data: find("data")?,
            writable: find("writable")?,
            timer: find("timer")?,
            close: find("close")?,
            minimum_size: find("minimum-size")?,
            message_size: find("message-size")?,
            cleanup: find("cleanup")?,
        })
    }
}

/// What went wrong, and in which of the component's functions.
fn describe(error: &wasmtime::Error, limits: Limits) -> String {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    let at =
        frames.iter().find_map(|frame| frame.func_name()).map_or(String::new(), |name| format!(", in {}", line(name)));
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!("a call has not returned within {:?}, and was cut{at}", limits.timeout),
        Some(trap) => format!("{trap}{at}"),
        None => format!("{}{at}", error.root_cause()),
    }
}

/// The plugin's own word about a connection.
fn word(user: User) -> u32 {
    user as u32 // it came from one
}

impl Guest for WasmGuest {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn framing(&self) -> Framing {
        self.framing.clone()
    }

    fn max_message(&self) -> u32 {
        self.max_message
    }

    fn never_blocks(&self) -> bool {
        // It never waits, but it may compute for as long as its deadline lets it.
        false
    }

    fn open(&self, connection: Handle, peer: &Peer) -> Result<User, Trouble> {
        let user: u32 = self.ask(|events| events.open, (connection.0, PeerWord::of(peer)))?;
        Ok(user as User)
    }

    fn data(&self, connection: Handle, user: User, input: &Input) -> Result<usize, Trouble> {
        let parameters = (connection.0, word(user), &input.bytes[..], input.last, input.from_above);
        let consumed: u32 = self.ask(|events| events.data, parameters)?;
        Ok(consumed as usize)
    }

    fn writable(&self, connection: Handle, user: User) -> Result<(), Trouble> {
        self.ask(|events| events.writable, (connection.0, word(user)))
    }

    fn timer(&self, connection: Handle, user: User, id: u32) -> Result<(), Trouble> {
        self.ask(|events| events.timer, (connection.0, word(user), id))
    }

    fn close(&self, connection: Handle, user: User, why: Why) -> Result<(), Trouble> {
        self.call(|events| events.close, (connection.0, word(user), WhyWord::from(why)))
    }

    fn minimum_size(&self, connection: Handle, user: User) -> Result<usize, Trouble> {
        let (size,): (u32,) = self.call(|events| events.minimum_size, (connection.0, word(user)))?;
        Ok(size as usize)
    }

    fn message_size(&self, connection: Handle, user: User, bytes: &[u8]) -> Result<usize, Trouble> {
        let size: u32 = self.ask(|events| events.message_size, (connection.0, word(user), bytes))?;
        Ok(size as usize)
    }

    fn cleanup(&self) {
        // What goes wrong now has nobody left to concern; the store goes either way.
        let _ = self.call::<_, ()>(|events| events.cleanup, ());
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Inner::Over("has been cleaned up".into());
    }
}
