//! The plan of a run beside the run itself, with scripted stand-ins, and beside sums made by hand.

use super::{Memory, base, run, settings, with_reward_training};
use bstar_core::event::Event;
use bstar_core::improve::ImproveSettings;
use bstar_core::method::Method;
use bstar_core::plan::{Known, Lengths, Purpose, Span, TaskSize, TextLengths, Tokens, Work};
use bstar_core::ports::Ledger as _;
use bstar_core::reward_training::{RewardStart, RewardTrainingSettings};
use bstar_core::search::Search;
use bstar_core::step_labels::StepLabels;
use bstar_core::{Rollout, Stage};
use std::collections::BTreeMap;

/// The task and the given reward model of [`run`]; its responses have two steps.
fn known(settings: &ImproveSettings) -> Known {
    Known {
        size: TaskSize { supervised: 30, train: 100, validation: 10, test: 10 },
        given_reward_model: settings.reward_training.is_none(),
        steps_per_response: 2.0,
        supervised_steps: None,
    }
}

fn sum(work: &[Work], purpose: Purpose, of: impl Fn(&Work) -> Span) -> Span {
    work.iter().filter(|work| work.purpose == purpose).map(of).sum()
}

fn finished(settings: &ImproveSettings) -> (Vec<Event>, BTreeMap<Stage, Vec<Rollout>>) {
    let mut ledger = Memory::new(base());
    run(settings, &mut ledger).expect("a run");
    let events = ledger.events().expect("memory");
    let mut rollouts: BTreeMap<Stage, Vec<Rollout>> = BTreeMap::new();
    for event in &events {
        if let Event::Graded { iteration, stage, .. } = event {
            let rows = ledger.read_rollouts(*iteration, *stage).expect("published");
            rollouts.entry(*stage).or_default().extend(rows);
        }
    }
    (events, rollouts)
}

fn assert_within(span: Span, actual: usize, what: &str) {
    let actual = actual as f64;
    assert!(span.least <= actual && actual <= span.most, "{what}: {actual} not in {span:?}");
}

fn reward_training(refresh_every: u32) -> RewardTrainingSettings {
    let settings = with_reward_training(RewardStart::Policy).reward_training;
    RewardTrainingSettings { refresh_every, ..settings.expect("one that trains") }
}

/// Compares every count of a plan with those of the run.
fn check(settings: &ImproveSettings, name: &str) {
    let work = settings.planned_work(&known(settings));
    let (events, rollouts) = finished(settings);
    for (purpose, stage) in [
        (Purpose::Probe, Stage::Probe),
        (Purpose::Draw, Stage::Train),
        (Purpose::Evaluation, Stage::Eval),
    ] {
        let rows = rollouts.get(&stage).map_or(0, Vec::len);
        let stored = sum(&work, purpose, |work| work.stored);
        assert_within(stored, rows, &format!("{name} {stage:?}"));
        if settings.search == Search::Exhaustive {
            assert!(stored.is_exact());
            assert_eq!(stored, sum(&work, purpose, |work| work.responses), "{name}");
        }
        let rated = rollouts.get(&stage).into_iter().flatten();
        let rated = rated.filter(|row| row.reward_model_score.is_some()).count();
        let weighed = rollouts.get(&stage).into_iter().flatten();
        let weighed = weighed.filter(|row| row.candidate_logprobs.is_some()).count();
        let planned = sum(&work, purpose, |work| work.weighed);
        assert_within(planned, weighed, &format!("{name} {stage:?}, weighed"));
        let planned = sum(&work, purpose, |work| work.scored);
        if settings.search == Search::Exhaustive {
            assert_eq!(planned, Span::exact(rated), "{name} {stage:?}");
        }
    }
    let steps = |is_start: bool| {
        let is_step = |event: &&Event| matches!(event, Event::Step { iteration, .. } if (*iteration == 0) == is_start);
        events.iter().filter(is_step).count()
    };
    assert_within(sum(&work, Purpose::Supervised, |work| work.steps), steps(true), name);
    let planned = sum(&work, Purpose::Train, |work| work.steps);
    if settings.controller.knobs.steps.is_empty() {
        assert_eq!(planned, Span::exact(steps(false)), "{name}");
    } else {
        assert_within(planned, steps(false), name);
    }
    let validated: usize = events
        .iter()
        .map(|event| match event {
            Event::Validated { queries, .. } => usize::try_from(*queries).expect("a count"),
            _ => 0,
        })
        .sum();
    assert_within(sum(&work, Purpose::Validation, |work| work.responses), validated, name);
    let between = events.iter().map(|event| match event {
        Event::StepsChosen { queries, stretches, .. } => {
            usize::try_from(*queries).expect("a count") * (1 + stretches.len())
        }
        _ => 0,
    });
    let planned = sum(&work, Purpose::Stretches, |work| work.responses);
    assert_within(planned, between.sum(), &format!("{name}, between stretches"));
    let (mut drawn, mut completed, mut learned) = (0, 0, 0);
    for event in &events {
        match event {
            Event::RewardModelTrained { labels, .. } => {
                drawn += usize::try_from(labels.drawn).expect("a count");
                completed += usize::try_from(labels.completions).expect("a count");
            }
            Event::RewardModelStep { .. } => learned += 1,
            _ => {}
        }
    }
    assert_eq!(sum(&work, Purpose::Labels, |work| work.responses), Span::exact(drawn), "{name}");
    assert_within(sum(&work, Purpose::Completions, |work| work.responses), completed, name);
    let planned = sum(&work, Purpose::RewardModel, |work| work.steps);
    assert_eq!(planned, Span::exact(learned), "{name}");
}

