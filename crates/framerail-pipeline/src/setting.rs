//! Numeric settings of a stage that can be changed during the run, such as a threshold.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

use crate::{ErrorKind, StageError};

/// Specification of a setting: name, range, unit and a line of help.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingSpec {
    name: String,
    min: f64,
    max: f64,
    is_whole: bool,
    unit: String,
    help: String,
}

impl SettingSpec {
    /// A number within a range, ends included. By convention, it has the same name as the option that sets its initial value.
    pub fn new(name: impl Into<String>, range: RangeInclusive<f64>) -> Self {
        let (min, max) = (*range.start(), *range.end());
        Self { name: name.into(), min, max, is_whole: false, unit: String::new(), help: String::new() }
    }

    /// Accepts only integers.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.is_whole = true;
        self
    }

    /// Unit of the value, such as `pixels`.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Description, one line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why a value is invalid, without the setting's name.
    fn complaint(&self, value: f64) -> Option<String> {
        if !value.is_finite() {
            return Some("expects a number".into());
        }
        if !(self.min..=self.max).contains(&value) {
            return Some(format!("must be from {} to {}, not {value}", self.min, self.max));
        }
        (self.is_whole && value.fract() != 0.0).then(|| format!("expects an integer, not {value}"))
    }
}

/// A setting as seen from outside of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SettingInfo {
    /// The stage that it belongs to.
    pub stage: String,
    /// Its name, unique within the stage.
    pub name: String,
    /// Current value.
    pub value: f64,
    /// Value at the start of the run.
    pub initial: f64,
    /// Minimum value.
    pub min: f64,
    /// Maximum value.
    pub max: f64,
    /// Whether only integers are accepted.
    pub is_whole: bool,
    /// Unit of the value; empty when there is none.
    pub unit: String,
    /// Description, one line.
    pub help: String,
}

/// State shared by all workers of a stage and by those who change the setting.
#[derive(Debug)]
pub(crate) struct SharedSetting {
    spec: SettingSpec,
    initial: f64,
    /// The value, as bits.
    value: AtomicU64,
}

impl SharedSetting {
    pub(crate) fn new(spec: SettingSpec, value: f64) -> Self {
        let initial = if value.is_nan() { spec.min } else { value.max(spec.min).min(spec.max) };
        Self { spec, initial, value: AtomicU64::new(initial.to_bits()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn value(&self) -> f64 {
        f64::from_bits(self.value.load(Ordering::Relaxed))
    }

    /// Changes the value for every worker.
    ///
    /// # Errors
    /// `Usage` for an invalid value; the setting is then not changed.
    pub(crate) fn set(&self, stage: &str, value: f64) -> Result<(), StageError> {
        if let Some(complaint) = self.spec.complaint(value) {
            return Err(StageError::new(ErrorKind::Usage, format!("{} of {stage} {complaint}", self.spec.name)));
        }
        self.value.store(value.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn info(&self, stage: &str) -> SettingInfo {
        let SettingSpec { name, min, max, is_whole, unit, help } = self.spec.clone();
        SettingInfo { stage: stage.to_owned(), name, value: self.value(), initial: self.initial, min, max, is_whole, unit, help }
    }
}

/// A worker's handle to a setting. Reading it costs one atomic load.
#[derive(Clone, Debug)]
pub struct Setting {
    shared: Arc<SharedSetting>,
    /// Bits of the value last seen.
    seen: u64,
}

impl Setting {
    pub(crate) fn new(shared: Arc<SharedSetting>) -> Self {
        let seen = shared.initial.to_bits();
        Self { shared, seen }
    }

    /// The current value; always within its range.
    pub fn value(&self) -> f64 {
        self.shared.value()
    }

    /// The value, if it changed since the previous call; the first call compares with the value at the start of the run. For
    /// stages that build something from it.
    pub fn take_change(&mut self) -> Option<f64> {
        let bits = self.shared.value.load(Ordering::Relaxed);
        (std::mem::replace(&mut self.seen, bits) != bits).then(|| f64::from_bits(bits))
    }
}

/// A stage whose model can be replaced during the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The stage.
    pub stage: String,
    /// Its model, as it was named.
    pub model: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(spec: SettingSpec, value: f64) -> Arc<SharedSetting> {
        Arc::new(SharedSetting::new(spec, value))
    }

    #[test]
    fn a_change_is_seen_once_by_every_worker() {
        let shared = shared(SettingSpec::new("confidence", 0.0..=1.0), 0.5);
        let mut workers = [Setting::new(Arc::clone(&shared)), Setting::new(Arc::clone(&shared))];
        assert_eq!(workers[0].take_change(), None);
        shared.set("infer", 0.25).expect("in range");
        for worker in &mut workers {
            assert_eq!((worker.value(), worker.take_change(), worker.take_change()), (0.25, Some(0.25), None));
        }
    }

    #[test]
    fn a_worker_that_starts_late_sees_what_was_changed_before() {
        let shared = shared(SettingSpec::new("confidence", 0.0..=1.0), 0.5);
        shared.set("infer", 0.75).expect("in range");
        assert_eq!(Setting::new(shared).take_change(), Some(0.75));
    }

    #[test]
    fn values_that_are_not_taken_change_nothing() {
        let whole = shared(SettingSpec::new("frames", 1.0..=8.0).whole(), 100.0);
        assert_eq!(whole.value(), 8.0, "what it begins with is kept in range");
        for (value, words) in [
            (9.0, "frames of hold must be from 1 to 8, not 9"),
            (2.5, "frames of hold expects an integer, not 2.5"),
            (f64::NAN, "frames of hold expects a number"),
            (f64::INFINITY, "frames of hold expects a number"),
        ] {
            assert_eq!(whole.set("hold", value).expect_err("refused").message, words);
        }
        assert_eq!(whole.value(), 8.0);
    }
}
