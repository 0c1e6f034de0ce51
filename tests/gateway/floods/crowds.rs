//! Crowds: clients that come at once, ask, and go. What they took is given back.

use std::time::Instant;

use super::{GET, MIB, gateway, upstream};
use crate::support::client::{ask, connect};
use crate::support::{Gateway, PATIENCE};

#[test]
fn the_memory_that_a_crowd_took_goes_back_to_the_system() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    come_and_go(&gateway, 50);
    let before = anonymous(&gateway);
    come_and_go(&gateway, 2000);
    let begun = Instant::now();
    while anonymous(&gateway).saturating_sub(before) > MIB {
        assert!(begun.elapsed() < PATIENCE, "{} KiB are left", (anonymous(&gateway) - before) / 1024);
        std::thread::yield_now();
    }
}

#[test]
fn no_memory_is_in_huge_pages_which_the_kernel_would_fill_again() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "");
    assert_eq!(status(&gateway, "THP_enabled"), "0");
}

#[test]
fn descriptors_for_every_client_have_room_before_the_first_comes() {
    let upstream = upstream();
    let gateway = gateway(&[upstream.address], "", "max_connections = 900\n");
    let room: usize = status(&gateway, "FDSize").parse().unwrap();
    assert!((900..2000).contains(&room), "{room}");
}

fn come_and_go(gateway: &Gateway, number: usize) {
    let mut crowd: Vec<_> = (0..number).map(|_| connect(gateway.address("front"))).collect();
    for client in &mut crowd {
        assert_eq!(ask(client, GET).status, 200);
    }
}

/// The memory that belongs to no file, in bytes.
fn anonymous(gateway: &Gateway) -> u64 {
    let kib: u64 = status(gateway, "RssAnon").trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// What proc(5) says in `status`.
fn status(gateway: &Gateway, key: &str) -> String {
    let lines = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}
