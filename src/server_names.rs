//! What an endpoint has for each server name: by the exact name, else by a wildcard over its first label.
//!
//! Used wherever a name that a client says is looked up: for a chain at the handshake (`tls`), and for the client
//! authentication that a name needs (`scope`).

use std::collections::HashMap;

/// Something for each of several names and wildcards, such as `www.example.com` and `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames<T> {
    exact: HashMap<String, T>,
    /// By what follows the "*.".
    wildcard: HashMap<String, T>,
}

impl<T> Default for ServerNames<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> ServerNames<T> {
    /// What stands for exactly this name or wildcard; made where there is nothing yet.
    pub fn entry(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert_with(make),
            None => self.exact.entry(name).or_insert_with(make),
        }
    }

    /// What a client that asks for `name`, in any case, is meant to get.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.all(name).next()
    }

    /// All that stands for `name`, in any case: first what does exactly, then what does by a wildcard.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &T> + Clone {
        let name = without_final_dot(name);
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let by_parent = name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).into_iter().chain(by_parent)
    }
}

/// A final dot says that a name is whole, and makes it no other name.
pub(crate) fn without_final_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::ServerNames;

    #[test]
    fn an_exact_name_comes_before_a_wildcard_and_a_wildcard_stands_for_one_label() {
        let mut names = ServerNames::default();
        names.entry("*.Example.com", || 1);
        names.entry("www.example.com", || 2);
        assert_eq!(*names.entry("WWW.example.com", || 3), 2, "the first stays");
        for (asked, found) in [
            ("www.example.com", Some(2)),
            ("WWW.EXAMPLE.COM", Some(2)),
            ("www.example.com.", Some(2)),
            ("api.example.com.", Some(1)),
            ("api.example.com", Some(1)),
            ("a.b.example.com", None),
            ("example.com", None),
            ("com", None),
        ] {
            assert_eq!(names.get(asked).copied(), found, "{asked}");
        }
        assert_eq!(names.all("WWW.example.com").copied().collect::<Vec<_>>(), [2, 1]);
    }
}
