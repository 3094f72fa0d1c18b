//! Parses, builds, runs; decides nothing.

fn main() -> std::process::ExitCode {
    kina_exporter::cli::main()
}
