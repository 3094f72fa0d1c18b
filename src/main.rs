//! Parses, builds, runs; decides nothing.

use kina_exporter::bench::alloc::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> std::process::ExitCode {
    kina_exporter::cli::main()
}
