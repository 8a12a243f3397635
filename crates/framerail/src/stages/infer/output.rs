//! The output of an `infer` stage: its format, and how results are attached to frames.

use std::sync::Arc;

use framerail_core::Label;
use framerail_infer::{ModelCard, Predictor, Task};
use framerail_pipeline::{DetectionFormat, EdgeFormat, LinkMismatch, PartFormat, PlanError};

use super::answers::{Answers, Finds};

fn mismatch(needs: String, hint: &str) -> PlanError {
    PlanError::Link(LinkMismatch { needs, hint: hint.into() })
}

/// The format after a model that runs on every `every`th frame, and how its results are attached to frames.
pub(super) fn output(
    predictor: &Predictor,
    input: &EdgeFormat,
    every: u64,
    finds: Option<Finds>,
) -> Result<(EdgeFormat, Answers), PlanError> {
    let (card, task) = (predictor.card(), predictor.task());
    let mut output = EdgeFormat { parts: None, ..input.clone() };
    let first_label = input.detections.as_ref().map_or(0, |found| found.labels.len());
    let first_label = u32::try_from(first_label).unwrap_or(u32::MAX);
    let thing = |_| Label { id: first_label, name: Arc::from(card.thing_name()) };
    let finds_by_itself = matches!(task, Task::Landmarks | Task::Segmentation);
    // A classifier after a detector does not analyse the frames that the detector skipped.
    let marks_analysed = input.detections.is_none() || task == Task::Detection || finds_by_itself;
    let marks_analysed = marks_analysed && !matches!(input.parts, Some(PartFormat::Detections { .. }));
    let model = Arc::from(card.name.as_str());
    let answers = Answers {
        model,
        first_label,
        thing: finds_by_itself.then_some(()).map(thing),
        marks_analysed,
        finds: finds.unwrap_or(Finds::Parts),
    };
    let labels: Vec<String> = match (&input.parts, task) {
        (Some(_), task) if task.is_dense() => {
            let needs = format!("whole frames for {}, which is a model for {task}", card.name);
            return Err(mismatch(needs, "leave out `crop`, `regions` or `tiles` before it"));
        }
        (Some(PartFormat::Detections { .. }), _) if every > 1 => {
            return Err(mismatch("every frame, to process the parts".into(), "use every=N of `crop` instead, after `track`"));
        }
        (Some(PartFormat::Detections { .. } | PartFormat::Regions { .. }), _) if !predictor.has_fixed_input() => {
            let needs = format!("one input size for parts of all sizes; {} takes the frame's size", card.name);
            return Err(mismatch(needs, "set its input size, such as size=320x320"));
        }
        (Some(PartFormat::Detections { every }), Task::Detection) if finds == Some(Finds::Detections) => {
            if *every > 1 {
                return Err(mismatch("every part in every frame, to find detections of the frame there".into(), "remove every= of `crop`"));
            }
            detection_labels(card)
        }
        (parts, task) if finds.is_some() && (task != Task::Detection || !matches!(parts, Some(PartFormat::Detections { .. }))) => {
            return Err(mismatch(
                format!("a detector and parts around detections for finds=, and {} is a model for {task}", card.name),
                "leave finds= out, or put `crop` before it",
            ));
        }
        (Some(PartFormat::Detections { .. }), task) => {
            if let Some(detections) = &mut output.detections {
                detections.has_embeddings |= task == Task::Embedding;
                detections.skeletons.extend(card.bones());
            }
            return Ok((output, answers));
        }
        (Some(PartFormat::Tiles), task) if task != Task::Detection => {
            let needs = format!("frames, regions or parts around detections for {}, which is a model for {task}", card.name);
            return Err(mismatch(needs, "use `regions` or `crop` in place of `tiles`, or a detector"));
        }
        (_, Task::Detection) => detection_labels(card),
        (_, Task::Landmarks | Task::Segmentation) => vec![card.thing_name()],
        (Some(PartFormat::Regions { names }), _) => names.clone(),
        _ => {
            output.frame_models.push(card.name.clone());
            output.has_maps |= task.is_dense();
            return Ok((output, answers));
        }
    };
    let landmarks = match task {
        Task::Detection => card.landmarks.len(),
        Task::Landmarks => card.output.landmark_count(card),
        _ => 0,
    };
    let looks_at_detections = matches!(input.parts, Some(PartFormat::Detections { .. }));
    let unanalysed = u32::try_from(every.saturating_sub(1)).unwrap_or(u32::MAX);
    output.detections = Some(match output.detections.take() {
        None => {
            let model = card.name.clone();
            let (landmark_names, skeletons) = (card.landmarks.clone(), card.bones().into_iter().collect());
            let max_unanalysed_frames = unanalysed;
            DetectionFormat { model, labels, landmarks, landmark_names, skeletons, max_unanalysed_frames, ..DetectionFormat::default() }
        }
        Some(earlier) if earlier.max_unanalysed_frames != unanalysed && !looks_at_detections => {
            let needed = format!("detections on the same frames as its own; {} has them on others", earlier.model);
            return Err(mismatch(needed, "give both `infer` stages the same every="));
        }
        Some(mut earlier) => {
            earlier.model = format!("{} + {}", earlier.model, card.name);
            earlier.labels.extend(labels);
            if landmarks > earlier.landmarks {
                (earlier.landmarks, earlier.landmark_names) = (landmarks, card.landmarks.clone());
            }
            earlier.skeletons.extend(card.bones());
            earlier
        }
    });
    Ok((output, answers))
}

/// Names of the classes, in the order of their numbers.
fn detection_labels(card: &ModelCard) -> Vec<String> {
    card.label_list().iter().map(|label| label.name.to_string()).collect()
}
