//! `portcullis-component MODULE COMPONENT`: makes a component of a module, for authors of plugins.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [module, component] = arguments.as_slice() else {
        eprintln!("portcullis-component MODULE COMPONENT: makes a component of a WebAssembly module");
        return ExitCode::FAILURE;
    };
    let read = std::fs::read(module).map_err(|error| format!("{}: {error}", module.display()));
    let made = read.and_then(|bytes| {
        let made = portcullis_plugin_wasm::component(&bytes).map_err(|why| format!("{}: {why}", module.display()))?;
        std::fs::write(component, made).map_err(|error| format!("{}: {error}", component.display()))
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("portcullis-component: {why}");
            ExitCode::FAILURE
        }
    }
}
