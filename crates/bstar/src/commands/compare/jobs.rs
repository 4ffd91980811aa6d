//! The pieces of work of a plan, and what each of them needs: starts come before their runs.
//!
//! [`super::schedule`] carries them out; `bstar plan` asks how long that takes with so many workers.

use super::plan::{Plan, PlannedRun};
use std::collections::BTreeMap;

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// A start, by its index.
    Start(usize),
    /// A run, by its index.
    Run(usize),
}

impl Plan {
    /// What is to be made, seed by seed, starts first; runs that are complete, and starts that only
    /// these need, are left out.
    pub(crate) fn jobs(&self, is_complete: impl Fn(&PlannedRun) -> bool) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            if is_complete(run) {
                continue;
            }
            let needed = self.needs(Job::Run(index));
            for job in needed.iter().flat_map(|job| self.needs(*job)).chain(needed.clone()) {
                if !jobs.contains(&job) {
                    jobs.push(job);
                }
            }
            jobs.push(Job::Run(index));
        }
        jobs
    }

    /// What has to be made before a job.
    pub(crate) fn needs(&self, job: Job) -> Vec<Job> {
        match job {
            Job::Start(index) => {
                self.starts[index].supervised_from.map(Job::Start).into_iter().collect()
            }
            Job::Run(index) => {
                let run = &self.runs[index];
                let labels = run.labels_from.filter(|start| *start != run.start);
                std::iter::once(run.start).chain(labels).map(Job::Start).collect()
            }
        }
    }

    /// How long all jobs take with so many workers, given how long each takes: every worker that is
    /// free takes the first job whose needs are met.
    pub(crate) fn seconds_with(&self, workers: usize, seconds: &dyn Fn(Job) -> f64) -> f64 {
        let mut waiting = self.jobs(|_| false);
        let mut ends: BTreeMap<Job, f64> = BTreeMap::new();
        let mut free = vec![0.0_f64; workers.max(1)];
        while !waiting.is_empty() {
            // When a job can begin, at the earliest; none while something that it needs waits too.
            let met = |job: &Job| {
                let needs = self.needs(*job);
                needs.iter().try_fold(0.0_f64, |at, need| Some(at.max(*ends.get(need)?)))
            };
            let worker = (0..free.len()).reduce(|a, b| if free[b] < free[a] { b } else { a });
            let worker = worker.expect("a worker");
            let ready =
                waiting.iter().enumerate().filter_map(|(place, job)| Some((place, met(job)?)));
            let begins = |at: f64| at.max(free[worker]);
            let next = ready.reduce(|a, b| if begins(b.1) < begins(a.1) { b } else { a });
            let (place, at) = next.expect("needs form no circle");
            let job = waiting.remove(place);
            let end = begins(at) + seconds(job);
            free[worker] = end;
            ends.insert(job, end);
        }
        free.into_iter().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Start;
    use super::*;
    use crate::config::layers;
    use std::path::PathBuf;

    /// Starts by what they take over, and runs by their start and where their labels are counted.
    fn plan(starts: &[Option<usize>], runs: &[(usize, Option<usize>)]) -> Plan {
        let loaded = layers::load(None, &[]).expect("the defaults");
        let start = |supervised_from: &Option<usize>| Start {
            loaded: loaded.clone(),
            identity: serde_json::Value::Null,
            dir: PathBuf::new(),
            supervised_from: *supervised_from,
            seed: 1,
            data: String::new(),
        };
        let run = |(start, labels_from): &(usize, Option<usize>)| PlannedRun {
            entry: 0,
            seed: 1,
            loaded: loaded.clone(),
            dir: PathBuf::new(),
            start: *start,
            labels_from: *labels_from,
            training_queries: 10,
            data: String::new(),
        };
        Plan {
            starts: starts.iter().map(start).collect(),
            runs: runs.iter().map(run).collect(),
            shared_queries: false,
        }
    }

    #[test]
    fn starts_come_before_what_needs_them() {
        use Job::{Run, Start};
        let plan = plan(&[None, Some(0)], &[(0, None), (1, Some(0)), (1, None)]);
        assert_eq!(plan.jobs(|_| false), [Start(0), Run(0), Start(1), Run(1), Run(2)]);
        assert_eq!(plan.needs(Run(1)), [Start(1), Start(0)]);
        let needed_by_one = plan.jobs(|run| run.labels_from.is_some() || run.start == 0);
        assert_eq!(needed_by_one, [Start(0), Start(1), Run(2)]);
    }

    #[test]
    fn a_start_is_waited_for_and_workers_without_a_job_do_not_help() {
        let seconds = |job: Job| if matches!(job, Job::Start(_)) { 10.0 } else { 6.0 };
        let of = |plan: &Plan, workers: usize| plan.seconds_with(workers, &seconds);
        let shared = plan(&[None], &[(0, None), (0, None), (0, None)]);
        assert_eq!([1, 2, 3, 9].map(|workers| of(&shared, workers)), [28.0, 22.0, 16.0, 16.0]);
        let seeds = plan(&[None, None], &[(0, None), (1, None)]);
        assert_eq!([1, 2, 9].map(|workers| of(&seeds, workers)), [32.0, 16.0, 16.0]);
        let taken_over = plan(&[None, Some(0)], &[(1, None)]);
        assert_eq!(of(&taken_over, 2), 26.0);
    }
}
