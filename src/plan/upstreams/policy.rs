//! How an upstream's servers are used, from its words: deadlines, the choice of a server, limits, ejection, retries.

use std::time::Duration;

use hyper::header::HeaderName;
use hyper::{StatusCode, Uri};

use crate::config::{BalanceConfig, Problems, ProtocolConfig, UpstreamConfig, nearest};
use crate::units;
use crate::upstream::{
    Balance, CheckPolicy, EjectionPolicy, KeySource, Limit, Protocol, RetryPolicy, UpstreamPolicy, UpstreamTimeouts,
};

/// One upstream in the making.
pub(super) struct One<'a, 'p> {
    pub(super) name: &'a str,
    pub(super) config: &'a UpstreamConfig,
    pub(super) problems: &'p mut Problems,
}

impl One<'_, '_> {
    pub(super) fn timeouts(&mut self) -> UpstreamTimeouts {
        let config = &self.config.timeouts;
        UpstreamTimeouts {
            connect: self.wait(&["timeouts", "connect"], &config.connect),
            response: self.wait(&["timeouts", "response"], &config.response),
            body: self.wait(&["timeouts", "body"], &config.body),
            idle: self.wait(&["timeouts", "idle"], &config.idle),
            attempt: config.attempt.as_ref().map(|text| self.wait(&["timeouts", "attempt"], text)),
            total: config.total.as_ref().map(|text| self.wait(&["timeouts", "total"], text)),
        }
    }

    pub(super) fn policy(&mut self) -> UpstreamPolicy {
        let (balance, key) = self.balance();
        let config = &self.config.ejection;
        let ejection = EjectionPolicy {
            failures: config.failures,
            duration: self.wait(&["ejection", "duration"], &config.duration),
            max_duration: self.wait(&["ejection", "max_duration"], &config.max_duration),
        };
        let slow_start = self.take(&["slow_start"], units::duration(&self.config.slow_start));
        let protocol = match self.config.protocol {
            ProtocolConfig::Http1 => Protocol::Http1,
            ProtocolConfig::Http2 => Protocol::Http2,
        };
        let (retries, limit, checks) = (self.retries(), self.limit(), self.checks());
        UpstreamPolicy { balance, key, ejection, retries, limit, slow_start, checks, protocol }
    }

    fn balance(&mut self) -> (Balance, Option<KeySource>) {
        match &self.config.balance {
            BalanceConfig::Word(word) => {
                let known = WORDS.iter().find(|(known, _)| known == word);
                if known.is_none() {
                    let words = WORDS.map(|(word, _)| word);
                    let remedy = match nearest(word, words) {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => format!("write one of {}, or {{ hash = … }}", words.join(", ")),
                    };
                    self.problem(&["balance"], format!("{word:?} is no way to choose a server"), remedy);
                }
                (known.map_or(Balance::RoundRobin, |(_, balance)| *balance), None)
            }
            BalanceConfig::Hash(config) => {
                let path = ["upstreams", self.name, "balance", "hash"];
                (Balance::Hash, self.problems.take(&path, key_source(&config.hash)))
            }
        }
    }

    fn limit(&mut self) -> Option<Limit> {
        let queue = self.config.queue.as_ref();
        let patience = queue.map(|queue| self.wait(&["queue", "timeout"], &queue.timeout));
        let Some(connections) = self.config.max_connections else {
            if queue.is_some() {
                let remedy = "set max_connections, or leave the queue out";
                self.problem(&["queue"], "without max_connections nobody ever waits".into(), remedy.into());
            }
            return None;
        };
        let waiting = queue.map_or(0, |queue| queue.length as usize);
        Some(Limit { connections, waiting, patience: patience.unwrap_or_default() })
    }

    fn checks(&mut self) -> Option<CheckPolicy> {
        let config = self.config.health.as_ref()?;
        let path = config.path.as_ref().map(|path| match path.parse::<Uri>() {
            Ok(uri) if path.starts_with('/') => uri,
            _ => {
                self.problem(&["health", "path"], format!("{path:?} is not a path"), "write \"/healthz\"".into());
                Uri::default()
            }
        });
        if path.is_none() && !config.status.is_empty() {
            let remedy = "add a path, or leave the statuses out";
            self.problem(&["health", "status"], "without a path there is no answer".into(), remedy.into());
        }
        let statuses = self.statuses(&["health", "status"], &config.status, 200);
        let interval = self.wait(&["health", "interval"], &config.interval);
        let timeout = self.wait(&["health", "timeout"], &config.timeout);
        Some(CheckPolicy { path, interval, timeout, healthy: config.healthy, unhealthy: config.unhealthy, statuses })
    }

    fn retries(&mut self) -> RetryPolicy {
        let config = &self.config.retries;
        let statuses = self.statuses(&["retries", "statuses"], &config.statuses, 400);
        RetryPolicy { attempts: config.attempts, budget: config.budget, statuses }
    }

    fn statuses(&mut self, key: &[&str], listed: &[u16], lowest: u16) -> Vec<StatusCode> {
        let mut statuses = Vec::new();
        for (index, status) in listed.iter().enumerate() {
            match StatusCode::from_u16(*status) {
                Ok(code) if (lowest..600).contains(status) => statuses.push(code),
                _ => {
                    let index = index.to_string();
                    let path: Vec<&str> = key.iter().copied().chain([&*index]).collect();
                    self.problem(&path, format!("{status} is out of place"), format!("take one of {lowest} to 599"));
                }
            }
        }
        statuses
    }

    fn wait(&mut self, key: &[&str], text: &str) -> Duration {
        self.take(key, units::positive_duration(text))
    }

    fn take(&mut self, key: &[&str], result: Result<Duration, String>) -> Duration {
        let path: Vec<&str> = ["upstreams", self.name].iter().chain(key).copied().collect();
        self.problems.take(&path, result).unwrap_or_default()
    }

    fn problem(&mut self, key: &[&str], message: String, remedy: String) {
        let path: Vec<&str> = ["upstreams", self.name].iter().chain(key).copied().collect();
        self.problems.push(&path, message, Some(remedy));
    }
}

/// The words for a choice that needs no key.
const WORDS: [(&str, Balance); 3] = [
    ("round-robin", Balance::RoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("two-choices", Balance::TwoChoices),
];

fn key_source(text: &str) -> Result<KeySource, String> {
    match text.split_once(':') {
        None if text == "client-address" => Ok(KeySource::ClientAddress),
        Some(("header", name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(KeySource::Header(name)),
            Err(_) => Err(format!("{name:?} is no field's name; write \"header:X-User\"")),
        },
        // RFC 6265, section 4.1.1: a cookie's name is a token, as a field's is, and its case counts.
        Some(("cookie", name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(KeySource::Cookie(name.to_owned())),
            Err(_) => Err(format!("{name:?} is no cookie's name; write \"cookie:sid\"")),
        },
        _ => Err(format!("{text:?} is no key; write \"client-address\", \"header:NAME\" or \"cookie:NAME\"")),
    }
}
