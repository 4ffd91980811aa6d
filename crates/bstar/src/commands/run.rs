//! `bstar run`: wires task, policy and run folder together and hands them to the loop.

use crate::cli::RunArgs;
use crate::commands::preflight;
use crate::config::layers::{self, Loaded};
use crate::config::{Config, TokenizerKind};
use crate::exit;
use crate::grading;
use crate::ledger::RunLedger;
use crate::models::{self, FoundModel};
use crate::named;
use crate::output::{self, Notes};
use crate::progress::{View, Watch};
use bstar_core::event::{Event, Piece};
use bstar_core::improve::{Improver, improve, make_start};
use bstar_core::ports::{Policy as _, RewardModel, Task as _};
use bstar_core::{Fault, FaultClass, RngKey};
use bstar_model::device::Device;
use bstar_model::policy::EmbeddedPolicy;
use bstar_model::reward_model::EmbeddedRewardModel;
use bstar_model::tokenizer::Tokenizer;
use bstar_report::{RunReport, diagnose, foot};
use bstar_store::{
    ConfigChange, Opened, RunError, RunIdentity, RunStore, RunView, config_diff_from,
};
use bstar_tasks::{Host, LoadedTask, PromptStyle};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keys that change how a run is made but not what it is.
pub(crate) const UNIMPORTANT_KEYS: [&str; 3] = ["run", "plan", "compute.checkpoint_activations"];

/// What the resolved config of a run remembers of its data.
pub(crate) const DATA_FINGERPRINT: &str = "data_fingerprint";

/// What it remembers of models that were named by their names on the hub.
pub(crate) const MODEL_COMMIT: &str = "model_commit";
pub(crate) const REWARD_MODEL_COMMIT: &str = "reward_model_commit";

/// All of these, which no config has.
pub(crate) const CONTENTS: [&str; 3] = [DATA_FINGERPRINT, MODEL_COMMIT, REWARD_MODEL_COMMIT];

/// Runs a config to its end.
pub(crate) fn run(args: &RunArgs, notes: Notes) -> Result<(), Fault> {
    let loaded = layers::load(Some(&args.config), &args.settings)?;
    let config = &loaded.config;
    config.check()?;
    use_threads(config.run.threads)?;
    let stem = args.config.file_stem().unwrap_or_default();
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(named::RUNS).join(stem));
    if args.fresh {
        RunStore::discard(&dir)?;
    }
    let planned = config.improve_settings(0).planned_iterations();
    let request = RunRequest {
        dir: &dir,
        identity: None,
        start: &[],
        part: Part::Whole,
        interrupted: catch_interrupts()?,
    };
    let store = carry_out(&loaded, &request, Box::new(View::new(notes, planned)), notes)?;
    let events = store.events()?;
    let events: Vec<_> = events.into_iter().map(|logged| logged.event).collect();
    let report = RunReport::from_events(&events);
    if args.json {
        return output::print_json(&report);
    }
    output::print(&format!("{}\n{}", report.table(), foot(&diagnose(&events))))?;
    let last = store.checkpoint_dir(planned)?;
    let model = last.map_or_else(String::new, |model| format!("model: {}\n", model.display()));
    output::print(&format!("{model}run:   {}\n", dir.display()))
}

/// How much of a run is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Iteration 0 only: P_0, its reward model and its evaluation.
    Start,
    /// Everything.
    Whole,
}

/// What makes a run the run it is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The keys that it depends on.
    pub(crate) keys: Value,
    /// What these are where nobody sets them.
    pub(crate) defaults: Value,
    /// Keys that do not change what it is.
    pub(crate) unimportant: Vec<&'static str>,
}

impl Identity {
    /// Of a run of a whole config.
    pub(crate) fn of(config: &Config) -> Self {
        let value = |config: &Config| serde_json::to_value(config).expect("configs are JSON");
        Self {
            keys: value(config),
            defaults: value(&layers::defaults(config.preset)),
            unimportant: UNIMPORTANT_KEYS.to_vec(),
        }
    }

    /// The keys in which a run with this stored identity is another one.
    pub(crate) fn changes(&self, stored: &Value, also_unimportant: &[&str]) -> Vec<ConfigChange> {
        let unimportant = [self.unimportant.as_slice(), also_unimportant].concat();
        config_diff_from(stored, &self.keys, &unimportant, &self.defaults)
    }
}

/// Where a run is made, and from what.
pub(crate) struct RunRequest<'a> {
    /// The folder of the run.
    pub(crate) dir: &'a Path,
    /// What makes the run the run it is, if not its whole config.
    pub(crate) identity: Option<Identity>,
    /// Pieces of iteration 0 that other runs made.
    pub(crate) start: &'a [(PathBuf, Piece)],
    /// How much of it.
    pub(crate) part: Part,
    /// Set when the user interrupts.
    pub(crate) interrupted: Arc<AtomicBool>,
}

