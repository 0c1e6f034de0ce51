//! The C header, made from the declarations; and the tests that it, and the layout, are what was promised.
//!
//! `UPDATE=1 cargo test -p portcullis-plugin-abi` writes `include/portcullis_plugin.h` anew. `layout.txt` is changed by hand
//! alone: a line that moved breaks every plugin that is out there.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::*;

/// Every record and table: name, description, members, size.
fn all() -> Vec<(&'static str, &'static [&'static str], &'static [Member], usize)> {
    macro_rules! rows {
        ($($name:ident)+) => {
            vec![$((stringify!($name), $name::DOCS, $name::MEMBERS, size_of::<$name>())),+]
        };
    }
    rows!(pc_framing pc_startup pc_endpoint pc_peer pc_input pc_piece pc_host pc_plugin)
}

fn header() -> String {
    let mut h = String::from(OPENING);
    for (name, value, docs) in CODES {
        comment(&mut h, "", docs);
        let value = if *value < 0 { format!("({value})") } else { value.to_string() };
        writeln!(h, "#define {name} {value}").unwrap();
    }
    h.push_str(HANDLES);
    for (name, docs, members, _) in all() {
        h.push('\n');
        comment(&mut h, "", docs);
        writeln!(h, "struct {name} {{").unwrap();
        for member in members {
            comment(&mut h, "    ", member.docs);
            writeln!(h, "    {};", (member.declaration)()).unwrap();
        }
        h.push_str("};\n");
    }
    h.push_str(CLOSING);
    h
}

fn comment(h: &mut String, indent: &str, docs: &[&str]) {
    let text: Vec<&str> = docs.iter().map(|line| line.trim_start()).collect();
    let text = text.join(&format!("\n{indent} * ")).replace(" * \n", " *\n");
    writeln!(h, "{indent}/* {text} */").unwrap();
}

const OPENING: &str = "\
/* The contract between Portcullis and a native plugin. Made from plugin-abi/src by a test; change it there.
 *
 * A plugin is a shared library that exports portcullis_plugin_startup, declared at the end. docs/plugins.md is the guide,
 * and examples/plugins/c holds plugins to start from. C99 and C++ compile it. */
#ifndef PORTCULLIS_PLUGIN_H
#define PORTCULLIS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern \"C\" {
#endif

/* A version as one number: the major part above the minor one, so that comparing numbers compares versions. */
#define PC_MAKE_VERSION(major, minor) ((uint32_t)(((uint32_t)(major) << 16) | (uint32_t)(minor)))
/* The version that this header describes. */
#define PC_HEADER_VERSION PC_MAKE_VERSION(1, 0)

/* What a plugin puts before its start-up, so that it is found whatever the compiler's flags are. */
#if defined(__GNUC__)
#define PC_EXPORT __attribute__((visibility(\"default\")))
#else
#define PC_EXPORT
#endif

";

const HANDLES: &str = "
/* A connection: slot and generation, so that a handle that outlives its connection is found out. 0 is none. */
typedef uint64_t pc_connection;

/* A reference-counted run of bytes that belongs to the gateway. */
typedef struct pc_buffer pc_buffer;

typedef struct pc_framing pc_framing;
typedef struct pc_startup pc_startup;
typedef struct pc_endpoint pc_endpoint;
typedef struct pc_peer pc_peer;
typedef struct pc_input pc_input;
typedef struct pc_piece pc_piece;
typedef struct pc_host pc_host;
typedef struct pc_plugin pc_plugin;
";

const CLOSING: &str = "
/* The one symbol that a plugin exports. The gateway calls it once for every endpoint that names the plugin.
 *
 * `requested` is the gateway's highest version. Below the plugin's lowest, answer PC_VERSION. Else set `out->high_version`
 * to the plugin's highest and `out->version` to the lower of the two, fill in `out->instance` and the table, and answer
 * PC_OK: a `cleanup` will follow. Both sides then keep to `out->version`. */
PC_EXPORT int32_t portcullis_plugin_startup(uint32_t requested, pc_startup *out, const pc_endpoint *endpoint,
                                            const pc_host *host, pc_plugin *table);

#ifdef __cplusplus
}
#endif

#endif
";

fn layout() -> String {
    let mut text = String::from(
        "# Where everything stands, in bytes, on a 64-bit machine. Append only: changed by hand, with a new version.\n",
    );
    for (name, _, members, size) in all() {
        writeln!(text, "{name} {size}").unwrap();
        for member in members {
            writeln!(text, "  {:4} {}", member.offset, member.name).unwrap();
        }
    }
    text
}

fn at(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_up_to_date() {
    let path = at("include/portcullis_plugin.h");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, header()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == header(), "{path} is stale; run `UPDATE=1 cargo test -p portcullis-plugin-abi`");
}

#[test]
#[cfg(target_pointer_width = "64")]
fn nothing_has_moved() {
    let found = std::fs::read_to_string(at("layout.txt")).unwrap_or_default();
    assert!(found == layout(), "the layout is no longer layout.txt's; plugins that are out there break\n{}", layout());
}

#[test]
fn there_are_fewer_than_forty_functions() {
    assert!(pc_plugin::FUNCTIONS.len() + pc_host::FUNCTIONS.len() + 1 < 40);
}

/// Compiles a file that is nothing but the header and the claim that C sees each offset where Rust does.
fn compile(compiler: &str, options: &[&str], extension: &str) {
    let mut source = String::from("#include \"portcullis_plugin.h\"\n");
    for (name, _, members, size) in all() {
        // An array of negative size is an error in every dialect.
        writeln!(source, "typedef char size_of_{name}[sizeof(struct {name}) == {size} ? 1 : -1];").unwrap();
        for member in members {
            let claim = format!("offsetof(struct {name}, {}) == {}", member.name, member.offset);
            writeln!(source, "typedef char {name}_{}[({claim}) ? 1 : -1];", member.name).unwrap();
        }
    }
    let file = std::env::temp_dir().join(format!("portcullis-header-{}.{extension}", std::process::id()));
    std::fs::write(&file, source).unwrap();
    let output = Command::new(compiler)
        .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic"])
        .args(options)
        .arg(format!("-I{}", at("include")))
        .arg(Path::new(&file))
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_header_is_c99_and_says_the_same_as_rust() {
    compile("cc", &["-std=c99"], "c");
}

#[test]
fn the_header_is_c_plus_plus_and_says_the_same_as_rust() {
    for standard in ["-std=c++11", "-std=c++17"] {
        compile("c++", &[standard, "-Wno-unused-local-typedefs"], "cpp");
    }
}
