//! What `audit` was told to look at, besides a configuration: files, folders and servers. Made and asked by `audit`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::super::args::AuditArgs;
use super::super::password;
use crate::tls::audit::finding::ChainReport;
use crate::tls::audit::policy::Policy;
use crate::tls::audit::{Subject, audit};
use crate::tls::chain::Material;
use crate::tls::collect::{Place, give_key, list};
use crate::tls::parallel::in_order;
use crate::tls::probe::{Server, Target, probe};
use crate::tls::roots::Roots;

/// The places to look at, and what is needed to look.
pub(super) struct Sources<'a> {
    args: &'a AuditArgs,
    places: Vec<Place>,
    /// What each server presents, and the name that its chains must cover where none was given.
    presented: Vec<(Option<String>, Vec<Material>)>,
    /// How each server answers.
    pub(super) servers: Vec<Server>,
    password: Option<String>,
    roots: Option<Roots>,
    now: SystemTime,
}

impl<'a> Sources<'a> {
    /// Lists the files, and asks the servers.
    ///
    /// # Errors
    /// A file that the command line names for another purpose than to be audited cannot be read, in words.
    pub(super) fn new(args: &'a AuditArgs) -> Result<Self, String> {
        let now = SystemTime::now();
        let roots = args.roots.as_deref().map(Roots::read).transpose()?;
        let (targets, paths): (Vec<_>, Vec<_>) =
            args.paths.iter().cloned().partition(|path: &PathBuf| target(path).is_some());
        let mut places = list(&paths);
        if let Some(key) = &args.key {
            give_key(&mut places, key);
        }
        let password = password::find(args.password_file.as_deref(), || places.iter().any(Place::needs_password))?;
        let targets: Vec<Target> = targets.iter().filter_map(|path| target(path)).collect();
        let name = args.names.first().map(String::as_str);
        let (mut servers, mut presented) = (Vec::new(), Vec::new());
        for (target, (server, mut chains)) in targets.iter().zip(in_order(&targets, |target| probe(target, name))) {
            for (material, roots) in chains.iter_mut().zip(std::iter::repeat(&roots)) {
                roots.iter().for_each(|roots| roots.check(material, now));
            }
            presented.push((target.name().map(ToOwned::to_owned), chains));
            servers.push(server);
        }
        Ok(Self { args, places, presented, servers, password, roots, now })
    }

    /// How many files there are to look at.
    pub(super) fn files(&self) -> usize {
        self.places.len()
    }

    /// Every chain's report: the servers', then the files' in their order. `tick` is called for each file.
    pub(super) fn reports(&self, policy: &Policy, tick: impl Fn() + Sync) -> impl Iterator<Item = ChainReport> {
        let of_servers = self.presented.iter().flat_map(move |(name, chains)| {
            let wanted = if self.args.names.is_empty() { name.as_slice() } else { &self.args.names };
            chains.iter().map(move |material| self.judged(material, wanted, policy))
        });
        let of_files = in_order(&self.places, move |place| {
            let mut material = place.read(self.password.as_deref());
            if let (Some(material), Some(roots)) = (&mut material, &self.roots) {
                roots.check(material, self.now);
            }
            let report = material.map(|material| self.judged(&material, &self.args.names, policy));
            tick();
            report
        });
        of_servers.chain(of_files.flatten())
    }

    fn judged(&self, material: &Material, server_names: &[String], policy: &Policy) -> ChainReport {
        let profile = self.args.profile.into();
        let subject = Subject { profile, endpoint: None, server_names, listen_ips: &[], now: self.now };
        Arc::unwrap_or_clone(audit(material, &subject, policy).report)
    }
}

/// A server, unless there is a file of that name.
fn target(path: &Path) -> Option<Target> {
    Target::parse(path.to_str()?).filter(|_| path.symlink_metadata().is_err())
}