/// Makes or continues a run whose config is checked. Threads are those of the current pool.
pub(crate) fn carry_out(
    loaded: &Loaded,
    request: &RunRequest<'_>,
    view: Box<dyn Watch>,
    notes: Notes,
) -> Result<RunStore, Fault> {
    let config = &loaded.config;
    // Tokenizers are made of all texts, those of queries that are left out too.
    let whole_task = load_task(loaded)?;
    preflight::check_splits(config, &whole_task)?;
    let model = models::of_config(loaded, notes)?;
    let judge = models::reward_model(loaded, notes)?;
    let device = open_device(config)?;
    let make_base = || -> Result<EmbeddedPolicy, Fault> {
        let mut policy = base_policy(loaded, model.as_ref(), &whole_task, notes)?;
        policy.limit_cache(config.run.cache_bytes());
        policy.use_device(device.clone());
        Ok(policy)
    };
    let mut policy = make_base()?;
    let task = preflight::readable(config, &policy, whole_task.clone(), notes);
    preflight::check_splits(config, &task)?;
    let settings = config.improve_settings(task.train().len());
    preflight::check_lengths(config, &policy, &task, notes)?;
    let reward_model =
        judge.as_ref().map(|judge| EmbeddedRewardModel::load(&judge.folder, &policy));
    let reward_model = reward_model.transpose()?;
    if let Some(model) = &reward_model {
        preflight::check_reward_model(config, model, &policy, &task)?;
    }
    let commit = |found: Option<FoundModel>| found.and_then(|found| found.commit);
    let commits = [(MODEL_COMMIT, commit(model.clone())), (REWARD_MODEL_COMMIT, commit(judge))];
    let mut store = open_store(request, loaded, commits, &task, notes)?;
    preflight::tell_notices(&task, notes);
    preflight::tell_limits(config, &task, notes);
    if !request.start.is_empty() {
        let given = reward_model.as_ref().map(RewardModel::version);
        let started = settings.run_started(task.name(), policy.version(), given);
        adopt_start(&mut store, request.start, &started)?;
    }
    let mut ledger = RunLedger {
        store,
        view,
        make_base: Box::new(make_base),
        retention: config.run.checkpoints,
        interrupted: Arc::clone(&request.interrupted),
    };
    let mut improver = Improver {
        settings: &settings,
        task: &task,
        supervised: task.supervised(),
        policy: &mut policy,
        reward_model,
        ledger: &mut ledger,
    };
    let result = match request.part {
        Part::Start => make_start(&mut improver),
        Part::Whole => improve(&mut improver),
    };
    match &result {
        Ok(()) => ledger.view.finish(),
        Err(_) => ledger.view.break_off(),
    }
    result.map_err(how_to_change)?;
    Ok(ledger.store)
}

/// Takes over the pieces of iteration 0 that are not there yet.
fn adopt_start(
    store: &mut RunStore,
    start: &[(PathBuf, Piece)],
    started: &Event,
) -> Result<(), Fault> {
    if store.events()?.is_empty() {
        store.append(started)?;
    }
    for (source, piece) in start {
        if !store.is_published(0, *piece) {
            store.adopt(&RunView::open(source)?, *piece)?;
        }
    }
    Ok(())
}

/// A run cannot be continued with another config; advice to change one must say how.
fn how_to_change(fault: Fault) -> Fault {
    match (fault.class, &fault.hint) {
        (FaultClass::Training, Some(hint)) => {
            let how = "a changed config needs another --dir, or --fresh to start over";
            let hint = format!("{hint}; {how}");
            fault.hint(hint)
        }
        _ => fault,
    }
}

/// Computes with so many threads; 0 is one per core.
pub(crate) fn use_threads(threads: usize) -> Result<(), Fault> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        Fault::new(FaultClass::Resource, format!("cannot start {threads} threads")).because(error)
    })
}

/// The device of a config; none is the CPU.
pub(crate) fn open_device(config: &Config) -> Result<Option<Device>, Fault> {
    Device::open(config.run.device, config.compute.precision)
}

/// The task of a config. Generated queries follow the seed unless the task has one of its own.
pub(crate) fn load_task(loaded: &Loaded) -> Result<LoadedTask, Fault> {
    let key = RngKey::from_seed(loaded.config.seed).child("task");
    let host = Host { base_dir: &loaded.base_dir, launcher: grading::launcher()? };
    Ok(bstar_tasks::load(&loaded.config.task, key, &host)?)
}

