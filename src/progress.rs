//! Shows what goes on: bars on a terminal, plain lines elsewhere, all on stderr.
//!
//! The libraries report events; whoever handles an event calls one of the few verbs here. On a
//! terminal a running thing is one moving line that its final line replaces; elsewhere only the
//! final line is written, so that a log of a build machine holds one line per fact.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;
use crate::output::{Output, first_line, printable};

/// What is going on, and where when there are several places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    name: String,
    host: Option<String>,
}

impl Task {
    /// Something that happens in one place.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: None,
        }
    }

    /// Something that happens on a host.
    pub(crate) fn on(name: impl Into<String>, host: Option<String>) -> Self {
        Self {
            name: name.into(),
            host,
        }
    }

    /// The text with the host before it.
    fn told(&self, text: &str) -> String {
        let text = printable(text);
        match &self.host {
            Some(host) => format!("{host}: {text}"),
            None => text,
        }
    }
}

/// The progress of one command. May be used from several threads.
pub(crate) struct Progress {
    output: Output,
    bars: Option<MultiProgress>,
    running: Mutex<Vec<(Task, ProgressBar)>>,
}

impl Progress {
    /// Bars when the context allows them.
    pub(crate) fn new(context: &Context) -> Self {
        let draw = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self {
            output: context.output,
            bars: context.bars.then(draw),
            running: Mutex::new(Vec::new()),
        }
    }

    /// Something begins; `total_bytes` is what there is to do, when that is known.
    pub(crate) fn begin(&self, task: &Task, total_bytes: Option<u64>) {
        let Some(bars) = &self.bars else { return };
        // Of nothing there is no bar to fill.
        let bar = match total_bytes.filter(|total| *total > 0) {
            Some(total) => ProgressBar::new(total).with_style(style(
                "  {spinner}   {prefix:14} [{bar:24}] {bytes} of {total_bytes} {bytes_per_sec} {msg}",
            )),
            None => {
                ProgressBar::new_spinner().with_style(style("  {spinner}   {prefix:14} {wide_msg}"))
            }
        };
        let bar = bars.add(bar.with_prefix(task.name.clone()));
        bar.set_message(task.told(""));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running().push((task.clone(), bar));
    }

    /// So many bytes of it are done.
    pub(crate) fn advance_to(&self, task: &Task, bytes: u64) {
        self.bar(task, |bar| bar.set_position(bytes));
    }

    /// So many more bytes of it are done.
    pub(crate) fn advance_by(&self, task: &Task, bytes: u64) {
        self.bar(task, |bar| bar.inc(bytes));
    }

    /// A line it printed: with `-v` a line of ours, else the end of its moving line.
    pub(crate) fn printed(&self, task: &Task, line: &str) {
        let line = task.told(line);
        if self.output.verbose {
            self.line(&format!("      | {line}"));
        } else {
            self.bar(task, |bar| bar.set_message(line));
        }
    }

    /// It has ended and left nothing to say.
    pub(crate) fn end(&self, task: &Task) {
        let mut running = self.running();
        if let Some(index) = running.iter().position(|(other, _)| other == task) {
            running.remove(index).1.finish_and_clear();
        }
    }

    /// It went well: `  ok  transfer       44 kB sent  0.3 s`.
    pub(crate) fn ok(&self, task: &Task, text: &str, took: Option<Duration>) {
        self.end(task);
        self.line(&self.marked("ok", "32", task, text, took));
    }

    /// It failed; the error that says all of it follows at the end.
    pub(crate) fn failed(&self, task: &Task, text: &str, took: Option<Duration>) {
        self.end(task);
        self.line(&self.marked("no", "1;31", task, first_line(text), took));
    }

    /// Something the user should know, though it stops nothing. Shown with `-q` too.
    pub(crate) fn warning(&self, task: &Task, text: &str) {
        let line = self.marked(" !", "33", task, text, None);
        self.suspended(|| self.output.always(&line));
    }

    /// A plain line.
    pub(crate) fn line(&self, text: &str) {
        self.suspended(|| self.output.note(text));
    }

    /// Removes every moving line.
    pub(crate) fn finish(&self) {
        for (_, bar) in self.running().drain(..) {
            bar.finish_and_clear();
        }
    }

    fn marked(
        &self,
        mark: &str,
        color: &str,
        task: &Task,
        text: &str,
        took: Option<Duration>,
    ) -> String {
        let mark = match self.output.color {
            true => format!("\u{1b}[{color}m{mark}\u{1b}[0m"),
            false => mark.to_owned(),
        };
        let facts = [Some(task.told(text)), took.map(seconds)];
        let facts: Vec<String> = facts
            .into_iter()
            .flatten()
            .filter(|fact| !fact.is_empty())
            .collect();
        let line = format!("  {mark}  {:14} {}", task.name, facts.join("  "));
        line.trim_end().to_owned()
    }

    /// Writes while no bar is drawn.
    fn suspended(&self, write: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn bar(&self, task: &Task, change: impl FnOnce(&ProgressBar)) {
        if let Some((_, bar)) = self.running().iter().find(|(other, _)| other == task) {
            change(bar);
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<(Task, ProgressBar)>> {
        // The list is whole at any moment, even when a thread panicked while it held it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).expect("the templates in this file are valid");
    style.progress_chars("=> ")
}

/// A time for people: `12 ms`, `0.3 s`, `21.4 s`, `3 min 5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if time < Duration::from_millis(100) {
        format!("{} ms", time.as_millis())
    } else if whole < 100 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(seconds(Duration::from_millis(12)), "12 ms");
        assert_eq!(seconds(Duration::from_millis(312)), "0.3 s");
        assert_eq!(seconds(Duration::from_millis(21_400)), "21.4 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 5 s");
    }

    #[test]
    fn what_a_command_prints_cannot_move_the_cursor() {
        let task = Task::on("reload", Some("web1".to_owned()));
        assert_eq!(task.told("a\u{1b}[2Kb"), "web1: a\\u{1b}[2Kb");
    }
}
