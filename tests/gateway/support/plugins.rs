//! Plugins for tests: C compiled on the spot, and the Rust samples built by cargo.

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
    compile(source, &library, flags);
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

/// Builds what `config/plugin.toml` names, as its comment says.
pub fn chat_of_the_configuration() {
    let (folder, target) = (Folder::new(), Path::new(ROOT).join("target/plugins"));
    std::fs::create_dir_all(&target).unwrap();
    let built = c(&folder, "examples/plugins/c/chat.c", &[]);
    // Put in its place whole: another test may be reading it.
    let copy = target.join(format!("libchat.so.{}", std::process::id()));
    std::fs::copy(built, &copy).unwrap();
    std::fs::rename(copy, target.join("libchat.so")).unwrap();
}

fn compile(source: &str, library: &Path, flags: &[&str]) {
    let output = Command::new("cc")
        .args(["-std=c11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg(format!("-I{ROOT}/plugin-abi/include"))
        .arg("-o")
        .arg(library)
        .arg(Path::new(ROOT).join(source))
        .arg("-lpthread")
        .output()
        .expect("cc runs; scripts/test installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