/// The base policy of a config: a model that is there, or fresh weights.
pub(crate) fn base_policy(
    loaded: &Loaded,
    found: Option<&FoundModel>,
    task: &LoadedTask,
    notes: Notes,
) -> Result<EmbeddedPolicy, Fault> {
    let config = &loaded.config;
    let model = &config.model;
    if let Some(FoundModel { folder, .. }) = found {
        let key = RngKey::from_seed(config.seed).child("lora");
        return match config.lora.rank {
            0 => loaded_policy(folder, config, task, notes),
            _ => as_configured(
                config,
                task,
                EmbeddedPolicy::with_adapter(folder, config.optimizer, config.lora.clone(), key)?,
            ),
        };
    }
    if task.style() == PromptStyle::Chat {
        let problem = "`task.files.style` is chat, and a model from scratch cannot chat";
        return Err(Fault::new(FaultClass::Usage, problem)
            .hint("name a model that can in `model.folder`, or remove the style"));
    }
    let taught =
        task.supervised().iter().flat_map(|example| [&*example.prompt, &*example.response]);
    let asked = task.train().iter().map(|query| query.prompt.as_str());
    let texts = taught.chain(asked);
    let tokenizer = match model.tokenizer {
        TokenizerKind::Characters => Tokenizer::characters(texts),
        TokenizerKind::Bpe => Tokenizer::train_bpe(texts, model.vocab_size)?,
    };
    let key = RngKey::from_seed(config.seed).child("weights");
    let length = model.context_length;
    let (size, optimizer) = (model.size, config.optimizer);
    let mut policy = EmbeddedPolicy::from_scratch(size, tokenizer, length, key, optimizer);
    policy.compute_with(config.compute);
    Ok(policy)
}

/// The policy of a model folder, asked in the style of the task.
pub(crate) fn loaded_policy(
    folder: &Path,
    config: &Config,
    task: &LoadedTask,
    notes: Notes,
) -> Result<EmbeddedPolicy, Fault> {
    let policy = match models::hub_base(folder, notes)? {
        Some(base) => EmbeddedPolicy::from_adapter(&base, folder, config.optimizer)?,
        None => EmbeddedPolicy::from_folder(folder, config.optimizer)?,
    };
    as_configured(config, task, policy)
}

fn as_configured(
    config: &Config,
    task: &LoadedTask,
    mut policy: EmbeddedPolicy,
) -> Result<EmbeddedPolicy, Fault> {
    policy.compute_with(config.compute);
    if task.style() == PromptStyle::Chat {
        policy.use_chat_template()?;
    }
    Ok(policy)
}

fn open_store(
    request: &RunRequest<'_>,
    loaded: &Loaded,
    commits: [(&str, Option<String>); 2],
    task: &LoadedTask,
    notes: Notes,
) -> Result<RunStore, Fault> {
    let identity = request.identity.clone().unwrap_or_else(|| Identity::of(&loaded.config));
    let Identity { keys: mut resolved, defaults, unimportant } = identity;
    resolved[DATA_FINGERPRINT] = task.fingerprint().into();
    for (key, commit) in commits {
        if let Some(commit) = commit {
            resolved[key] = commit.into();
        }
    }
    let identity = RunIdentity {
        config_toml: loaded.written.clone(),
        resolved,
        defaults,
        bstar_version: env!("CARGO_PKG_VERSION").into(),
    };
    let opened = RunStore::open_or_create(request.dir, &identity, &unimportant);
    let (store, opened) = opened.map_err(changed_data)?;
    if opened == Opened::Continued && !store.is_finished() {
        notes.tell(&format!("continuing the run in {}", request.dir.display()));
    }
    Ok(store)
}

/// The key of the name that a remembered commit is of.
pub(crate) fn key_of_commit(key: &str) -> Option<&'static str> {
    match key {
        MODEL_COMMIT => Some("model.name"),
        REWARD_MODEL_COMMIT => Some("reward_model.name"),
        _ => None,
    }
}

/// Where nothing but the data changed, or what a name means on the hub, says so instead of showing
/// fingerprints.
fn changed_data(error: RunError) -> Fault {
    let RunError::ConfigDiffers { dir, mut changes } = error else { return error.into() };
    changes.retain(|change| change.key != DATA_FINGERPRINT);
    if let [change] = &changes[..]
        && let Some(name) = key_of_commit(&change.key)
    {
        let began = dir.display();
        let message = format!("`{name}` is another commit of the model than when {began} began");
        return Fault::new(FaultClass::Run, message).hint(
            "put the commit behind the name (name@commit; that of the run stands in config.resolved.json), \
             choose another `--dir`, or start over with `--fresh`",
        );
    }
    if !changes.is_empty() {
        return RunError::ConfigDiffers { dir, changes }.into();
    }
    let message = format!("the data files hold something else than when {} began", dir.display());
    Fault::new(FaultClass::Run, message)
        .hint("put the files back, choose another `--dir`, or start over with `--fresh`")
}

/// A flag that Ctrl-C and SIGTERM set; a second one ends the process at once.
pub(crate) fn catch_interrupts() -> Result<Arc<AtomicBool>, Fault> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    #[expect(clippy::disallowed_methods, clippy::exit, reason = "asked twice: nothing to tidy up")]
    let handler = move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(exit::INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(handler).map_err(|error| {
        Fault::new(FaultClass::Bug, "cannot listen for interrupts").because(error)
    })?;
    Ok(flag)
}
