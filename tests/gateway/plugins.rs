//! Plugins: native code behind real endpoints, through sockets.

mod samples;

use std::path::Path;

/// A configuration: endpoint "internal" of that class, plain, whose handler is the plugin `file`; `keys` go to the handler.
pub fn plugin(file: &Path, keys: &str) -> String {
    format!(
        "[endpoints.internal]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n\
         [handlers.site]\ntype = \"plugin\"\nfile = {file:?}\n{keys}\n"
    )
}
