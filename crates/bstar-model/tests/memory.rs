//! What loading, saving and laying out a model for sampling needs in memory, in copies of the model.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]
#![expect(
    clippy::print_stdout,
    reason = "numbers for the log, and what a process tells its parent"
)]

use bstar_core::RngKey;
use bstar_model::config::ModelConfig;
use bstar_model::decode::Decoder;
use bstar_model::size::ModelSize;
use bstar_model::weights::Weights;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "BSTAR_MEMORY_FOLDER";

/// A number of `/proc/self/status`, in bytes.
fn status(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kib: f64 = line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap();
    kib * 1024.0
}

/// How far the memory of this process rises above where it is, while `work` is done.
fn rise<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = status("VmRSS");
    // Makes the peak what is used now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let result = work();
    (status("VmHWM") - before, result)
}

/// The other tests run it in a process of its own, where nothing was allocated before.
#[test]
#[ignore = "measures a folder that another test made"]
fn measures() {
    let folder = std::env::var(FOLDER).unwrap();
    let folder = Path::new(&folder);
    let (load, weights) = rise(|| Weights::load(folder).unwrap());
    let (save, ()) = rise(|| weights.save(&folder.join("again")).unwrap());
    let (sampler, _decoder) = rise(|| Decoder::new(&weights));
    let copy = 4.0 * weights.config.parameter_count() as f64;
    println!("copies: {:.3} {:.3} {:.3}", load / copy, save / copy, sampler / copy);
}

/// Copies of a model that loading adds, and then saving, and then a sampler.
fn copies(config: &ModelConfig) -> [f64; 3] {
    let folder = tempfile::tempdir().unwrap();
    Weights::random(config, RngKey::from_seed(1)).save(folder.path()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "measures", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("copies: "));
    let (_, numbers) = line.unwrap_or_else(|| panic!("{text}"));
    println!("{} parameters: {numbers}", config.parameter_count());
    let numbers: Vec<f64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

fn check(config: &ModelConfig) {
    let [load, save, sampler] = copies(config);
    assert!((0.9..1.2).contains(&load), "{load}");
    assert!(save < 0.2, "{save}");
    assert!((0.9..1.2).contains(&sampler), "{sampler}");
}

#[test]
fn no_copy_of_a_model_is_made_beside_the_one_that_is_wanted() {
    check(&ModelSize::from_width(384).unwrap().config(4096, 128, 1));
}

#[test]
#[ignore = "writes 780 MB"]
fn nor_of_a_large_one() {
    check(&ModelSize::BASE.config(8192, 128, 1));
}
