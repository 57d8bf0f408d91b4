//! Progress: bars with rate and ETA on a terminal, plain log lines elsewhere.

use std::{
    io::IsTerminal as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kaleem_dr_core::ground::progress::{ProgressSink, Silent, StageProgress, Unit};

/// Interval between two log lines of one stage.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress sink of this run. `quiet` shows nothing.
pub fn sink(quiet: bool) -> Arc<dyn ProgressSink> {
    if quiet {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5))))
    } else {
        Arc::new(Lines)
    }
}

#[derive(Debug)]
struct Bars(MultiProgress);

#[derive(Debug)]
struct Bar(ProgressBar, Unit);

impl Bar {
    fn style(&self, total: bool) {
        let template = match (self.1, total) {
            (Unit::Bytes, true) => {
                "{msg:28} {bar:24} {bytes:>10} / {total_bytes:10} {binary_bytes_per_sec:>12}  ETA {eta}"
            }
            (Unit::Bytes, false) => {
                "{msg:28} {spinner} {bytes:>10} {binary_bytes_per_sec:>12}  {elapsed}"
            }
            (Unit::Items, true) => {
                "{msg:28} {bar:24} {human_pos:>10} / {human_len:10} {per_sec:>12}  ETA {eta}"
            }
            (Unit::Items, false) => "{msg:28} {spinner} {human_pos:>10}  {elapsed}",
        };
        // The templates are constants; an invalid one would fall back to the default bar.
        self.0.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
    }
}

impl ProgressSink for Bars {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        let bar = Bar(
            self.0.add(ProgressBar::new(total.unwrap_or(0)).with_message(title.to_owned())),
            unit,
        );
        bar.style(total.is_some());
        bar.0.enable_steady_tick(Duration::from_millis(200));
        Arc::new(bar)
    }
}

impl StageProgress for Bar {
    fn advance(&self, by: u64) {
        self.0.inc(by);
    }
    fn set_total(&self, total: u64) {
        self.0.set_length(total);
        self.style(true);
    }
    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[derive(Debug)]
struct Lines;

#[derive(Debug)]
struct Line {
    title: String,
    unit: Unit,
    done: AtomicU64,
    total: AtomicU64,
    began: Instant,
    told: Mutex<Instant>,
}

impl ProgressSink for Lines {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        let now = Instant::now();
        Arc::new(Line {
            title: title.to_owned(),
            unit,
            done: AtomicU64::new(0),
            total: AtomicU64::new(total.unwrap_or(0)),
            began: now,
            told: Mutex::new(now),
        })
    }
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn tell(&self, done: u64) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = done as f64 / seconds;
        let total = self.total.load(Ordering::Relaxed);
        let eta = (total > done && rate > 0.0).then(|| ((total - done) as f64 / rate).round());
        let total = (total > 0).then_some(total);
        if self.unit == Unit::Bytes {
            let rate = format!("{:.1}", rate / 1_048_576.0);
            tracing::info!(stage = %self.title, bytes = done, total, mib_per_s = rate, eta_s = eta, "progress");
        } else {
            let rate = format!("{rate:.0}");
            tracing::info!(stage = %self.title, items = done, total, per_s = rate, eta_s = eta, "progress");
        }
    }
}

impl StageProgress for Line {
    fn advance(&self, by: u64) {
        let done = self.done.fetch_add(by, Ordering::Relaxed) + by;
        if let Ok(mut told) = self.told.try_lock()
            && told.elapsed() >= LINE_EVERY
        {
            *told = Instant::now();
            self.tell(done);
        }
    }
    fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }
    fn finish(&self) {}
}
