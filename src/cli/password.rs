//! Where the password of PKCS#12 bundles comes from: a file, the environment, or whoever sits at the terminal. Never from
//! the command line, which everyone on the machine can read. `audit` asks.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

const VARIABLE: &str = "PORTCULLIS_PASSWORD";
/// A longer line is no password but a file that was named by mistake.
const LONGEST: usize = 1024;

/// The password, if there is one. `needed`: whether asking for it would help.
///
/// # Errors
/// The file cannot be read, in words.
pub(super) fn find(file: Option<&Path>, needed: impl FnOnce() -> bool) -> Result<Option<String>, String> {
    if let Some(file) = file {
        return read(file).map(Some);
    }
    match std::env::var(VARIABLE) {
        Ok(password) => Ok(Some(password)),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{VARIABLE} is not UTF-8")),
        Err(_) if io::stdin().is_terminal() && io::stderr().is_terminal() && needed() => ask().map(Some),
        Err(_) => Ok(None),
    }
}

fn read(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.len() > LONGEST {
        return Err(format!("{}: its first line is longer than {LONGEST} octets", file.display()));
    }
    Ok(line.to_owned())
}

/// Asks at the terminal, which does not show what is typed.
fn ask() -> Result<String, String> {
    let stdin = io::stdin();
    let fault = |error: &dyn std::fmt::Display| format!("the terminal: {error}");
    let before = tcgetattr(&stdin).map_err(|error| fault(&error))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let mut out = io::stderr();
    let asked = out.write_all(b"Password of the PKCS#12 bundle: ").and_then(|()| out.flush());
    asked.map_err(|error| fault(&error))?;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| fault(&error))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    let _ = out.write_all(b"\n"); // the one that was typed was not shown
    read.map_err(|error| fault(&error))?;
    restored.map_err(|error| fault(&error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::find;

    #[test]
    fn the_password_is_the_files_first_line_and_nothing_else_of_it() {
        let file = std::env::temp_dir().join(format!("portcullis-password-{}", std::process::id()));
        std::fs::write(&file, " pass word \r\nmore\n").unwrap();
        let found = find(Some(&file), || false);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(found.unwrap().as_deref(), Some(" pass word "));
        assert!(find(Some(&file), || false).unwrap_err().contains("portcullis-password-"));
    }
}
