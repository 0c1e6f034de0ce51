//! temp
#![allow(missing_docs)]
use super::*;
pub struct Respond;
impl Respond {
    pub fn new(_c: &crate::config::RespondConfig) -> Result<Self, Vec<(String, String)>> {
        Ok(Self)
    }
}
impl Handler for Respond {
    fn start(&self, _: &Arc<Endpoint>, _: &Settings) -> Result<Arc<dyn Instance>, StartError> {
        Err(StartError { setting: None, message: String::new() })
    }
}
