//! The README's two commands: they are what they say, and `.ci/run` runs exactly these.

use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first fenced block after a heading.
fn block(text: &str, heading: &str) -> String {
    let after = text.split_once(&format!("\n## {heading}\n")).expect(heading).1;
    let fenced = after.split("```").nth(1).expect("a fenced block");
    fenced.trim_start_matches("sh\n").trim().to_owned()
}

#[test]
fn the_main_job_is_one_command_on_a_shipped_config() {
    let command = block(&read("README.md"), "Run the main job");
    assert_eq!(command, "cargo run --release --locked -- run configs/quickstart.toml");
    assert!(read("configs/quickstart.toml").contains("method = \"b-star\""));
}

/// `cargo run` at the root refuses to choose between the binaries of several crates unless one crate
/// alone says which is meant.
#[test]
fn cargo_run_knows_which_program_is_meant() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata");
    let chosen: Vec<_> =
        metadata.packages.iter().filter_map(|package| package.default_run.as_deref()).collect();
    assert_eq!(chosen, ["bstar"]);
}

#[test]
fn the_tests_are_one_command_that_covers_the_workspace() {
    let command = block(&read("README.md"), "Pass the tests");
    assert_eq!(command, "cargo test --workspace --locked");
}

#[test]
fn the_gate_runs_both_commands_from_the_readme() {
    let gate = read(".ci/run");
    for heading in ["Pass the tests", "Run the main job"] {
        assert!(
            gate.contains(&format!("bash -euo pipefail -c \"$(readme '{heading}')\"")),
            "{heading}"
        );
    }
}