#[test]
fn every_method_does_what_its_plan_says() {
    for method in Method::ALL {
        check(&settings(method), method.name());
        let all = ImproveSettings { queries_per_iteration: 0, ..settings(method) };
        check(&all, method.name());
    }
}

#[test]
fn a_race_stays_within_its_plan() {
    for method in [Method::BStar, Method::BStarThreshold, Method::OnlineRft] {
        let racing =
            ImproveSettings { search: Search::Racing, search_budget: 0.3, ..settings(method) };
        check(&racing, method.name());
        let work = racing.planned_work(&known(&racing));
        let probe = sum(&work, Purpose::Probe, |work| work.responses);
        // 18 of 60 groups for the two losers, three times, eight responses each.
        let most = if method == Method::BStar { 3.0 * 18.0 * 8.0 } else { 0.0 };
        assert_eq!(probe.most, most, "{}", method.name());
    }
}

#[test]
fn what_is_weighed_is_planned() {
    let with = |search: Search, candidate_logprobs: bool| {
        let search_budget = 0.3;
        ImproveSettings { search, search_budget, candidate_logprobs, ..settings(Method::BStar) }
    };
    let weighed = |settings: &ImproveSettings| {
        check(settings, &format!("{:?}, weighed", settings.search));
        let work = settings.planned_work(&known(settings));
        sum(&work, Purpose::Probe, |work| work.weighed)
    };
    // Two anchors on 9 of 60 queries, eight responses each, three times.
    assert_eq!(weighed(&with(Search::Reweighting, false)), Span::exact(2 * 9 * 8 * 3));
    let exhaustive = with(Search::Exhaustive, true);
    let work = exhaustive.planned_work(&known(&exhaustive));
    assert_eq!(weighed(&exhaustive), sum(&work, Purpose::Probe, |work| work.stored));
    assert!(weighed(&with(Search::Racing, true)).least > 0.0);
    assert_eq!(weighed(&with(Search::Racing, false)), Span::default());
    // A pass over prompt and response.
    let texts =
        TextLengths { train: Lengths { prompt: 10.0, response: 30.0 }, ..TextLengths::default() };
    let work = with(Search::Reweighting, false);
    let work = work.planned_work(&known(&work));
    let tokens: Tokens = work.iter().map(|work| work.tokens(&texts)).sum();
    assert_eq!(tokens.weighed, Span::exact(2 * 9 * 8 * 3 * 40));
}

