//! temp
#![allow(missing_docs)]
use crate::access_log::AccessLog;
use crate::plan::Plan;
use std::sync::Arc;
pub struct State(Arc<Plan>);
pub enum Phase {
    Serving,
    Draining,
}
pub struct Handle;
impl Handle {
    pub fn stop(self) {}
}
impl State {
    pub fn new(p: Arc<Plan>, _a: AccessLog) -> Self {
        State(p)
    }
    pub fn set_phase(&self, _p: Phase) {}
    pub fn plan(&self) -> Arc<Plan> {
        self.0.clone()
    }
}
pub fn bind(a: std::net::SocketAddr) -> std::io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(a)
}
pub fn start(_l: std::net::TcpListener, _s: Arc<State>) -> std::io::Result<Handle> {
    Ok(Handle)
}
