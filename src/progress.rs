//! Shows what goes on: bars on a terminal, plain lines elsewhere, all on stderr.
//!
//! The libraries report events; whoever handles an event calls one of the few verbs here. On a
//! terminal a running thing is one moving line that its final line replaces; elsewhere only the
//! final line is written, so that a log of a build machine holds one line per fact.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;
use crate::output::{Output, printable};

/// The progress of one command. May be used from several threads.
pub(crate) struct Progress {
    output: Output,
    bars: Option<MultiProgress>,
    running: Mutex<Vec<(String, ProgressBar)>>,
}

impl Progress {
    /// Bars when the context allows them.
    pub(crate) fn new(context: &Context) -> Self {
        let bars = context
            .bars
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self {
            output: context.output,
            bars,
            running: Mutex::new(Vec::new()),
        }
    }

    /// Something begins; `total` is what there is to do (bytes), when that is known.
    pub(crate) fn begin(&self, name: &str, total: Option<u64>) {
        let Some(bars) = &self.bars else { return };
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "  {spinner} {prefix:14} [{bar:24}] {bytes}/{total_bytes} {msg}",
            )),
            None => {
                ProgressBar::new_spinner().with_style(style("  {spinner} {prefix:14} {wide_msg}"))
            }
        };
        let bar = bars.add(bar.with_prefix(name.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.lock().push((name.to_owned(), bar));
    }

    /// So much is done of what began under this name.
    pub(crate) fn advance(&self, name: &str, done: u64) {
        if let Some((_, bar)) = self.lock().iter().find(|(running, _)| running == name) {
            bar.set_position(done);
        }
    }

    /// A line of output of what runs under this name: the moving line's text, or a line with `-v`.
    pub(crate) fn output(&self, name: &str, line: &str) {
        let line = printable(line);
        if self.output.verbose {
            self.line(&format!("     | {line}"));
        } else if let Some((_, bar)) = self.lock().iter().find(|(running, _)| running == name) {
            bar.set_message(line);
        }
    }

    /// What began under this name has ended; its moving line goes.
    pub(crate) fn end(&self, name: &str) {
        let mut running = self.lock();
        if let Some(index) = running.iter().position(|(other, _)| other == name) {
            running.remove(index).1.finish_and_clear();
        }
    }

    /// `  ok  transfer       44 kB sent   0.3 s`: something went well.
    pub(crate) fn ok(&self, name: &str, text: &str, took: Option<Duration>) {
        self.end(name);
        self.line(&self.marked("ok", "32", name, text, took));
    }

    /// Something went wrong; the error that says why follows at the end.
    pub(crate) fn failed(&self, name: &str, text: &str, took: Option<Duration>) {
        self.end(name);
        self.line(&self.marked("no", "1;31", name, text, took));
    }

    /// Something the user should know, though it stops nothing.
    pub(crate) fn warning(&self, name: &str, text: &str) {
        let line = self.marked(" !", "33", name, text, None);
        self.suspended(|| self.output.always(&line));
    }

    /// A plain line.
    pub(crate) fn line(&self, text: &str) {
        self.suspended(|| self.output.note(text));
    }

    /// Writes while no bar is drawn.
    fn suspended(&self, write: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Removes every moving line.
    pub(crate) fn finish(&self) {
        for (_, bar) in self.lock().drain(..) {
            bar.finish_and_clear();
        }
    }

    fn marked(
        &self,
        mark: &str,
        color: &str,
        name: &str,
        text: &str,
        took: Option<Duration>,
    ) -> String {
        let mark = if self.output.color {
            format!("\u{1b}[{color}m{mark}\u{1b}[0m")
        } else {
            mark.to_owned()
        };
        let text = printable(text);
        let took = took
            .map(|took| format!("  {}", seconds(took)))
            .unwrap_or_default();
        format!("  {mark}  {name:14} {text}{took}")
            .trim_end()
            .to_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, ProgressBar)>> {
        // The list is whole at any moment, even when a thread panicked while it held it.
        self.running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
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

/// A time for people: `0.3 s`, `21.4 s`, `3 min 5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 100 {
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
        assert_eq!(seconds(Duration::from_millis(312)), "0.3 s");
        assert_eq!(seconds(Duration::from_millis(21_400)), "21.4 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 5 s");
    }
}
