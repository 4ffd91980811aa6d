//! `bstar doctor`: what this machine offers, what is missing, and what that means for a run.

use crate::grading;
use crate::output;
use bstar_core::{Fault, FaultClass};
use bstar_report::{Align, Table};
use bstar_sandbox::{Sandbox, Settings};
use bstar_tasks::programs::Python;
use serde::Serialize;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: String,
    /// What it means, where it is not simply good.
    advice: Option<String>,
}

/// Prints the findings.
pub(crate) fn doctor(json: bool) -> Result<(), Fault> {
    let findings =
        [version(), cores(), vectors(), memory(), disk(), accelerator(), python(), sandbox()];
    if json {
        return output::print_json(&findings);
    }
    let mut table =
        Table::new(&[("", Align::Left), ("found", Align::Left), ("advice", Align::Left)]);
    for finding in findings {
        let advice = finding.advice.unwrap_or_else(|| "ok".into());
        table.row([finding.what.to_owned(), finding.found, advice]);
    }
    output::print(&table.render())
}

fn version() -> Finding {
    let found = format!(
        "{} ({}, {})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    Finding { what: "bstar", found, advice: None }
}

fn cores() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let advice = (cores < 2).then_some("the quickstart is sized for two cores");
    Finding { what: "cores", found: cores.to_string(), advice: advice.map(Into::into) }
}

fn vectors() -> Finding {
    #[cfg(target_arch = "x86_64")]
    let found = if std::arch::is_x86_feature_detected!("avx512f") {
        "AVX-512"
    } else if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
    {
        "AVX2 with FMA"
    } else {
        "SSE2"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let found = "the baseline of this architecture";
    let advice = (found == "SSE2").then_some("matrix products will be several times slower");
    Finding { what: "vector unit", found: found.into(), advice: advice.map(Into::into) }
}

fn memory() -> Finding {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    let gib = available.map(|kib| kib / f64::from(1 << 20));
    Finding {
        what: "memory",
        found: gib.map_or_else(|| "unknown".into(), |gib| format!("{gib:.1} GiB available")),
        advice: gib.filter(|gib| *gib < 1.0).map(|_| "the quickstart needs about 1 GiB".into()),
    }
}

fn disk() -> Finding {
    let what = "disk here";
    #[cfg(unix)]
    if let Ok(volume) = rustix::fs::statvfs(".") {
        let gib = (volume.f_bavail * volume.f_frsize) as f64 / f64::from(1 << 30);
        let advice = (gib < 1.0).then_some("a run folder grows with rollouts and checkpoints");
        let advice = advice.map(Into::into);
        return Finding { what, found: format!("{gib:.1} GiB free"), advice };
    }
    Finding { what, found: "unknown".into(), advice: None }
}

fn accelerator() -> Finding {
    let on_cpu = "enough for models of up to about 100 million parameters";
    let (found, advice) = match bstar_model::device::available() {
        None => ("none: this build computes on the CPU".into(), on_cpu.into()),
        Some(Ok(name)) => (name, "set `run.device = \"cuda\"` to use it".into()),
        Some(Err(fault)) => ("none".into(), format!("{}; the CPU is {on_cpu}", fault.message)),
    };
    Finding { what: "accelerator", found, advice: Some(advice) }
}

fn python() -> Finding {
    let what = "python";
    match Python::find(None) {
        Ok(python) => {
            let found = format!("{} at {}", python.version, python.executable.display());
            Finding { what, found, advice: None }
        }
        Err(error) => {
            let advice = format!("{error}; only tasks whose answers are programs need it");
            Finding { what, found: "none".into(), advice: Some(advice) }
        }
    }
}

/// How well programs that a model wrote are confined here.
fn sandbox() -> Finding {
    let what = "sandbox";
    let settings = Settings { allow_weak: true, ..Settings::default() };
    let sandbox = grading::launcher().and_then(|launcher| {
        Sandbox::new(launcher, settings)
            .map_err(|error| Fault::new(FaultClass::Resource, error.to_string()))
    });
    match sandbox {
        Ok(sandbox) => {
            let level = sandbox.level();
            let missing = level.missing().join("; ");
            let advice = Some(missing).filter(|missing| !missing.is_empty());
            Finding { what, found: level.to_string(), advice }
        }
        Err(fault) => Finding { what, found: "none".into(), advice: Some(fault.message) },
    }
}