#[test]
fn reward_models_are_trained_as_planned() {
    for refresh_every in [0, 1, 2] {
        for labels in [StepLabels::Hard, StepLabels::Outcome] {
            let mut settings = settings(Method::BStar);
            let mut training = reward_training(refresh_every);
            training.labels.labels = labels;
            settings.reward_training = Some(training);
            check(&settings, &format!("{labels:?} refreshed every {refresh_every}"));
        }
    }
    let mut sft = settings(Method::Sft);
    sft.reward_training = None;
    check(&sft, "sft");
}

#[test]
fn the_validation_of_stretches_is_planned() {
    // The margins: never go on, go on while something is gained, always go on.
    for margin in [1e9, 0.0, -1e9] {
        let mut settings = settings(Method::OnlineRft);
        settings.controller.knobs.steps = vec![2, 4, 6];
        settings.controller.knobs.steps_queries = 7;
        settings.controller.knobs.steps_margin = margin;
        check(&settings, &format!("stretches with margin {margin}"));
        let work = settings.planned_work(&known(&settings));
        let answered = sum(&work, Purpose::Stretches, |work| work.responses);
        // Three iterations; before the first stretch, after it, and after the second.
        assert_eq!(answered, Span { least: 42.0, expected: 63.0, most: 63.0 });
    }
}

#[test]
fn a_limit_on_passes_leaves_the_steps_open() {
    let limited = ImproveSettings { most_passes: 1, ..settings(Method::OnlineRft) };
    let work = limited.planned_work(&known(&limited));
    let steps = sum(&work, Purpose::Train, |work| work.steps);
    // One pass over up to 180 of 480 responses in batches of 8 is more than the six steps.
    assert_eq!(steps, Span { least: 0.0, expected: 18.0, most: 18.0 });
    let (events, _) = finished(&limited);
    let done = events.iter().filter(|e| matches!(e, Event::Step { iteration: 1.., .. })).count();
    assert_within(steps, done, "passes");
}

/// The quickstart: all numbers by hand.
fn quickstart() -> (ImproveSettings, Known) {
    let mut settings = settings(Method::BStar);
    settings.iterations = 5;
    settings.supervised.steps = 1500;
    settings.supervised.batch_size = 64;
    settings.supervised.validate_every = 25;
    settings.supervised.validation_queries = 400;
    settings.queries_per_iteration = 1200;
    settings.samples_per_query = 24;
    settings.probe_queries = 100;
    settings.controller.temperatures = vec![0.6, 0.8, 1.0, 1.2];
    settings.steps_per_iteration = 120;
    settings.batch_size = 64;
    settings.evaluation.sampled_queries = 120;
    settings.evaluation.samples = 32;
    let size = TaskSize { supervised: 20_000, train: 4000, validation: 400, test: 420 };
    let known =
        Known { size, given_reward_model: false, steps_per_response: 4.0, supervised_steps: None };
    (settings, known)
}

#[test]
fn the_quickstart_has_these_counts_and_tokens() {
    let (settings, known) = quickstart();
    let work = settings.planned_work(&known);
    let responses = |purpose| sum(&work, purpose, |work| work.responses);
    assert_eq!(responses(Purpose::Probe), Span::exact(5 * 4 * 100 * 24));
    assert_eq!(responses(Purpose::Draw), Span::exact(5 * 1200 * 24));
    assert_eq!(responses(Purpose::Evaluation), Span::exact(6 * (420 + 120 * 32)));
    let steps = |purpose| sum(&work, purpose, |work| work.steps);
    assert_eq!(steps(Purpose::Train), Span::exact(600));
    assert_eq!(steps(Purpose::Supervised), Span { least: 25.0, expected: 750.0, most: 1500.0 });
    let validated = Span { least: 400.0, expected: 30.0 * 400.0, most: 60.0 * 400.0 };
    assert_eq!(responses(Purpose::Validation), validated);

    let lengths = |prompt, response| Lengths { prompt, response };
    let texts = TextLengths {
        supervised: lengths(10.0, 30.0),
        validation: lengths(12.0, 50.0),
        train: lengths(12.0, 50.0),
        test: lengths(12.0, 50.0),
        completion: Lengths::default(),
    };
    let tokens: Tokens = work.iter().map(|work| work.tokens(&texts)).sum();
    let generated = 48_000 + 144_000 + 25_560 + 12_000;
    assert_eq!(tokens.generated.expected, 50.0 * f64::from(generated));
    // One prompt for all responses to a query: probes, draws, evaluations, validations.
    let prompts = 5 * 400 + 5 * 1200 + 6 * (420 + 120) + 12_000;
    assert_eq!(tokens.prompt.expected, 12.0 * f64::from(prompts));
    let trained = 750.0 * 64.0 * 40.0 + 600.0 * 64.0 * 62.0;
    assert_eq!(tokens.trained.expected, trained);
    assert_eq!(tokens.learned.most, 1500.0 * 64.0 * 30.0 + 600.0 * 64.0 * 50.0);
    assert_eq!(tokens.scored, Span::default());
}

