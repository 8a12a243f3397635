//! Options of a stage that can be changed during the run.

use std::ops::RangeInclusive;

use framerail_pipeline::{Setting, SettingSpec, StageContext};

/// A field of a stage's options.
pub(super) enum Number<'a> {
    Real(&'a mut f32),
    Whole(&'a mut u32),
    /// 0 is `None`.
    Automatic(&'a mut Option<u32>),
    /// 1 is yes.
    Switch(&'a mut bool),
}

impl Number<'_> {
    fn value(&self) -> f64 {
        match self {
            Number::Real(value) => written(**value),
            Number::Whole(value) => f64::from(**value),
            Number::Automatic(value) => f64::from(value.unwrap_or(0)),
            Number::Switch(value) => f64::from(u8::from(**value)),
        }
    }

    fn put(self, value: f64) {
        match self {
            Number::Real(place) => *place = value as f32,
            Number::Whole(place) => *place = value as u32,
            Number::Automatic(place) => *place = Some(value as u32).filter(|value| *value > 0),
            Number::Switch(place) => *place = value != 0.0,
        }
    }

    fn is_whole(&self) -> bool {
        !matches!(self, Number::Real(_))
    }
}

/// A number as written: 0.2, not 0.20000000298.
pub(super) fn written(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
}

/// The field of a setting in options that may have it, and its description.
pub(super) struct Place<T> {
    pub(super) name: &'static str,
    pub(super) range: RangeInclusive<f64>,
    pub(super) unit: &'static str,
    pub(super) help: &'static str,
    pub(super) find: fn(&mut T) -> Option<Number<'_>>,
}

/// The settings of a stage.
pub(super) struct OptionSettings<T: 'static>(Vec<(&'static Place<T>, Setting)>);

impl<T> OptionSettings<T> {
    /// Registers the settings that the options have, with their initial values.
    pub(super) fn new(context: &StageContext, places: &'static [Place<T>], options: &mut T) -> Self {
        let setting = |place: &'static Place<T>| {
            let number = (place.find)(options)?;
            let spec = SettingSpec::new(place.name, place.range.clone()).unit(place.unit).help(place.help);
            let spec = if number.is_whole() { spec.whole() } else { spec };
            Some((place, context.setting(spec, number.value())))
        };
        Self(places.iter().filter_map(setting).collect())
    }

    /// Writes changed values into the options; returns whether there are any.
    pub(super) fn take_changes(&mut self, options: &mut T) -> bool {
        let mut is_changed = false;
        for (place, setting) in &mut self.0 {
            if let (Some(value), Some(number)) = (setting.take_change(), (place.find)(options)) {
                number.put(value);
                is_changed = true;
            }
        }
        is_changed
    }
}
