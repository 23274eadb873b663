//! What a step says: passed on to the listener, written to a log, the end kept for the error,
//! alarms noticed, secrets replaced.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::BuildError;
use crate::event::{Event, Listener};
use crate::secret::Secrets;
use crate::step::{Alarm, Step};

/// How many lines of output an error shows.
const LINES_KEPT: usize = 200;

pub(crate) struct Transcript<'a> {
    step: &'a Step,
    secrets: &'a Secrets,
    events: Listener<'a>,
    /// The step's folder: where it lies says nothing to anybody.
    folder: String,
    state: Mutex<State>,
    pub(crate) log: PathBuf,
}

struct State {
    last: VecDeque<String>,
    /// With the line that raised it.
    alarms: Vec<(&'static Alarm, String)>,
    file: File,
}

impl<'a> Transcript<'a> {
    pub(crate) fn new(
        step: &'a Step,
        secrets: &'a Secrets,
        events: Listener<'a>,
        folder: String,
        (log, file): (PathBuf, File),
    ) -> Self {
        Self {
            step,
            secrets,
            events,
            folder,
            state: Mutex::new(State {
                last: VecDeque::new(),
                alarms: Vec::new(),
                file,
            }),
            log,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at any moment, even when a listener panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the log alone.
    pub(crate) fn note(&self, text: &str) {
        // A log that cannot be written (full disk) is no reason to fail before the step does.
        let _ = writeln!(self.lock().file, "{text}");
    }

    pub(crate) fn line(&self, text: String) {
        // Asked before a short password could take a part of the needle away.
        let alarms = self.step.alarms.iter();
        let raised: Vec<&Alarm> = alarms.filter(|alarm| text.contains(alarm.needle)).collect();
        let text = self.secrets.redact(text);
        {
            let mut state = self.lock();
            let _ = writeln!(state.file, "{text}");
            for alarm in raised {
                state.alarms.push((alarm, text.replace(&self.folder, "")));
            }
            if state.last.len() == LINES_KEPT {
                state.last.pop_front();
            }
            state.last.push_back(text.clone());
        }
        (self.events)(Event::StepOutput {
            step: self.step.name.clone(),
            line: text,
        });
    }

    /// The last lines.
    pub(crate) fn output(&self) -> Vec<String> {
        self.lock().last.iter().cloned().collect()
    }

    pub(crate) fn check_alarms(&self) -> Result<(), BuildError> {
        let state = self.lock();
        let Some((alarm, _)) = state.alarms.first() else {
            return Ok(());
        };
        Err(BuildError::StepRefused {
            step: self.step.name.clone(),
            reason: alarm.reason,
            hint: alarm.hint,
            said: state.alarms.iter().map(|(_, line)| line.clone()).collect(),
        })
    }
}
