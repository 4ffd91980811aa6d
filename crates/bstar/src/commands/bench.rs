//! `bstar bench`: how fast this machine trains and samples, beside what it can do at most.
//!
//! Each workload runs in a process of its own, started by this one, so that its peak memory is its
//! own too.

use crate::cli::{BenchArgs, BenchDevice, BenchPrecision, BenchSize};
use crate::commands::run::use_threads;
use crate::output::{self, Notes};
use bstar_core::{Fault, FaultClass};
use bstar_model::compute::{ComputeSettings, Precision};
use bstar_model::device::{Device, DeviceChoice};
use bstar_model::peak;
use bstar_model::workload::Workload;
use bstar_report::{Align, Table};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

/// Everything measured.
#[derive(Debug, Serialize)]
struct Report {
    bstar_version: &'static str,
    threads: usize,
    /// Peak rates of the machine.
    gflops: f64,
    /// With `bf16` measured.
    bf16_gflops: Option<f64>,
    gigabytes_per_second: f64,
    workloads: Vec<Row>,
}

/// A workload.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    workload: String,
    precision: Precision,
    tokens_per_second: f64,
    gflops: f64,
    /// Of the peak rate.
    share_of_gflops: Option<f64>,
    /// Sampling: what has to be read at least.
    gigabytes_per_second: Option<f64>,
    /// Of the peak rate.
    share_of_bandwidth: Option<f64>,
    /// Where the system tells it.
    peak_memory_mib: Option<f64>,
}

/// Measures and prints.
pub(crate) fn bench(args: &BenchArgs, notes: Notes) -> Result<(), Fault> {
    use_threads(args.threads.into())?;
    let precisions = match args.precision {
        BenchPrecision::F32 => vec![Precision::F32],
        BenchPrecision::Bf16 => vec![Precision::Bf16],
        BenchPrecision::Both => vec![Precision::F32, Precision::Bf16],
    };
    if let Some(name) = &args.workload {
        for precision in precisions {
            output::print_json(&measure(name, precision, args)?)?;
        }
        return Ok(());
    }
    let names: Vec<_> = workloads(args.size).map(|workload| workload.name).collect();
    notes.tell("measuring the peak of this machine");
    let (gflops, bandwidth) = (peak::product_rate(Precision::F32) / 1e9, peak::read_rate() / 1e9);
    let half = precisions.contains(&Precision::Bf16);
    let bf16_gflops = half.then(|| peak::product_rate(Precision::Bf16) / 1e9);
    let mut workloads = Vec::new();
    let pieces = names.iter().flat_map(|name| precisions.iter().map(move |&p| (name, p)));
    for (index, (name, precision)) in pieces.enumerate() {
        let count = names.len() * precisions.len();
        notes.tell(&format!("[{}/{count}] {name} in {}", index + 1, name_of(precision)));
        let mut row = measure_apart(name, precision, args)?;
        if args.device == BenchDevice::Cpu {
            let peak = if precision == Precision::Bf16 { bf16_gflops } else { Some(gflops) };
            row.share_of_gflops = peak.map(|peak| row.gflops / peak);
            row.share_of_bandwidth = row.gigabytes_per_second.map(|rate| rate / bandwidth);
        }
        workloads.push(row);
    }
    let report = Report {
        bstar_version: env!("CARGO_PKG_VERSION"),
        threads: rayon::current_num_threads(),
        gflops,
        bf16_gflops,
        gigabytes_per_second: bandwidth,
        workloads,
    };
    if args.json { output::print_json(&report) } else { output::print(&table(&report)) }
}

/// The workloads of a size, or of every size.
fn workloads(size: Option<BenchSize>) -> impl Iterator<Item = Workload> {
    let sizes =
        BenchSize::value_variants().iter().filter(move |of| size.is_none_or(|it| it == **of));
    let names = sizes.filter_map(ValueEnum::to_possible_value);
    names.flat_map(|name| Workload::of_size(name.get_name()))
}

fn name_of(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

fn measure(name: &str, precision: Precision, args: &BenchArgs) -> Result<Row, Fault> {
    let workload = Workload::named(name).ok_or_else(|| {
        let names: Vec<String> = workloads(None).map(|workload| workload.name).collect();
        Fault::new(FaultClass::Usage, format!("there is no workload `{name}`"))
            .hint(format!("the workloads are {}", names.join(", ")))
    })?;
    let choice = match args.device {
        BenchDevice::Cpu => DeviceChoice::Cpu,
        BenchDevice::Cuda => DeviceChoice::Cuda,
    };
    let checkpoint_activations = args.checkpoint_activations;
    let compute = ComputeSettings { precision, checkpoint_activations, micro_batch_size: 0 };
    let workload = workload.computing(compute).on(Device::open(choice, precision)?);
    let measured = workload.measure(if args.quick { 1 } else { 5 })?;
    Ok(Row {
        workload: workload.name,
        precision,
        tokens_per_second: measured.tokens_per_second,
        gflops: measured.operations_per_second / 1e9,
        share_of_gflops: None,
        gigabytes_per_second: measured.bytes_per_second.map(|rate| rate / 1e9),
        share_of_bandwidth: None,
        peak_memory_mib: peak_memory_mib(),
    })
}

fn measure_apart(name: &str, precision: Precision, args: &BenchArgs) -> Result<Row, Fault> {
    let fault = |what: &str| {
        Fault::new(FaultClass::Resource, format!("cannot measure {name}: {what}"))
            .hint("is there enough memory?")
    };
    let program = std::env::current_exe()
        .map_err(|error| fault("this program cannot be found").because(error))?;
    let threads = args.threads.to_string();
    let mut command = Command::new(program);
    command.args(["bench", "--workload", name, "--threads", &threads]);
    command.args(["--precision", name_of(precision)]);
    if args.checkpoint_activations {
        command.arg("--checkpoint-activations");
    }
    if args.quick {
        command.arg("--quick");
    }
    if args.device == BenchDevice::Cuda {
        command.args(["--device", "cuda"]);
    }
    let ran = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ran = ran.map_err(|error| fault("it cannot be started").because(error))?;
    if !ran.status.success() {
        return Err(fault(&format!("it ended with {}", ran.status)));
    }
    serde_json::from_slice(&ran.stdout).map_err(|error| fault("no result").because(error))
}

fn table(report: &Report) -> String {
    let mut table = Table::new(&[
        ("workload", Align::Left),
        ("numbers", Align::Left),
        ("tokens/s", Align::Right),
        ("GFLOP/s", Align::Right),
        ("of peak", Align::Right),
        ("GB/s", Align::Right),
        ("of peak", Align::Right),
        ("MiB", Align::Right),
    ]);
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
    let share = |value: Option<f64>| {
        value.map_or_else(String::new, |value| format!("{:.0} %", 100.0 * value))
    };
    for row in &report.workloads {
        table.row([
            row.workload.clone(),
            name_of(row.precision).into(),
            format!("{:.0}", row.tokens_per_second),
            number(Some(row.gflops)),
            share(row.share_of_gflops),
            number(row.gigabytes_per_second),
            share(row.share_of_bandwidth),
            row.peak_memory_mib.map_or_else(|| "?".into(), |mib| format!("{mib:.0}")),
        ]);
    }
    format!(
        "{}peak: {:.1} GFLOP/s{}, {:.1} GB/s; {} threads\n",
        table.render(),
        report.gflops,
        report.bf16_gflops.map_or_else(String::new, |rate| format!(" ({rate:.1} in bf16)")),
        report.gigabytes_per_second,
        report.threads
    )
}

/// The most memory that this process has held.
pub(crate) fn peak_memory_mib() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
