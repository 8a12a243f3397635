//! Triggers of clips.

use std::fmt;

use framerail_core::Detection;
use framerail_pipeline::{DetectionFormat, EdgeFormat, ErrorKind, FrameItem, LinkMismatch, PlanError, StageError};
use framerail_vision::{FrameZones, ZoneEvent};

use super::link::detections_of;

/// Words of `on=`, for messages.
const KNOWN: &str = "detection, detection:CLASS, zone, zone:NAME, line, line:NAME, call";

/// One trigger.
#[derive(Clone, Debug, PartialEq)]
enum Trigger {
    Detection(Option<String>),
    Zone(Option<String>),
    Line(Option<String>),
    /// The setting `trigger`.
    Call,
}

/// The triggers of clips.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Triggers {
    list: Vec<Trigger>,
    confidence: f32,
}

impl Triggers {
    /// # Errors
    /// What is wrong with a word.
    pub(super) fn parse(text: &str, confidence: f32) -> Result<Self, String> {
        let parse = |word: &str| {
            let (kind, name) = word.split_once(':').map_or((word, None), |(kind, name)| (kind, Some(name.trim().to_owned())));
            match (kind.trim(), name) {
                ("detection" | "detections", name) => Ok(Trigger::Detection(name)),
                ("zone" | "zones", name) => Ok(Trigger::Zone(name)),
                ("line" | "lines", name) => Ok(Trigger::Line(name)),
                ("call", None) => Ok(Trigger::Call),
                _ => Err(format!("`{}` does not begin clips; use {KNOWN}", word.trim())),
            }
        };
        let list = text.split(',').map(parse).collect::<Result<_, _>>()?;
        Ok(Self { list, confidence })
    }

    /// Checks that frames will have the required detections or zones.
    ///
    /// # Errors
    /// `Link` without a model, or zones, before the stage; `Usage` for a class that the model does not have.
    pub(super) fn check(&self, input: &EdgeFormat) -> Result<(), PlanError> {
        if self.needs_detections() {
            let format = detections_of(input)?;
            if let Some(class) = self.stray_class(format) {
                let known = format.labels.join(", ");
                return Err(usage(format!("on=detection:{class}: the model has no class `{class}`; it has {known}")).into());
            }
        }
        if self.needs_zones() && input.detections.is_none() {
            let hint = "put `infer MODEL`, `track` and `zones FILE` before it".into();
            return Err(PlanError::Link(LinkMismatch { needs: "zones, for on=".into(), hint }));
        }
        Ok(())
    }

    fn needs_detections(&self) -> bool {
        self.list.iter().any(|trigger| matches!(trigger, Trigger::Detection(_)))
    }

    fn needs_zones(&self) -> bool {
        self.list.iter().any(|trigger| matches!(trigger, Trigger::Zone(_) | Trigger::Line(_)))
    }

    /// Whether the setting `trigger` begins clips.
    pub(super) fn has_call(&self) -> bool {
        self.list.contains(&Trigger::Call)
    }

    /// A class that the model does not have.
    fn stray_class(&self, format: &DetectionFormat) -> Option<&str> {
        let classes = self.list.iter().filter_map(|trigger| if let Trigger::Detection(Some(class)) = trigger { Some(class) } else { None });
        classes.map(String::as_str).find(|class| !format.labels.is_empty() && !format.labels.iter().any(|known| known == class))
    }

    /// The event of a frame in a few words; `None` if nothing triggers a clip.
    ///
    /// # Errors
    /// `Usage` if zones or lines are named and no stage `zones` has run.
    pub(super) fn fired(&self, item: &FrameItem, is_called: bool) -> Result<Option<String>, StageError> {
        if self.needs_zones() && item.attachments.get::<FrameZones>().is_none() {
            return Err(usage("on= names zones or lines, but there is no `zones` before this stage"));
        }
        Ok(self.first_of(item, is_called))
    }

    fn first_of(&self, item: &FrameItem, is_called: bool) -> Option<String> {
        self.list.iter().find_map(|trigger| match trigger {
            Trigger::Call => is_called.then(|| "a call".to_owned()),
            Trigger::Detection(class) => {
                let is_wanted =
                    |found: &&Detection| class.as_ref().is_none_or(|class| **class == *found.label.name) && found.score >= self.confidence;
                item.detections.iter().find(is_wanted).map(|found| found.label.name.to_string())
            }
            Trigger::Zone(wanted) => events(item).find_map(|event| match event {
                ZoneEvent::Entered { zone, .. } if wanted.as_ref().is_none_or(|name| **name == **zone) => Some(format!("zone {zone}")),
                _ => None,
            }),
            Trigger::Line(wanted) => events(item).find_map(|event| match event {
                ZoneEvent::Crossed { line, .. } if wanted.as_ref().is_none_or(|name| **name == **line) => Some(format!("line {line}")),
                _ => None,
            }),
        })
    }
}

fn usage(problem: impl fmt::Display) -> StageError {
    StageError::new(ErrorKind::Usage, problem)
}

fn events(item: &FrameItem) -> impl Iterator<Item = &ZoneEvent> {
    item.attachments.get::<FrameZones>().into_iter().flat_map(|zones| &zones.events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_words_with_names() {
        let triggers = Triggers::parse("detection:person, line,call", 0.5).expect("known");
        let expected = [Trigger::Detection(Some("person".into())), Trigger::Line(None), Trigger::Call];
        assert_eq!(triggers.list, expected);
        assert!(triggers.needs_detections() && triggers.needs_zones());
        for wrong in ["", "motion", "call:x", "detection,,zone"] {
            assert!(Triggers::parse(wrong, 0.0).expect_err(wrong).contains("does not begin clips; use detection"), "{wrong}");
        }
    }
}