#[test]
fn a_known_number_of_steps_closes_the_bounds_at_the_next_validation() {
    let (settings, known) = quickstart();
    let known = Known { supervised_steps: Some(Span::exact(710)), ..known };
    let work = settings.planned_work(&known);
    assert_eq!(sum(&work, Purpose::Supervised, |work| work.steps), Span::exact(725));
    // What others took is expected, and binds nothing.
    let others = Span { least: 0.0, expected: 710.0, most: f64::INFINITY };
    let others = Known { supervised_steps: Some(others), ..known };
    let work = settings.planned_work(&others);
    let steps = sum(&work, Purpose::Supervised, |work| work.steps);
    assert_eq!(steps, Span { least: 25.0, expected: 725.0, most: 1500.0 });
    let nothing = Known { size: TaskSize { supervised: 0, ..known.size }, ..known };
    let work = settings.planned_work(&nothing);
    assert_eq!(sum(&work, Purpose::Supervised, |work| work.steps), Span::default());
}

#[test]
fn labels_of_a_reward_model_are_counted_by_hand() {
    let (mut settings, known) = quickstart();
    let mut training = reward_training(2);
    training.queries = 800;
    training.labels.responses = 8;
    training.labels.completions = 8;
    training.held_out = 0.1;
    training.steps = 600;
    settings.reward_training = Some(training);
    let work = settings.planned_work(&known);
    // Before the first iteration, before the third and before the fifth.
    let drawn = sum(&work, Purpose::Labels, |work| work.responses);
    assert_eq!(drawn, Span::exact(3 * 800 * 8));
    let completed = sum(&work, Purpose::Completions, |work| work.responses);
    // Three of four steps are not the answer.
    assert_eq!(completed.most, f64::from(3 * 800 * 8 * 3 * 8));
    assert!(completed.expected < completed.most && completed.least == 0.0);
    assert_eq!(sum(&work, Purpose::RewardModel, |work| work.steps), Span::exact(1800));
    assert_eq!(sum(&work, Purpose::RewardModel, |work| work.scored), Span::exact(3 * 80 * 8));
    let rated = sum(&work, Purpose::Draw, |work| work.scored);
    assert_eq!(rated, Span::exact(5 * 1200 * 24), "the draw is scored");
    // Four steps of each response have a label at their end; with `every_token` all tokens do.
    let texts =
        TextLengths { train: Lengths { prompt: 10.0, response: 30.0 }, ..TextLengths::default() };
    let learned = |settings: &ImproveSettings| -> f64 {
        let work = settings.planned_work(&known).into_iter();
        let of_model = work.filter(|work| work.purpose == Purpose::RewardModel);
        of_model.map(|work| work.tokens(&texts).learned.expected).sum()
    };
    let batch = settings.reward_training.as_ref().expect("it trains").batch_size as f64;
    let mut every = settings.clone();
    for (every_token, each) in [(false, 4.0), (true, 30.0)] {
        every.reward_training.as_mut().expect("it trains").every_token = every_token;
        assert_eq!(learned(&every), 1800.0 * batch * each);
    }
}
