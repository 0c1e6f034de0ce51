//! The layers of ARCHITECTURE.md hold: a file imports only from its own layer and those above it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn a_file_imports_only_from_its_own_layer_and_those_above_it() {
    let layers = layers();
    let mut checked = 0;
    let mut faults = Vec::new();
    for file in sources(Path::new("src")) {
        let own = module_of(&file);
        if own == "lib" {
            continue;
        }
        let Some(own_layer) = layers.get(&own) else {
            faults.push(format!("{}: module `{own}` is in no layer", file.display()));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        // Tests may reach down: they put things together.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for imported in imports(text) {
            checked += 1;
            match layers.get(&imported) {
                Some(layer) if layer <= own_layer => {}
                Some(_) => faults.push(format!("{}: imports `{imported}`, which is below it", file.display())),
                None => faults.push(format!("{}: imports `{imported}`, which is in no layer", file.display())),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 50, "only {checked} imports were found; has the test gone blind?");
}

/// The table's modules, each with the number of its row.
fn layers() -> HashMap<String, usize> {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let rows = text.split("## Layers").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = rows.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.enumerate()
        .flat_map(|(row, line)| {
            let modules = line.split('|').nth(2).unwrap().to_owned();
            modules.split('`').skip(1).step_by(2).map(|m| (m.to_owned(), row)).collect::<Vec<_>>()
        })
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// `src/tls/audit/policy.rs` belongs to `tls`.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix("src").unwrap();
    inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The first names behind every `crate::` of the text.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap();
                found.extend(list.split(',').map(|item| first_name(item.trim())));
            }
            None => found.push(first_name(behind)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}
