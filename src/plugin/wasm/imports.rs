//! What a component may call of ours: the `host` interface, function by function, on top of [`Host`].
//!
//! Called from inside a component, on the thread that called it. Lists are looked at where they lie in its memory and copied
//! once, after it is known that they are not too much: pieces may overlap, and together be more than its memory is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, WasmList, WasmStr};

use super::limits::Memory;
use super::words::{AnswerWord, CloseWord, HOST, LevelWord, VERSION};
use crate::plugin::host::{Answer, Handle, Host};

/// How many pieces a write may have.
const PIECES: usize = 1024;

/// What belongs to an instance on our side.
pub(super) struct State {
    pub(super) host: Arc<Host>,
    pub(super) memory: Memory,
}

type Caller<'a> = StoreContextMut<'a, State>;
type Pieces = WasmList<WasmList<u8>>;

/// Everything that a component may import.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut host = linker.instance(&format!("{HOST}@{}.{}.0", VERSION.0, VERSION.1))?;
    bytes(&mut host)?;
    host.func_wrap("close", |store: Caller<'_>, (to, mode): (u64, CloseWord)| {
        let abort = matches!(mode, CloseWord::Abort);
        Ok((AnswerWord::from(store.data().host.close(Handle(to), abort)),))
    })?;
    host.func_wrap("set-timer", |store: Caller<'_>, (to, id, milliseconds): (u64, u32, u64)| {
        let after = Duration::from_millis(milliseconds);
        Ok((AnswerWord::from(store.data().host.set_timer(Handle(to), id, Some(after))),))
    })?;
    host.func_wrap("cancel-timer", |store: Caller<'_>, (to, id): (u64, u32)| {
        Ok((AnswerWord::from(store.data().host.set_timer(Handle(to), id, None)),))
    })?;
    host.func_wrap("log", |store: Caller<'_>, (level, text): (LevelWord, WasmStr)| {
        store.data().host.log(level.into(), &text.to_str(&store)?);
        Ok(())
    })
}

/// The functions that take bytes.
fn bytes(host: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    host.func_wrap("write", |mut store: Caller<'_>, (to, pieces): (u64, Pieces)| {
        let Some(pieces) = gather(&mut store, &pieces)? else { return Ok((AnswerWord::Limit,)) };
        Ok((AnswerWord::from(store.data().host.write(Handle(to), &pieces)),))
    })?;
    host.func_wrap("forward", |mut store: Caller<'_>, (to, pieces): (u64, Pieces)| {
        let Some(pieces) = gather(&mut store, &pieces)? else { return Ok((AnswerWord::Limit,)) };
        Ok((AnswerWord::from(store.data().host.forward(Handle(to), &pieces)),))
    })?;
    host.func_wrap("broadcast", |store: Caller<'_>, (to, bytes): (WasmList<u64>, WasmList<u8>)| {
        let host = &store.data().host;
        let Some(bytes) = host.copy(bytes.as_le_slice(&store)) else { return Ok((0,)) };
        let handles = to.as_le_slice(&store).iter().map(|handle| Handle(u64::from_le(*handle)));
        let took = host.broadcast(handles, &bytes, |_, _: Answer| {});
        Ok((u32::try_from(took).unwrap_or(u32::MAX),))
    })
}

/// Copies pieces out of the component's memory; `None` where they are more than any queue takes.
fn gather(store: &mut Caller<'_>, pieces: &Pieces) -> wasmtime::Result<Option<Vec<Bytes>>> {
    let most = store.data().host.place().max_queue as usize;
    if pieces.len() > PIECES {
        return Ok(None);
    }
    let lists = pieces.iter(&mut *store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    if lists.iter().map(WasmList::len).fold(0, usize::saturating_add) > most {
        return Ok(None);
    }
    Ok(Some(lists.iter().map(|list| Bytes::copy_from_slice(list.as_le_slice(&*store))).collect()))
}
