//! Plugins for tests: C compiled on the spot, for this machine or to Wasm, and the Rust samples built by cargo.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Folder;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Compiles a C plugin into a folder: a sample of `examples/plugins/c`, or a file of `tests/gateway/plugins`. `flags` may
/// define macros. Returns the library's path.
pub fn c(folder: &Folder, source: &str, flags: &[&str]) -> PathBuf {
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    let library = folder.path().join(format!("lib{name}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-pthread"]);
    compile(cc, "plugin-abi/include", source, &library, flags);
    library
}

/// Builds a Rust sample of `examples/plugins/rust`, or "test-panics"; the library's path.
pub fn rust(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap().parent().unwrap().join("plugins");
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--offline", "--locked", "--target-dir"]).arg(&target).current_dir(ROOT);
        for sample in ["echo", "messages", "chat", "device", "test-panics"] {
            command.args(["-p", &format!("portcullis-{sample}")]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("debug")
    });
    folder.join(format!("libportcullis_{}.so", name.replace('-', "_")))
}

/// Compiles C to a component in a folder: a sample of `examples/plugins/wasm`, or a file of `tests/gateway/plugins`.
pub fn wasm(folder: &Folder, source: &str, flags: &[&str]) -> PathBuf {
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    let (module, component) = (folder.path().join("module.wasm"), folder.path().join(format!("{name}.wasm")));
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-O2"]);
    compile(clang, "plugin-wasm/include", source, &module, flags);
    let made = portcullis_plugin_wasm::component(&std::fs::read(module).unwrap());
    std::fs::write(&component, made.unwrap()).unwrap();
    component
}

/// Builds what `config/plugin.toml` and `config/wasm.toml` name, as their comments say.
pub fn chats_of_the_configuration() {
    let folder = Folder::new();
    install(&c(&folder, "examples/plugins/c/chat.c", &[]));
    install(&wasm(&folder, "examples/plugins/wasm/chat.c", &[]));
}

/// Puts a plugin where the configuration looks for it, whole: another test may be reading it.
fn install(built: &Path) {
    let target = Path::new(ROOT).join("target/plugins");
    std::fs::create_dir_all(&target).unwrap();
    let name = built.file_name().unwrap().to_str().unwrap();
    let copy = target.join(format!("{name}.{}", std::process::id()));
    std::fs::copy(built, &copy).unwrap();
    std::fs::rename(copy, target.join(name)).unwrap();
}

fn compile(mut compiler: Command, include: &str, source: &str, output: &Path, flags: &[&str]) {
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror"]).args(flags).arg(format!("-I{ROOT}/{include}"));
    compiler.arg("-o").arg(output).arg(Path::new(ROOT).join(source));
    let ended = compiler.output().expect("the compiler runs; scripts/test installs it");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
