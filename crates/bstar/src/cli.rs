//! The command line as clap sees it. What the verbs do is in [`crate::commands`].

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Teach a language model to reason on its own best answers (B-STaR).
///
/// `bstar run configs/quickstart.toml` takes a small model from nothing to a policy that has taught
/// itself, on this machine.
#[derive(Debug, Parser)]
#[command(name = "bstar", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// Print nothing but results and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a config to its end, or continue it where it stopped.
    Run(RunArgs),
    /// Run several methods with several seeds from the same P_0 and compare them, or go on with it.
    Compare(CompareArgs),
    /// Say what a run of a config will take before it runs: tokens, time, disk, memory, money.
    Plan(PlanArgs),
    /// Evaluate a model folder on a task.
    Eval(EvalArgs),
    /// Merge an adapter into its base model: a model folder that needs no adapter.
    Merge(MergeArgs),
    /// Print the monitors of any rollouts file, ours or another trainer's.
    Analyze(AnalyzeArgs),
    /// Search temperature and threshold on stored rollouts.
    Balance(BalanceArgs),
    /// Apply other settings to the stored rollouts of a run: what would have been chosen and selected.
    Whatif(WhatifArgs),
    /// Scripted policies whose best setting is known: what the search chooses, and what it costs.
    Simulate {
        #[command(subcommand)]
        verb: SimulateVerb,
    },
    /// Grade answers that lie in files: the same rows with verdict, answer found and reason.
    Grade(GradeArgs),
    /// Compare our verdicts on a file with a second opinion, and show where they differ.
    Audit(AuditArgs),
    /// List runs, or show one.
    Runs {
        #[command(subcommand)]
        verb: RunsVerb,
    },
    /// Show the resolved config, or what its keys mean.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Write a commented config file to start from.
    Init(InitArgs),
    /// Measure how fast this machine trains and samples, beside what it can do at most.
    Bench(BenchArgs),
    /// Say what this machine offers and what is missing.
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Config file (TOML).
    pub(crate) config: PathBuf,
    /// Set a key: `--set sample.k=16`; may be repeated. Paths start at the working directory.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Folder of the run; `runs/<name of the config>` if not given.
    #[arg(long, alias = "run-dir", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Start over: the run that lies in the folder is deleted.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Print the table of iterations as JSON at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Comparison file (TOML): base config, seeds, entries (docs/guide/compare.md).
    pub(crate) config: PathBuf,
    /// Set a key of every run: `--set iterations=2`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Folder of the comparison; `comparisons/<name of the file>` if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Runs side by side, instead of what the file says; 0 is one per core.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Run nothing: make the tables of what is there; only print them while another process works.
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) tables: bool,
    /// Start over: the runs of the comparison are deleted.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Print the results as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Config file (TOML) of a run or of a comparison.
    pub(crate) config: PathBuf,
    /// Set a key: `--set plan.price_per_hour=2.5`; may be repeated. Paths start at the working
    /// directory.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Show the plan beside what this run took, or this comparison: a folder, the name of a run as
    /// `bstar runs list` prints it, or that of a comparison's folder in `comparisons`.
    #[arg(long, value_name = "RUN")]
    pub(crate) against: Option<PathBuf>,
    /// Take the plan from this file, which `--json` printed, instead of measuring again.
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) planned: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Model folder (Hugging Face format), a run by its folder or name, whose last checkpoint is taken,
    /// or a name on the Hugging Face hub (organisation/model, organisation/model@revision).
    pub(crate) model: PathBuf,
    /// Task: a kind such as `arithmetic`, or a config file that holds one.
    #[arg(long)]
    pub(crate) task: String,
    /// Set a key of the config: `--set evaluate.samples=64`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Write the rollouts here (.parquet, .jsonl, .jsonl.gz or .jsonl.zst).
    #[arg(long, value_name = "FILE")]
    pub(crate) rollouts: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Model folder (Hugging Face format) that the adapter was trained on, or its name on the hub.
    pub(crate) base: PathBuf,
    /// Adapter folder (PEFT format), a run by its folder or name, whose last checkpoint is taken, or a
    /// name on the hub.
    pub(crate) adapter: PathBuf,
    /// Folder to write; it must not exist.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// Rollouts files: JSON Lines (also .gz, .zst) or Parquet; or one run by folder or name, of which
    /// all rollouts are taken.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// K of Pass@K and Best-of-K.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8,32")]
    pub(crate) k: Vec<usize>,
    /// S of Pass@K-S and Reward@K-S.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    pub(crate) s: Vec<usize>,
    /// Task whose equations diversity counts: `arithmetic` knows rewriting steps, every other kind
    /// `$…$`, `<<…>>` and `\[…\]`. That of the run if one is named, else `records`.
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// Seeds the bootstrap.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    /// Rollouts files of one or more temperatures: JSON Lines (also .gz, .zst) or Parquet; or a run by
    /// folder or name, of which the last probe is taken, unless `--iteration` or `--stage` says
    /// otherwise.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// n*: unique correct responses wanted of a query; that of the run if one is named.
    #[arg(long, value_name = "N")]
    pub(crate) target_count: Option<u32>,
    /// Thresholds: `-1:1:0.1` or `-1,0,0.5`.
    #[arg(long, value_name = "GRID", allow_hyphen_values = true)]
    pub(crate) thresholds: Option<String>,
    /// Count in n' only correct responses whose scaled reward-model score is above this bar.
    #[arg(long, value_name = "BAR", allow_hyphen_values = true)]
    pub(crate) verified_above: Option<f64>,
    /// How a reward-model score becomes a number around [-1, 1]: divide, sigmoid or rank (its rank
    /// among all scores of the files).
    #[arg(long, value_name = "SCALE")]
    pub(crate) rm_scale: Option<String>,
    /// Divides the reward-model score.
    #[arg(long, value_name = "X")]
    pub(crate) rm_divisor: Option<f64>,
    /// Clips the divided score to [-X, X]; `none` does not clip.
    #[arg(long, value_name = "X|none")]
    pub(crate) rm_clip: Option<String>,
    /// Cap each query with the smallest cap that selects N responses in all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) cap_to_pool: Option<u64>,
    /// Also choose k among these: the first k samples of a query are those of a smaller draw.
    #[arg(long, value_name = "K,…", value_delimiter = ',')]
    pub(crate) k: Vec<u32>,
    /// The smallest such k wins that falls short of the best balance score by at most this share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub(crate) k_tolerance: f64,
    /// Also choose the cap of a query among these; 0 is the cap without this flag.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) cap: Vec<u32>,
    /// Only rows of this iteration.
    #[arg(long, value_name = "N")]
    pub(crate) iteration: Option<u32>,
    /// Only rows of this stage.
    #[arg(long, value_parser = ["probe", "train", "eval"])]
    pub(crate) stage: Option<String>,
    /// recommended, paper-main, paper-dynamics or official-code.
    #[arg(long, default_value = "recommended")]
    pub(crate) preset: String,
    /// Seeds the bootstrap of intervals and chances.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhatifArgs {
    /// A run: its folder, its name as `bstar runs list` prints it, or a unique part of that.
    pub(crate) run: String,
    /// Where runs are looked up by name; `runs` and `comparisons` if not given.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Change a key of the run's config: `--set balance.thresholds=-1:1:0.01`; may be repeated. Keys
    /// that only read rollouts can be changed: `preset`, `method`, `balance.*`, `knobs.*`,
    /// `reward.*`, `selection.*`, `sample.k` and `sample.queries` (downwards) and
    /// `sample.target_samples`; not how a search was made (`balance.search`) or training ended
    /// (`knobs.steps`).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Show this iteration only.
    #[arg(long, value_name = "N")]
    pub(crate) iteration: Option<u32>,
    /// Print JSON, with every cell.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimulateVerb {
    /// What the balance score chooses in each scenario, against the setting that is worth most.
    Choice(SimulateChoiceArgs),
    /// What a cheaper search loses against measuring everything, and what it costs.
    Search(SimulateSearchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SimulateChoiceArgs {
    /// Only this scenario; all if not given.
    #[arg(long)]
    pub(crate) scenario: Option<String>,
    /// Probe queries.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) probe_queries: u32,
    /// Probe sets, each with a seed of its own.
    #[arg(long, default_value_t = 10)]
    pub(crate) seeds: u64,
    /// Bar on the scaled reward-model score for the rows that verify.
    #[arg(long, value_name = "BAR", default_value_t = 0.0, allow_hyphen_values = true)]
    pub(crate) verified_above: f64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateSearchArgs {
    /// Runs, by folder or name, that probed every temperature on every probe query; without one, the
    /// scenarios.
    pub(crate) runs: Vec<PathBuf>,
    /// M: queries of the draw, which costs are a share of; that of the run if not given.
    #[arg(long, value_name = "M")]
    pub(crate) queries: Option<usize>,
    /// racing or reweighting. Re-weighting needs runs that kept log-probabilities
    /// (`balance.candidate_logprobs`).
    #[arg(long, default_value = "racing", value_parser = ["racing", "reweighting"])]
    pub(crate) search: String,
    /// What the search may cost, as a share of the draw, the winner's responses not counted.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(crate) budget: f64,
    /// Standard errors behind the leader at which a temperature leaves a race.
    #[arg(long, value_name = "X", default_value_t = bstar_core::race::MARGIN)]
    pub(crate) margin: f64,
    /// Measure every temperature on so many queries instead of searching.
    #[arg(long, value_name = "N", conflicts_with_all = ["search", "margin"])]
    pub(crate) exhaustive: Option<usize>,
    /// Orders of the queries that each surface is searched in.
    #[arg(long, default_value_t = 20)]
    pub(crate) seeds: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GradeArgs {
    /// JSON Lines files (also .gz, .zst) of rows with an answer and a gold answer, or a program and
    /// its tests.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) grading: GradingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// JSON Lines file (also .gz, .zst) of rows as `bstar grade` takes them.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) grading: GradingArgs,
    #[command(flatten)]
    pub(crate) second: SecondArgs,
    /// Disagreements to show, the most frequent first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) examples: usize,
    /// Print JSON, with every disagreement.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose opinion ours is compared with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SecondArgs {
    /// Another comparison of the answers that we find.
    #[arg(long, value_enum)]
    pub(crate) against: Option<SecondCheck>,
    /// A column of the file: true or false, 1 or 0, or a verdict.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label: Option<String>,
    /// A program of yours: it reads rows of `pred` and `gold` as JSON Lines and writes a line for
    /// each, `true` or `false` (or `null` for none); it is stopped when it hangs, and started again.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

/// Comparisons to hold ours against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecondCheck {
    /// The same text, up to white space: what simple checkers do.
    Exact,
    /// The last number of each.
    Number,
    /// Our mathematics with the other strictness than `--strict` gives.
    OtherStrictness,
}

/// How answers are found and checked.
#[derive(Debug, Args)]
pub(crate) struct GradingArgs {
    /// What the answers are.
    #[arg(long, value_enum, default_value_t = AnswerKind::Math)]
    pub(crate) kind: AnswerKind,
    /// The column of the gold answer (for game24, of the four numbers).
    #[arg(long, value_name = "COLUMN", default_value = "gold")]
    pub(crate) gold: String,
    /// The column of the answer: bare, or a whole response that holds it; `pred` if not given, and
    /// for code `program` or `pred`.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) pred: Option<String>,
    /// The column of a program's tests: an object of inputs and outputs (APPS), a list of assertions
    /// (MBPP), or code that defines `check`, beside `entry_point` and `prompt` (HumanEval).
    #[arg(long, value_name = "COLUMN", default_value = "tests")]
    pub(crate) tests: String,
    /// Forgive nothing in mathematics: percent signs, units, rounding and order all count.
    #[arg(long)]
    pub(crate) strict: bool,
    /// The Python that runs programs; `python3` on the PATH if not given.
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Seconds for each test case of a program, or for all its assertions [default: 4].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time_limit: Option<f64>,
    /// Memory of a program in MiB [default: 1024].
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// Run programs even where this machine cannot confine them well.
    #[arg(long)]
    pub(crate) allow_weak_sandbox: bool,
}

/// Kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerKind {
    /// Mathematical text, LaTeX or plain.
    Math,
    /// A number.
    Number,
    /// An option letter.
    Choice,
    /// The text itself, up to white space.
    Exact,
    /// A Python program, judged by running its tests in the sandbox.
    Code,
    /// An expression that makes 24 of four numbers.
    Game24,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsVerb {
    /// List the runs in a folder, those of comparisons too.
    List {
        /// A folder of runs, of comparisons, or of a comparison; `runs` and `comparisons` if not given.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the iterations of a run.
    Show {
        /// A run: its folder, its name as `bstar runs list` prints it, or a unique part of that; of a
        /// run of a comparison `table1/b-star/seed-0001` or `b-star/seed-0001`.
        run: String,
        /// Where runs are looked up by name: a folder of runs, of comparisons, or of a comparison;
        /// `runs` and `comparisons` if not given.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print every key with its resolved value.
    Show {
        /// Config file; the defaults if not given.
        config: Option<PathBuf>,
        /// Set a key; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of configs.
    Schema,
    /// Print what every key means, with allowed values and default, as Markdown.
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// File to write.
    #[arg(default_value = "bstar.toml")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Size of the model; all if not given. Each is a shape of `model.size` with a vocabulary of its own.
    #[arg(long, value_enum)]
    pub(crate) size: Option<BenchSize>,
    /// Where to train and sample.
    #[arg(long, value_enum, default_value_t = BenchDevice::Cpu)]
    pub(crate) device: BenchDevice,
    /// Numbers of the products of linear layers.
    #[arg(long, value_enum, default_value_t = BenchPrecision::F32)]
    pub(crate) precision: BenchPrecision,
    /// Train with checkpoints of activations (`compute.checkpoint_activations`).
    #[arg(long)]
    pub(crate) checkpoint_activations: bool,
    /// Fewer tries: less exact, and several times faster.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Worker threads; 0 is one per core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(crate) threads: u16,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Measure only this workload, such as `small-train` or `large-sample-32`, in this process, and
    /// print JSON; the command starts itself with it for each one.
    #[arg(long, value_name = "NAME", conflicts_with = "size")]
    pub(crate) workload: Option<String>,
}

/// Devices that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchDevice {
    /// The processor.
    Cpu,
    /// The first NVIDIA card.
    Cuda,
}

/// Precisions that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchPrecision {
    /// Single precision.
    F32,
    /// Products of `bf16` numbers.
    Bf16,
    /// One after the other.
    Both,
}

/// Sizes of models that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchSize {
    /// `model.size = "pico"`, 149 thousand parameters: the model of the quickstart.
    Pico,
    /// `model.size = "small"`, 4.4 million parameters.
    Small,
    /// `model.size = "base"`, 97.5 million parameters.
    #[value(alias = "base")]
    Large,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
