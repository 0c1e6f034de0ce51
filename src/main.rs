//! The `portcullis` binary: the allocator, its pages, and one call.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, and the kernel fills one again of which a part was given back: an idle gateway grew.
    // Nothing was measured to be faster with them. A kernel that refuses leaves memory as it was.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    portcullis::cli::main()
}
